package texto

import (
	"slices"

	"parley/pkg/relay"
)

const (
	// defaultHeldBytes bounds what a session that catches up holds of newer
	// messages, when queues have no bound of their own.
	defaultHeldBytes = 1 << 20
	// heldOverhead is counted for each of them, beyond its body.
	heldOverhead = 128
	// maxRemembered bounds the messages of the history that a session remembers
	// in order not to send them again when they come from the bus too. Beyond it
	// the client may get one twice, with one id.
	maxRemembered = 4096
)

// catchUp is what a session knows while it catches up with its topic, and for a
// moment afterwards. It belongs to the loop.
type catchUp struct {
	heard    chan struct{} // closed when the session hears its own takeover; nil afterwards
	limit    int           // of bytes held
	live     bool          // nothing is held any more
	overflow bool          // what was held has been dropped: it must be read from the history
	held     []held        // from the bus, newer than what has been read, or the same
	bytes    int           // of held
	readings int           // of the history that have begun

	read []place // messages read from the history, oldest first, that may come from the bus too
	end  relay.ID
}

// held is a message, or a gap.
type held struct {
	gap      bool
	position relay.Position // after the gap
	before   int            // readings that had begun when it was heard of
	message  relay.Message
}

// place tells a message from every other of its topic, in other histories too.
type place struct {
	id   relay.ID
	sent int64 // ns
}

func placeFrom(m *relay.Message) place { return place{m.ID, m.Time.UnixNano()} }

// hold keeps h for later. What is beyond the limit is dropped, and all that was
// held before: it makes one piece with what comes next.
func (c *catchUp) hold(h held) {
	if c.overflow {
		return
	}
	c.bytes += len(h.message.Body) + heldOverhead
	if c.bytes > c.limit {
		c.overflow, c.held, c.bytes = true, nil, 0
		return
	}
	c.held = append(c.held, h)
}

// next takes the oldest one of what is held.
func (c *catchUp) next() (h held, ok bool) {
	if len(c.held) == 0 {
		return h, false
	}
	h = c.held[0]
	c.held[0] = held{} // its body is garbage once it was written
	c.held = c.held[1:]
	c.bytes -= len(h.message.Body) + heldOverhead
	return h, true
}

// remember notes a message that was read from the history.
func (c *catchUp) remember(m *relay.Message) {
	if len(c.read) == maxRemembered {
		c.read = slices.Delete(c.read, 0, maxRemembered/2)
	}
	c.read = append(c.read, placeFrom(m))
	c.end = m.ID
}

// known tells whether a message from the bus has been read from the history
// before. Both come in the same order, so that what is before a known one, or
// before one that is newer than all of them, does not come any more.
func (c *catchUp) known(m *relay.Message) bool {
	if len(c.read) == 0 || m.ID.IsZero() {
		return false
	}
	if i := slices.Index(c.read, placeFrom(m)); i >= 0 {
		c.read = c.read[i+1:]
		return true
	}
	if m.ID.Compare(c.end) > 0 {
		c.read = nil
	}
	return false
}
