package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// chatter is a chat room and who talks in it.
type chatter struct {
	// Fixed after construction.
	room    string
	targets []wsclient.Target
	cookies []string
	nonce   uint32
	filler  []byte
	account *ledger.Room
	talkers []*talker

	began, ended atomic.Bool // messages are sent from one to the other
	reconnects   hist.Histogram
	back         atomic.Int64 // connections that took up where they had ended
	gaps         atomic.Int64 // times that a client was told of missing messages
	errors       atomic.Int64 // error answers

	running sync.WaitGroup
}

// What a talker does when its connection has ended, or cannot be made.
const (
	talkerPause   = 100 * time.Millisecond
	talkerTimeout = 5 * time.Second // for a connection up to its greeting, a page, a write
	// pageLength is the most that a page of history has.
	pageLength = 100
)

// talkerShift: a message says who sent it in the upper bits of its sequence number.
const talkerShift = 28

// talker is a client that sends, listens, and comes back elsewhere when its connection
// ends. What it missed it gets by naming the last message that it has seen.
type talker struct {
	*chatter
	index  int
	stream *ledger.Stream // its messages: sent, come back, found in the history
	member *ledger.Member // all that it gets

	// Owned by the reader.
	last string // the id of the last message; "": none

	mu   sync.Mutex
	conn *chat.Session // nil: none
	send *chat.Send
}

// newChatter makes so many talkers; open connects them.
func newChatter(room string, targets []wsclient.Target, cookies []string, l *ledger.Ledger, talkers int, size int, nonce uint32) *chatter {
	c := &chatter{room: room, targets: targets, cookies: cookies, nonce: nonce, filler: texto.Filler(max(size-texto.IDLen, 0))}
	var names []string
	for i := range talkers {
		names = append(names, fmt.Sprintf("talker %d", i+1))
	}
	c.account = ledger.NewRoom(names...)
	for i, name := range names {
		c.talkers = append(c.talkers, &talker{chatter: c, index: i, stream: l.Open(name, "the history"), member: c.account.Join(name, i)})
	}
	return c
}

// run starts the talkers, which connect, and send rate messages a second together from
// begin to ended. They go on until ctx ends; wait for running then.
func (c *chatter) run(ctx context.Context, rate float64) {
	for _, t := range c.talkers {
		c.running.Go(func() { t.listen(ctx) })
		c.running.Go(func() { t.talk(ctx, time.Duration(float64(len(c.talkers))/rate*float64(time.Second))) })
	}
}

// connected is how many talkers have a connection.
func (c *chatter) connected() (n int) {
	for _, t := range c.talkers {
		t.mu.Lock()
		if t.conn != nil {
			n++
		}
		t.mu.Unlock()
	}
	return n
}

// listen keeps a connection until ctx ends, and counts what comes.
func (t *talker) listen(ctx context.Context) {
	var gone time.Time
	for turn := t.index; ctx.Err() == nil; turn++ {
		s, err := t.open(ctx, t.targets[turn%len(t.targets)])
		if err != nil {
			sleep(ctx, talkerPause)
			continue
		}
		if !gone.IsZero() {
			t.reconnects.Record(time.Since(gone))
		}
		stop := context.AfterFunc(ctx, s.CloseNow)
		err = t.serve(s)
		gone = time.Now()
		t.mu.Lock()
		t.conn = nil
		t.mu.Unlock()
		stop()
		s.CloseNow()
		if closed, ok := errors.AsType[*wsclient.CloseError](err); !ok && ctx.Err() == nil {
			t.account.Foreign(t.name(), "the connection ended: %v", err)
		} else if ok && closed.Err == nil && ctx.Err() == nil {
			sleep(ctx, talkerPause)
		}
	}
}

func (t *talker) name() string { return fmt.Sprintf("talker %d", t.index+1) }

func (t *talker) open(ctx context.Context, target wsclient.Target) (*chat.Session, error) {
	if t.last != "" {
		target = chat.Since(target, t.room, t.last)
	}
	d := wsclient.Dialer{Timeout: talkerTimeout}
	return chat.Open(ctx, &d, target, nil, t.cookies[t.index%len(t.cookies)])
}

// serve counts what comes over a connection until that ends: first what was missed.
func (t *talker) serve(s *chat.Session) error {
	early, err := t.catchUp(s)
	if err != nil {
		return err
	}
	for _, m := range early {
		t.got(&m)
	}
	t.mu.Lock()
	t.conn, t.send = s, s.NewSend(t.room, t.filler)
	t.mu.Unlock()
	var f chat.Frame
	for {
		_, frame, err := s.ReadMessage()
		if err != nil {
			return err
		}
		if err := chat.Parse(frame, &f); err != nil {
			t.account.Foreign(t.name(), "malformed: %v: %.100q", err, frame)
			continue
		}
		switch string(f.Type) {
		case chat.TypeMessages:
			for i := range f.Messages {
				t.got(&f.Messages[i])
			}
		case chat.TypeError:
			if t.errors.Add(1); string(f.Code) == "HISTORY_GAP" {
				t.gaps.Add(1)
			}
		}
	}
}

