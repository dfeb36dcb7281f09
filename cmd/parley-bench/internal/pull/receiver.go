package pull

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/texto"
)

func (r *receiver) name() string {
	if r.names {
		return fmt.Sprintf("receiver %d", r.index+1)
	}
	return fmt.Sprintf("receiver %d (plain)", r.index+1)
}

// quick is how long before its time a poll may come back empty without a reason: the node
// goes down, and the next poll goes elsewhere.
const quick = 20 * time.Millisecond

// listen polls until ctx ends.
func (r *receiver) listen(ctx context.Context) {
	c := r.crowd
	for ctx.Err() == nil {
		r.turn++
		after := ""
		if r.names {
			after = r.last
		}
		asked, cancel := context.WithTimeout(ctx, c.Wait+c.Slack)
		from := time.Now()
		got, err := c.Client.Poll(asked, c.node(r.turn), r.User, c.Wait, c.Most, after)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.fail("poll", err)
			rest(ctx, err)
			continue
		}
		if len(got) == 0 && time.Since(from) < c.Wait-quick {
			rest(ctx, nil)
		}
		r.handle(ctx, got)
	}
}

// handle takes notifications, and pulls what they name. It returns when that is done:
// whoever polls again has processed what came.
func (r *receiver) handle(ctx context.Context, got []Notification) {
	now := time.Now()
	var named []*stream
	r.mu.Lock()
	r.polls++
	for _, n := range got {
		if n.Kind == KindGap { // its id may be that of another one
			r.gaps = append(r.gaps, now)
			named = slices.Collect(maps.Values(r.streams))
			continue
		}
		if r.seen[n.ID] {
			r.repeated++
			continue
		}
		r.seen[n.ID] = true
		s := r.streams[n.From]
		if n.Kind != KindPrivate || s == nil {
			r.crowd.Ledger.Foreign(r.name(), "the notification %+v", n)
			continue
		}
		s.mu.Lock()
		s.notified = append(s.notified, now)
		s.mu.Unlock()
		if !slices.Contains(named, s) {
			named = append(named, s)
		}
	}
	r.mu.Unlock()
	for _, s := range named {
		r.fetch(ctx, s)
	}
	if len(got) > 0 && ctx.Err() == nil {
		r.last = got[len(got)-1].ID
	}
}

// fetch pulls a conversation until there is nothing more, from one node after the other
// until one answers. What an answer that was lost has had is got by the pull's key, or, by
// those who leave their place to the fleet, from the pages.
func (r *receiver) fetch(ctx context.Context, s *stream) {
	c := r.crowd
	key := ""
	for ctx.Err() == nil {
		var err error
		more := false
		if s.torn {
			err = r.leaf(ctx, s)
			s.torn = err != nil
			more = !s.torn // what came later is to be pulled
		} else {
			if r.names && key == "" {
				r.pulls++
				key = fmt.Sprintf("%08x-%d-%d", c.Nonce, r.index, r.pulls)
			}
			var all []Message
			asked, cancel := context.WithTimeout(ctx, c.Slack)
			all, more, err = c.Client.Pull(asked, c.node(r.turn), r.User, s.sender.ID, key)
			cancel()
			if err == nil {
				key = ""
			}
			s.torn = err != nil && key == ""
			r.take(s, all, s.pulled)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			c.fail("pull", err)
			rest(ctx, err)
			r.turn++
		case !more:
			return
		}
	}
}

// leaf looks at a conversation's pages, the newest first, back to what it knows, and takes
// what it does not.
func (r *receiver) leaf(ctx context.Context, s *stream) error {
	c := r.crowd
	var unknown []Message
	for index, more := 0, true; more; index++ {
		asked, cancel := context.WithTimeout(ctx, c.Slack)
		page, older, err := c.Client.Page(asked, c.node(r.turn), r.User, s.sender.ID, index)
		cancel()
		if err != nil {
			return err
		}
		more = older
		for _, m := range page {
			if s.knows(m.ID) {
				more = false // and so it does all that is older
			} else if !slices.ContainsFunc(unknown, func(u Message) bool { return u.ID == m.ID }) {
				unknown = append(unknown, m)
			}
		}
	}
	slices.Reverse(unknown)
	r.take(s, unknown, s.found)
	return nil
}

func (s *stream) knows(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulled[id] || s.found[id]
}

// take counts messages that came. A message may be pulled once, and found in the pages
// before that.
func (r *receiver) take(s *stream, all []Message, by map[string]bool) {
	now := time.Now()
	for _, m := range all {
		s.mu.Lock()
		again := !by[m.ID] && (s.pulled[m.ID] || s.found[m.ID])
		by[m.ID] = true
		s.mu.Unlock()
		if again {
			s.SentAgain()
			continue
		}
		r.deliver(s, m, now)
	}
}

// late tells whether a message comes behind a later one, after its sender had given it up:
// a node that stood still has taken it then.
func (s *stream) late(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seq < 1 || seq > uint64(len(s.sent)) {
		return false
	}
	s.highest = max(s.highest, seq)
	late := seq < s.highest && s.sent[seq-1].givenUp
	s.sent[seq-1].came = s.sent[seq-1].came || late
	return late
}

// deliver enters a message into the ledger.
func (r *receiver) deliver(s *stream, m Message, now time.Time) {
	c := r.crowd
	text, filler := m.Text, ""
	if len(text) > texto.IDLen {
		text, filler = text[:texto.IDLen], text[texto.IDLen:]
	}
	id, ok := texto.ParseID([]byte(text))
	if !ok || filler != string(c.filler) || id.Nonce != c.Nonce || id.Seq>>streamShift != uint64(s.number) || m.Sender != s.sender.ID {
		c.Ledger.Foreign(r.name(), "message %.40q of user %d: %.60q", m.ID, m.Sender, m.Text)
		return
	}
	seq := id.Seq & (1<<streamShift - 1)
	if s.late(seq) {
		c.Late.Add(1)
		return
	}
	result := s.Deliver(seq)
	if !result.Known {
		c.Ledger.Foreign(r.name(), "message %.40q was never sent: %.60q", m.ID, strings.ToValidUTF8(m.Text, "?"))
		return
	}
	if !result.First {
		return
	}
	c.Delivered.Add(1)
	r.backlog.Add(-1)
	s.mu.Lock()
	s.sent[seq-1].came = true
	from := s.sent[seq-1].from
	s.mu.Unlock()
	c.Pulled.Record(now.Sub(from))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watch != nil {
		c.watch.note(r.index, from, now)
	}
}
