package load

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
)

// stopwatch is the clock of a run, and tells what of it is measured.
type stopwatch struct {
	epoch    time.Time
	from, to atomic.Int64 // the measured time, in nanoseconds since epoch
}

// reset starts the clock, with nothing to measure.
func (w *stopwatch) reset() {
	w.epoch = time.Now()
	w.from.Store(never)
	w.to.Store(never)
}

func (w *stopwatch) now() int64 { return int64(time.Since(w.epoch)) }

// measures tells whether a message that was due then counts.
func (w *stopwatch) measures(due int64) bool { return due >= w.from.Load() && due < w.to.Load() }

// publisher sends messages to many. In a closed loop it is the reader of whichever
// member gets a message last that sends the next, so that no goroutine has to be
// woken for it; in an open loop the lane to which the publisher belongs.
type publisher struct {
	// Fixed after construction.
	clock  *stopwatch
	window int                         // 0: an open loop
	alive  *atomic.Int64               // to how many its messages go
	count  func() (seq uint64)         // enters one more message into the ledger
	write  func(due int64, seq uint64) // writes it
	lag    *hist.Histogram
	slots  []slot // of the messages on their way, by the lowest bits of their numbers

	dead atomic.Bool
	owed atomic.Int64 // places in the window that wait for revive
	// refused counts the error answers for whose messages there is still a slot: which
	// one it is they do not say, but each has given its place back.
	refused atomic.Int64

	mu      sync.Mutex // held to send, so that numbers go out in order
	credits int        // messages that the window lets out
}

// slot counts to how many members a message has come.
type slot struct {
	seq atomic.Uint64 // 0: nobody waits for it
	got atomic.Int64
	at  atomic.Int64 // when it was sent
}

// slotsAWindow is how much larger than the window the table of slots is at least: a
// message that is that far behind is long given up.
const slotsAWindow = 64

// newPublisher makes one that calls count and write for each message, one after the
// other, and records how late they are in an open loop, which has no window.
func newPublisher(clock *stopwatch, window int, alive *atomic.Int64, lag *hist.Histogram, count func() uint64, write func(int64, uint64)) *publisher {
	size := 1
	if window > 0 {
		size = 1 << bits.Len(uint(slotsAWindow*window-1))
	}
	return &publisher{clock: clock, window: window, alive: alive, count: count, write: write, lag: lag,
		slots: make([]slot, size), credits: window}
}

// send sends the next message, which was due at the time given. The caller holds mu.
func (p *publisher) send(due int64) {
	seq := p.count()
	now := p.clock.now()
	if p.window == 0 {
		if p.clock.measures(due) {
			p.lag.Record(time.Duration(now - due))
		}
	} else {
		s := p.slot(seq)
		if s.seq.Swap(0) != 0 {
			p.credits++
		}
		s.got.Store(0)
		s.at.Store(now)
		s.seq.Store(seq)
	}
	p.write(due, seq)
}

func (p *publisher) slot(seq uint64) *slot { return &p.slots[seq&uint64(len(p.slots)-1)] }

// came counts that a message has come to one more member, and sends the next when
// that was the last.
func (p *publisher) came(seq uint64) {
	s := p.slot(seq)
	if s.seq.Load() == seq && s.got.Add(1) >= p.alive.Load() && s.seq.CompareAndSwap(seq, 0) {
		p.free(1)
	}
}

// abandon stops waiting for messages that were sent before a time, or have come to
// all who are left, and returns how many these are.
func (p *publisher) abandon(before int64) (n int) {
	alive := p.alive.Load()
	n = int(p.owed.Swap(0))
	for i := range p.slots {
		s := &p.slots[i]
		seq := s.seq.Load()
		complete := s.got.Load() >= alive
		if seq == 0 || !complete && s.at.Load() >= before || !s.seq.CompareAndSwap(seq, 0) {
			continue
		}
		if !complete && p.refused.Load() > 0 { // only revive takes from it
			p.refused.Add(-1)
			continue
		}
		n++
	}
	return n
}

// refuse gives back the place of a message that was refused, in a while.
func (p *publisher) refuse() {
	p.refused.Add(1)
	p.owed.Add(1)
}

// free adds places to the window and fills it.
func (p *publisher) free(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill(n)
}

// freeUnlessBusy is free for a goroutine that must not wait for a socket: when another
// one is sending, the places wait for the next time.
func (p *publisher) freeUnlessBusy(n int) {
	if !p.mu.TryLock() {
		p.owed.Add(int64(n))
		return
	}
	defer p.mu.Unlock()
	p.fill(n)
}

func (p *publisher) fill(n int) {
	p.credits += n
	for p.credits > 0 && !p.dead.Load() {
		now := p.clock.now()
		if now >= p.clock.to.Load() {
			return
		}
		p.credits--
		p.send(now)
	}
}

// reviveAll keeps closed loops going until stop: messages that nobody waits for any
// more, since they were refused or lost for giveUp, or since who lacks them has gone,
// are replaced by new ones.
func reviveAll(publishers []*publisher, giveUp time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(revivePause)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for _, p := range publishers {
			if n := p.abandon(p.clock.now() - int64(giveUp)); n > 0 {
				p.freeUnlessBusy(n)
			}
		}
	}
}