// catchUp counts what was missed, in its order, and returns what has come meanwhile.
func (t *talker) catchUp(s *chat.Session) (early []chat.Message, err error) {
	r := s.Room(t.room)
	if r == nil {
		return nil, fmt.Errorf("there is no room %q", t.room)
	}
	missed, err := r.Newest()
	if err != nil {
		return nil, err
	}
	if t.last != "" {
		if r.Recovered == nil || !*r.Recovered {
			t.gaps.Add(1)
		} else {
			t.back.Add(1)
		}
		// A page that is full may not reach back to the last message: then older pages
		// do, up to that one.
		more := r.More && len(missed) >= pageLength
		for more && after(missed[len(missed)-1].ID, t.last) {
			var page, live []chat.Message
			if page, more, live, err = askPage(s, t.room, string(missed[len(missed)-1].ID)); err != nil {
				return nil, err
			}
			early = append(early, live...)
			missed = append(missed, page...)
		}
		missed = slices.DeleteFunc(missed, func(m chat.Message) bool { return !after(m.ID, t.last) })
	}
	slices.Reverse(missed)
	for i := range missed {
		t.got(&missed[i])
	}
	return early, nil
}

// after tells whether a place comes after another one.
func after(id []byte, last string) bool {
	m, n, ok := chat.ParsePlace(id)
	o, p, ok2 := chat.ParsePlace([]byte(last))
	return ok && ok2 && (m > o || m == o && n > p)
}

// askPage asks for a page of history. live is what came in between.
func askPage(s *chat.Session, room, before string) (page []chat.Message, more bool, live []chat.Message, err error) {
	_ = s.SetDeadline(time.Now().Add(talkerTimeout))
	defer func() { _ = s.SetDeadline(time.Time{}) }()
	if err := s.AskHistory(room, before); err != nil {
		return nil, false, nil, err
	}
	for {
		_, frame, err := s.ReadMessage()
		if err != nil {
			return nil, false, nil, err
		}
		var f chat.Frame
		if err := chat.Parse(bytes.Clone(frame), &f); err != nil {
			return nil, false, nil, err
		}
		switch string(f.Type) {
		case chat.TypeMessages:
			live = append(live, f.Messages...)
		case chat.TypeHistory:
			return f.Messages, f.More, live, nil
		case chat.TypeError:
			return nil, false, nil, fmt.Errorf("the server says %s: %s", f.Code, f.Reason)
		}
	}
}

// got counts a message that is new to the talker.
func (t *talker) got(m *chat.Message) {
	from, seq, ok := t.count(t.name(), t.member, m)
	t.last = string(m.ID)
	if ok && from == t.index {
		t.stream.Acknowledge(seq)
	}
}

// count enters a message into a member's account.
func (c *chatter) count(who string, member *ledger.Member, m *chat.Message) (from int, seq uint64, ok bool) {
	id, known := texto.ID{}, false
	if len(m.Content) == texto.IDLen+len(c.filler) && bytes.Equal(m.Content[texto.IDLen:], c.filler) {
		id, known = texto.ParseID(m.Content[:texto.IDLen])
	}
	millis, n, placed := chat.ParsePlace(m.ID)
	if !known || !placed || id.Nonce != c.nonce {
		c.account.Foreign(who, "id %.40q, content %.60q", m.ID, m.Content)
		return 0, 0, false
	}
	from, seq = int(id.Seq>>talkerShift), id.Seq&(1<<talkerShift-1)
	result := member.Deliver(from, seq, ledger.Place{Millis: millis, Seq: n})
	if !result.Known {
		c.account.Foreign(who, "a message that was never sent: id %.40q", m.ID)
	}
	return from, seq, result.First
}

// talk sends a message each interval while there is a connection.
func (t *talker) talk(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !t.began.Load() || t.ended.Load() {
			continue
		}
		t.mu.Lock()
		if s := t.conn; s != nil {
			seq := t.stream.Send()
			t.account.Send(t.index)
			_ = s.SetWriteDeadline(time.Now().Add(talkerTimeout))
			// A failure shows to the reader too.
			_ = s.WriteFrame(t.send.Stamp(texto.ID{Nonce: t.nonce, Seq: uint64(t.index)<<talkerShift | seq}))
		}
		t.mu.Unlock()
	}
}

// history pages through the whole room on one node, and enters it as one more member.
// found is called for each message, oldest first.
func (c *chatter) history(ctx context.Context, who string, target wsclient.Target, found func(from int, seq uint64)) (messages, pages int, err error) {
	d := wsclient.Dialer{Timeout: talkerTimeout}
	s, err := chat.Open(ctx, &d, target, nil, c.cookies[0])
	if err != nil {
		return 0, 0, err
	}
	defer s.CloseNow()
	r := s.Room(c.room)
	if r == nil {
		return 0, 0, fmt.Errorf("there is no room %q", c.room)
	}
	all, err := r.Newest()
	if err != nil {
		return 0, 0, err
	}
	pages = 1
	for more := r.More; more; pages++ {
		var page []chat.Message
		if page, more, _, err = askPage(s, c.room, string(all[len(all)-1].ID)); err != nil {
			return len(all), pages, err
		}
		if len(page) == 0 {
			return len(all), pages, errors.New("there were more messages, and none came")
		}
		all = append(all, page...)
	}
	member := c.account.Join(who, -1)
	slices.Reverse(all)
	for i := range all {
		if from, seq, ok := c.count(who, member, &all[i]); ok {
			found(from, seq)
		}
	}
	return len(all), pages, nil
}
