package conn

import "sync/atomic"

// MaxInFlight bounds the messages of one client that wait for Redis. A client with
// more is not read until some have been answered.
const MaxInFlight = 256

// InFlight counts what a client has sent and has had no answer to yet. The zero value
// is ready. Begin and Settle are for the reader alone; Len and End may be called from
// any goroutine.
type InFlight struct {
	n       atomic.Int32
	waiting atomic.Pointer[waiter] // the reader, when too much is in flight
}

// waiter waits until no more than most are in flight.
type waiter struct {
	most int32
	done chan struct{}
}

// Len is how many messages are in flight.
func (f *InFlight) Len() int { return int(f.n.Load()) }

// Begin counts a message and waits while there are too many.
func (f *InFlight) Begin() {
	if f.n.Add(1) > MaxInFlight {
		f.await(MaxInFlight)
	}
}

// Settle waits until all messages have been answered.
func (f *InFlight) Settle() {
	if f.n.Load() > 0 {
		f.await(0)
	}
}

func (f *InFlight) await(most int32) {
	w := &waiter{most, make(chan struct{}, 1)}
	f.waiting.Store(w)
	if f.n.Load() <= most && f.waiting.CompareAndSwap(w, nil) {
		return
	}
	<-w.done
}

// End counts a message as answered. It never blocks.
func (f *InFlight) End() {
	n := f.n.Add(-1)
	if w := f.waiting.Load(); w != nil && n <= w.most && f.waiting.CompareAndSwap(w, nil) {
		w.done <- struct{}{}
	}
}
