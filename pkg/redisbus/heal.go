package redisbus

import (
	"slices"
	"time"

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
	// maxFailures is how often a history is read that Redis refuses to give, for good
	// as it seems: a key of another kind, or one without permission. It is a gap then.
	maxFailures = 20
)

// stamp tells a message of a topic from all others. The place alone does not: a
// Redis that has lost its messages may give a place again.
type stamp struct {
	id   relay.ID
	time int64
}

func stampOf(m *relay.Message) stamp { return stamp{m.ID, m.Time.UnixNano()} }

// overtaken tells whether a message that comes through the connection was dispatched
// from the history already, which has the given ones, or is older than those: then it
// was trimmed before it could be read, and is in a gap that was told. That is only
// known of a message of the same history. rest are those that may still come.
func overtaken(m *relay.Message, dispatched []stamp, same bool) (rest []stamp, yes bool) {
	if len(dispatched) == 0 {
		return nil, false
	}
	if at := slices.Index(dispatched, stampOf(m)); at >= 0 {
		return dispatched[at+1:], true // those before it do not come any more either
	}
	return dispatched, same && m.ID.Compare(dispatched[0].id) < 0
}

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
	failures  int       // to read it, for which the connection is not to blame
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
		// The first message of a history has none before it.
		rest, yes := overtaken(m, s.ahead, !prev.IsZero())
		if s.ahead = rest; len(rest) == 0 {
			s.ahead = nil
		}
		if yes {
			return withheld
		}
	}
	if s.place == prev || !s.placed {
		s.place, s.placed, s.ahead = m.ID, true, nil
		return admitted
	}
	s.healing = &healing{since: time.Now(), delivered: s.ahead}
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
// one that Redis holds, and returns their channels. Only for the receiver: a topic
// that is healed is the healer's to dispatch.
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
		s.healing = &healing{since: time.Now(), delivered: s.ahead, late: true}
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

// follow takes from what was held what comes next: messages to be dispatched, or
// a gap to be told before them. more means that the history has to be read again
// first. It is called with table.mu held.
func (s *subscription) follow() (ready []relay.Message, more, gap bool) {
	h := s.healing
	for len(h.held) > 0 {
		m := &h.held[0]
		rest, yes := overtaken(&m.Message, h.delivered, true)
		if h.delivered = rest; !yes {
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
