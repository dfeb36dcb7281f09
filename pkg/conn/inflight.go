package conn

import "sync/atomic"

// MaxInFlight bounds the messages of one client that wait for Redis. A client with
// more is not read until some have been answered.
const MaxInFlight = 256

// InFlight counts what a client has sent and has had no answer to yet. The zero value
// is ready. Begin is for the reader alone; Len and End may be called from any
// goroutine.
type InFlight struct {
	n       atomic.Int32
	waiting atomic.Pointer[chan struct{}] // the reader, when too much is in flight
}

// Len is how many messages are in flight.
func (f *InFlight) Len() int { return int(f.n.Load()) }

// Begin counts a message and waits while there are too many.
func (f *InFlight) Begin() {
	if f.n.Add(1) <= MaxInFlight {
		return
	}
	room := make(chan struct{}, 1)
	f.waiting.Store(&room)
	if f.n.Load() <= MaxInFlight && f.waiting.CompareAndSwap(&room, nil) {
		return
	}
	<-room
}

// End counts a message as answered. It never blocks.
func (f *InFlight) End() {
	if f.n.Add(-1) > MaxInFlight {
		return
	}
	if room := f.waiting.Swap(nil); room != nil {
		*room <- struct{}{}
	}
}
