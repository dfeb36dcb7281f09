// Package pace computes when the messages of an open-loop run are due. An open
// loop sends at its rate whatever the answers do, and measures from the moment
// a message was due: a server that stalls cannot hide the messages that waited
// for it (what Gil Tene calls coordinated omission).
package pace

import "time"

// Schedule spreads messages evenly: all at a fixed total rate, handed to the
// streams in turn.
type Schedule struct {
	Rate    float64 // messages a second in all, above zero
	Streams int     // at least one
}

// Due returns when message n (from 0) is due, from the start of the run.
func (s Schedule) Due(n uint64) time.Duration {
	return time.Duration(float64(n) / s.Rate * float64(time.Second))
}

// Lane returns the part of the schedule that belongs to one of several
// senders: the streams whose index leaves the remainder lane when divided by
// lanes. Lanes never share a stream, so a stream's messages keep their order
// without a lock, and all lanes together are the schedule.
func (s Schedule) Lane(lane, lanes int) *Lane {
	return &Lane{schedule: s, lanes: lanes, first: lane, stream: lane}
}

// Lane is one sender's walk through a schedule. One goroutine owns it.
type Lane struct {
	schedule Schedule
	lanes    int
	first    int
	round    uint64
	stream   int
}

// Next returns the stream that sends next and when, from the start of the run.
// Times never decrease. The lane must be below the number of streams.
func (l *Lane) Next() (stream int, due time.Duration) {
	stream = l.stream
	due = l.schedule.Due(l.round*uint64(l.schedule.Streams) + uint64(stream))
	if l.stream += l.lanes; l.stream >= l.schedule.Streams {
		l.stream = l.first
		l.round++
	}
	return stream, due
}
