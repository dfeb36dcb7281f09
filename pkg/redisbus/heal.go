package redisbus

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// healBatch is the most topics whose histories are read in one pipeline, and
	// healPage the most messages of a topic that are read at once: a topic with
	// more takes its next turn behind the others.
	healBatch = 64
	healPage  = 256
	// healPause is how long reading waits after Redis has failed.
	healPause = 50 * time.Millisecond
	// maxHeld and maxHeldBytes bound the messages of a topic that wait while its
	// history is read. If there are more they are dropped, and read as well.
	maxHeld      = 1024
	maxHeldBytes = 1 << 20
	// maxRereads is how often a history is read again because what came since does
	// not follow it. After that it is a gap.
	maxRereads = 3
)

// stamp tells a message of a topic from all others. The place alone does not: a
// Redis that has lost its messages may give a place again.
type stamp struct {
	id   relay.ID
	time int64
}

func stampOf(m *relay.Message) stamp { return stamp{m.ID, m.Time.UnixNano()} }

// heldMessage is a message that came while its topic's history was being read.
type heldMessage struct {
	relay.Message
	prev relay.ID
}

// healing is a topic that is being read from its history, because messages may
// have been missed or show that some were; guarded by table.mu.
type healing struct {
	held      []heldMessage
	bytes     int       // of held
	overflow  bool      // messages were dropped instead of held
	delivered []stamp   // read and dispatched, and maybe still to come through the connection
	since     time.Time // the subscription was whole until then
	reading   bool      // a page is being read or delivered
	late      bool      // nobody has messages accepted elsewhere any more
	again     bool      // the connection was lost meanwhile: what was read may end too early
	filled    bool      // something was read that would have been missed
	gap       bool      // it has one, and the receiver was told
	rereads   int
}

func (h *healing) hold(m *relay.Message, prev relay.ID) {
	if len(h.held) >= maxHeld || h.bytes+len(m.Body) > maxHeldBytes {
		h.held, h.bytes, h.overflow = nil, 0, true
		return
	}
	h.held = append(h.held, heldMessage{*m, prev})
	h.bytes += len(m.Body)
}

type verdict uint8

const (
	admitted verdict = iota // to be dispatched
	withheld                // not now, or not again
	holed                   // withheld, and the topic is to be healed
)

// admit decides on a kept message that came through the subscriber connection,
// by the receiver.
func (t *table) admit(channel string, m *relay.Message, prev relay.ID) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.topics[channel]
	switch {
	case s == nil:
		return withheld // nobody wants it any more
	case s.healing != nil:
		if !s.healing.overflow {
			s.healing.hold(m, prev)
		}
		return withheld
	case s.ahead != nil:
		if at := slices.Index(s.ahead, stampOf(m)); at >= 0 {
			if s.ahead = s.ahead[at+1:]; len(s.ahead) == 0 {
				s.ahead = nil
			}
			return withheld
		}
	}
	if s.place == prev || !s.placed {
		s.place, s.placed, s.ahead = m.ID, true, nil
		return admitted
	}
	s.healing = &healing{since: time.Now()}
	s.healing.hold(m, prev)
	return holed
}

// heal has a topic healed whose connection was lost. begun is false when that is
// under way already, and kept when it has no history to read.
func (t *table) heal(channel string, topic relay.Topic) (begun, kept bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.topics[channel]
	switch {
	case s == nil:
		return false, true // nobody wants it any more
	case s.place.IsZero() && !t.keeps(topic):
		return false, false
	case s.healing != nil:
		s.healing.again = true
		return false, true
	}
	s.healing = &healing{since: t.lost}
	return true, true
}

// healOutdated begins to heal the topics whose place is of another history than the
// one that Redis holds, and returns their channels.
func (t *table) healOutdated() (channels []string) {
	epoch := t.link.epoch.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	for channel, s := range t.topics {
		if s.history == 0 || s.history == epoch || s.confirmed != t.epoch {
			continue
		}
		if s.healing != nil {
			s.healing.late, s.healing.again = true, true
			continue
		}
		topic, _ := t.link.keys.topic(channel)
		if s.place.IsZero() && !t.keeps(topic) {
			continue
		}
		s.healing = &healing{since: time.Now(), late: true}
		channels = append(channels, channel)
	}
	return channels
}

// wants tells whether an UNSUBSCRIBE that Redis confirms is none of ours.
func (t *table) wants(channel string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving[channel] > 0 {
		if t.leaving[channel]--; t.leaving[channel] == 0 {
			delete(t.leaving, channel)
		}
		return false
	}
	return true
}

// healer reads the histories of topics with holes. It is a queue and one
// goroutine, so that the receiver never waits for it, and no topic for another.
type healer struct {
	link  *link
	wake  chan struct{}
	queue []string // channels; guarded by table.mu
}

func newHealer(l *link) *healer { return &healer{link: l, wake: make(chan struct{}, 1)} }

// add queues a topic whose healing has begun. It never blocks.
func (h *healer) add(channels ...string) {
	h.link.table.mu.Lock()
	h.queue = append(h.queue, channels...)
	h.link.table.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *healer) run(ctx context.Context, r relay.Receiver) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for ctx.Err() == nil {
			failed := h.round(ctx, r)
			if failed == nil {
				break
			}
			if len(failed) > 0 {
				if !sleep(ctx, healPause) {
					return
				}
				h.add(failed...)
			}
		}
	}
}

// reading is a topic whose history is being read.
type reading struct {
	channel string
	topic   relay.Topic
	after   relay.Position
	cmd     *redis.Cmd
}

