package pull

import (
	"slices"
	"time"
)

// Notices counts notifications of a Crowd's messages.
type Notices struct {
	Came uint64 `json:"came"` // each once by its id
	// Repeated came with an id that the receiver had got before: those that leave their
	// place to the fleet get one again when the answer before it was not wholly written.
	Repeated      uint64 `json:"repeated"`
	RepeatedNamed uint64 `json:"repeated_though_named"` // of those who name the last one
	// Missed are acknowledged messages for which there was none after they were sent, and
	// no gap was told; Told those with a gap told.
	Missed uint64 `json:"missed_untold"`
	Told   uint64 `json:"told_as_gap"`
	// Surplus came without a message of their own: a notification is passed on again when
	// the node that did it first is not known to have done so.
	Surplus uint64 `json:"surplus"`
	Gaps    uint64 `json:"gaps"`
	Polls   uint64 `json:"polls_answered"`
}

// Notices sums up. While notifications are on their way they count as missed.
func (c *Crowd) Notices() (n Notices) {
	for _, r := range c.receivers {
		r.mu.Lock()
		gaps := slices.Clone(r.gaps)
		n.Repeated += uint64(r.repeated)
		if r.names {
			n.RepeatedNamed += uint64(r.repeated)
		}
		n.Polls += uint64(r.polls)
		r.mu.Unlock()
		n.Gaps += uint64(len(gaps))
		for _, s := range r.streams {
			s.notices(gaps, &n)
		}
	}
	return n
}

// notices adds a stream's to the sum. From the last message backwards, there must be as
// many notifications that came after each was sent as there are messages from it on.
func (s *stream) notices(gaps []time.Time, n *Notices) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Came += uint64(len(s.notified))
	used, missed, unsure := 0, 0, 0
	for i := len(s.sent) - 1; i >= 0; i-- {
		m := s.sent[i]
		if m.acked.IsZero() {
			if m.came {
				unsure++ // it was taken, though nobody has said so
			}
			continue
		}
		// They came in the order of time.
		first, _ := slices.BinarySearchFunc(s.notified, m.from, time.Time.Compare)
		switch {
		case len(s.notified)-first > used:
			used++
		case slices.ContainsFunc(gaps, func(g time.Time) bool { return g.After(m.from) }):
			n.Told++
		default:
			missed++
		}
	}
	n.Missed += uint64(missed)
	n.Surplus += uint64(max(len(s.notified)-used-unsure, 0))
}

// Settled tells whether all that was acknowledged has been pulled, and all receivers were
// notified of it.
func (c *Crowd) Settled() bool { return c.Ledger.Totals().Lost == 0 && c.Notices().Missed == 0 }

// Backlog is about how many messages to a receiver were acknowledged and have not been
// pulled: what a sender that waits for it looks at.
func (c *Crowd) Backlog(to int) int64 { return c.receivers[to].backlog.Load() }

// watch finds out how long it takes until receivers get messages that were sent after a
// moment.
type watch struct {
	from time.Time
	took map[int]time.Duration // by receiver
}

func (w *watch) note(receiver int, sent, now time.Time) {
	if _, known := w.took[receiver]; !known && sent.After(w.from) {
		w.took[receiver] = now.Sub(w.from)
	}
}

// Watch begins to look for how long it takes until each receiver has pulled a message that
// was sent after this moment.
func (c *Crowd) Watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = &watch{from: time.Now(), took: map[int]time.Duration{}}
}

// Watched returns what the last Watch has found: how long it took until the first receiver
// and until the last one, and how many are left.
func (c *Crowd) Watched() (first, last time.Duration, left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left = len(c.receivers)
	for _, took := range c.watch.took {
		if left--; first == 0 || took < first {
			first = took
		}
		last = max(last, took)
	}
	return first, last, left
}
