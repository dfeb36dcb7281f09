// Package ledger keeps account of every message of a run: whether it was sent,
// how it was answered, and how often and in what order it arrived. At the end
// it proves that each acknowledged message arrived once and in order, or names
// those that did not.
//
// Messages that are acknowledged and delivered once, in order, cost no memory
// once all their neighbours are too, so a run of an hour is a small ledger as
// long as nothing goes wrong.
package ledger

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Ledger is the account of one run. All methods may be called by any number of
// goroutines and do not block on anything but each other.
type Ledger struct {
	mu      sync.Mutex
	streams []*Stream
	codes   []string // error codes seen; an entry holds the index
	foreign []Foreign
	strange uint64 // all foreign events, kept or not

	strict atomic.Bool
}

// maxForeign bounds the foreign events that are kept with their details.
const maxForeign = 1000

// maxCodes bounds the error codes that are told apart; an entry holds 8 bits.
const maxCodes = 256

// New returns an empty ledger.
func New() *Ledger { return new(Ledger) }

// Open starts the account of the messages from one sender to one receiver,
// whose order is a promise.
func (l *Ledger) Open(sender, receiver string) *Stream {
	s := &Stream{ledger: l, sender: sender, receiver: receiver, refused: map[uint8]uint64{}}
	l.mu.Lock()
	l.streams = append(l.streams, s)
	l.mu.Unlock()
	return s
}

// Foreign is something that arrived and that no message of the run explains.
type Foreign struct {
	At   string // the client that it came to
	What string
}

// Foreign notes something that no message explains: a message for somebody
// else, an altered text, an answer to no request.
func (l *Ledger) Foreign(at, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.strange++
	if len(l.foreign) < maxForeign {
		l.foreign = append(l.foreign, Foreign{At: at, What: fmt.Sprintf(format, args...)})
	}
}

// code returns the index of an error code. The last index stands for all codes
// that came when the table was full.
func (l *Ledger) code(code string) uint8 {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.codes, code)
	switch {
	case i >= 0:
	case len(l.codes) < maxCodes-1:
		i = len(l.codes)
		l.codes = append(l.codes, code)
	case len(l.codes) == maxCodes-1:
		l.codes = append(l.codes, "other")
		i = maxCodes - 1
	default:
		i = maxCodes - 1
	}
	return uint8(i)
}

// Totals counts messages. A message is counted once a field, however often
// something happened to it, but for Duplicates, which counts arrivals.
type Totals struct {
	Sent         uint64            `json:"sent"`
	Acknowledged uint64            `json:"acknowledged"`
	Refused      uint64            `json:"refused"`
	RefusedBy    map[string]uint64 `json:"refused_by_code,omitempty"`
	// Unanswered were neither acknowledged nor refused.
	Unanswered uint64 `json:"unanswered"`
	Delivered  uint64 `json:"delivered"`
	// Duplicated arrived more than once; Duplicates counts the arrivals after
	// the first.
	Duplicated uint64 `json:"duplicated"`
	Duplicates uint64 `json:"duplicates"`
	// Reordered arrived for the first time after one that was sent later.
	Reordered uint64 `json:"reordered"`
	// Lost were acknowledged and never delivered, and their receiver was not
	// told of it: they were lost silently. See gap.go.
	Lost uint64 `json:"lost_though_acknowledged"`
	// Told were acknowledged and never delivered, and their receiver was told of
	// a gap that they fall into.
	Told uint64 `json:"told_as_gap,omitempty"`
	// FalselyRecovered were acknowledged and never delivered, and their receiver
	// was told afterwards that it has missed nothing.
	FalselyRecovered uint64 `json:"falsely_recovered,omitempty"`
	// LostStrict are those of Lost and Told that were sent while Ledger.Strict
	// was on.
	LostStrict uint64 `json:"lost_in_strict_times,omitempty"`
	// SentAgain counts arrivals that the receiver dropped because it had seen
	// their id.
	SentAgain uint64 `json:"sent_again_and_dropped,omitempty"`
	// Unacknowledged were delivered and not acknowledged; Denied are those of
	// them that were refused.
	Unacknowledged uint64 `json:"delivered_though_not_acknowledged"`
	Denied         uint64 `json:"delivered_though_refused"`
	// AnsweredAgain were answered more than once.
	AnsweredAgain uint64 `json:"answered_more_than_once"`
	// Foreign counts arrivals that no message of the run explains.
	Foreign uint64 `json:"foreign"`
}

// Kept tells whether what an acknowledgement promises was kept: each
// acknowledged message once, in order, and nothing that nobody sent.
func (t Totals) Kept() bool {
	return t.Lost == 0 && t.Duplicated == 0 && t.Reordered == 0 && t.Foreign == 0 && t.FalselyRecovered == 0
}

// Totals sums up all streams. While messages are on their way they count as
// lost or unanswered: those two mean something only at the end.
func (l *Ledger) Totals() Totals {
	l.mu.Lock()
	streams, codes := slices.Clone(l.streams), slices.Clone(l.codes)
	t := Totals{Foreign: l.strange, RefusedBy: map[string]uint64{}}
	l.mu.Unlock()
	by := map[uint8]uint64{}
	for _, s := range streams {
		s.addTo(&t, by)
	}
	for i, n := range by {
		if int(i) < len(codes) {
			t.RefusedBy[codes[i]] += n
		} else { // a code that came while this was summing up
			t.RefusedBy["other"] += n
		}
	}
	return t
}

// Unsettled tells how many messages are on their way: neither refused, nor both
// acknowledged and delivered.
func (l *Ledger) Unsettled() (n uint64) {
	l.mu.Lock()
	streams := l.streams
	l.mu.Unlock()
	for _, s := range streams {
		s.mu.Lock()
		n += s.sent - s.settled
		s.mu.Unlock()
	}
	return n
}

// Codes returns the codes of a RefusedBy map in alphabetical order.
func (t Totals) Codes() []string { return slices.Sorted(maps.Keys(t.RefusedBy)) }