// round reads a page of each of some topics. It returns those that could not be
// read, nil when there was nothing to do.
func (h *healer) round(ctx context.Context, r relay.Receiver) (failed []string) {
	l := h.link
	var batch []reading
	l.table.mu.Lock()
	for len(h.queue) > 0 && len(batch) < healBatch {
		channel := h.queue[0]
		h.queue = h.queue[1:]
		s := l.table.topics[channel]
		if s == nil || s.healing == nil || s.healing.reading {
			continue
		}
		s.healing.reading, s.healing.again = true, false
		topic, _ := l.keys.topic(channel)
		after := s.position()
		after.At = s.healing.since
		batch = append(batch, reading{channel: channel, topic: topic, after: after})
	}
	if len(h.queue) == 0 {
		h.queue = nil
	}
	l.table.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, _ = l.ask.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i := range batch {
			batch[i].cmd = l.read(ctx, p, batch[i].topic, batch[i].after.ID, healPage)
		}
		return nil
	})
	failed = []string{}
	var unread []string
	forgotten := false
	for _, b := range batch {
		page, err := l.page(b.topic, b.after, healPage, b.cmd)
		if err != nil {
			failed = append(failed, b.channel)
			forgotten = forgotten || noScript(err)
			l.log.Debug("history could not be read, trying again", "topic", b.topic, "error", err)
			continue
		}
		if h.deliver(r, b.channel, b.topic, &page) {
			unread = append(unread, b.channel)
		}
	}
	r.Flush()
	if forgotten {
		_ = l.ask.ScriptLoad(ctx, readScript.source).Err() // if it fails, so does what comes next
	}
	l.table.mu.Lock()
	for _, channel := range append(unread, failed...) {
		if s := l.table.topics[channel]; s != nil && s.healing != nil {
			s.healing.reading = false
		}
	}
	l.table.mu.Unlock()
	if len(unread) > 0 {
		h.add(unread...)
	}
	return failed
}

// deliver dispatches a page and, when it is the last, what was held meanwhile. It
// returns true when there is more to read.
func (h *healer) deliver(r relay.Receiver, channel string, topic relay.Topic, p *page) (more bool) {
	l := h.link
	t := l.table
	t.mu.Lock()
	s := t.topics[channel]
	if s == nil || s.healing == nil {
		t.mu.Unlock()
		return false
	}
	heal := s.healing
	epoch := p.Position.Epoch
	gap := !p.Complete && !heal.gap
	if epoch != s.history && l.moves && !heal.late && l.renewed.Load() != 0 {
		// What the old master still accepts from other nodes cannot be seen:
		// healOutdated tells of it, if only of that when nothing else is missing.
		gap, epoch = gap && !p.follows, s.history
	}
	heal.gap = heal.gap || gap
	t.mu.Unlock()
	if gap {
		l.gap(r, topic, relay.Position{Epoch: epoch, ID: p.before, At: p.Position.At})
	}
	for i := range p.Messages {
		r.Dispatch(p.Messages[i])
	}
	for first := true; ; first = false {
		t.mu.Lock()
		if first {
			for i := range p.Messages {
				heal.delivered = append(heal.delivered, stampOf(&p.Messages[i]))
			}
			s.place, s.placed, s.history = p.Position.ID, true, epoch
			heal.filled = heal.filled || len(p.Messages) > 0
			if p.More || heal.overflow || heal.again {
				heal.overflow = false
				t.mu.Unlock()
				return true
			}
		}
		ready, more, gap := s.follow()
		if len(ready) == 0 && !more && !gap {
			s.ahead, s.healing = heal.delivered, nil
			if len(heal.delivered) == 0 {
				s.ahead = nil
			}
			if heal.filled && !heal.gap {
				l.metrics.gaps.WithLabelValues("true").Inc()
			}
			t.mu.Unlock()
			return false
		}
		position := s.position()
		t.mu.Unlock()
		if gap {
			l.gap(r, topic, position)
		}
		for i := range ready {
			r.Dispatch(ready[i])
		}
		if more {
			return true
		}
	}
}

// follow takes from what was held what comes next: messages to be dispatched, or
// a gap to be told before them. more means that the history has to be read again
// first. It is called with table.mu held.
func (s *subscription) follow() (ready []relay.Message, more, gap bool) {
	h := s.healing
	for len(h.held) > 0 {
		m := &h.held[0]
		if at := slices.Index(h.delivered, stampOf(&m.Message)); at >= 0 {
			h.delivered = h.delivered[at+1:] // those before it do not come any more either
		} else {
			if m.prev != s.place {
				if len(ready) > 0 {
					return ready, false, false
				}
				if !h.gap && h.rereads < maxRereads {
					h.rereads++
					return nil, true, false
				}
				gap, h.gap = !h.gap, true
			}
			s.place = m.ID
			ready = append(ready, m.Message)
			h.delivered = nil // it came through the connection, and so did all before it
		}
		h.bytes -= len(m.Body)
		h.held = h.held[1:]
		if gap {
			break // told before what was just taken
		}
	}
	if h.overflow {
		h.overflow = false
		return ready, true, gap
	}
	return ready, false, gap
}

// gap tells the receiver of one.
func (l *link) gap(r relay.Receiver, topic relay.Topic, p relay.Position) {
	l.metrics.gaps.WithLabelValues("false").Inc()
	l.log.Info("messages of a topic may be missing", "topic", topic)
	r.Gap(topic, p)
}
