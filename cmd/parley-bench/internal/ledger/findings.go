package ledger

import (
	"fmt"
	"slices"
)

// Kind is what was found about messages.
type Kind string

// The kinds of findings. The first six break a promise.
const (
	Lost           Kind = "lost though acknowledged"
	Vouched        Kind = "lost though the receiver was told that it has missed nothing"
	Duplicated     Kind = "duplicated"
	Reordered      Kind = "reordered"
	Strange        Kind = "foreign"
	Misplaced      Kind = "out of the room's order"
	Told           Kind = "told as a gap"
	Denied         Kind = "delivered though refused"
	Unacknowledged Kind = "delivered though unanswered"
	AnsweredAgain  Kind = "answered more than once"
	Unanswered     Kind = "unanswered"
	Refused        Kind = "refused"
)

// Breaks tells whether a finding of this kind is a broken promise.
func (k Kind) Breaks() bool {
	return k == Lost || k == Vouched || k == Duplicated || k == Reordered || k == Strange || k == Misplaced
}

// Finding names neighbouring messages of one sender to which the same
// happened.
type Finding struct {
	Kind     Kind   `json:"kind"`
	Sender   string `json:"sender,omitempty"`
	Receiver string `json:"receiver,omitempty"`
	First    uint64 `json:"first,omitempty"` // sequence numbers, from 1
	Last     uint64 `json:"last,omitempty"`
	Code     string `json:"code,omitempty"` // of a refusal
	Note     string `json:"note,omitempty"`
}

// Messages tells how many messages the finding names.
func (f Finding) Messages() uint64 {
	if f.First == 0 {
		return 1
	}
	return f.Last - f.First + 1
}

// String returns the finding as one line.
func (f Finding) String() string {
	line := string(f.Kind)
	if f.Code != "" {
		line += " with " + f.Code
	}
	switch {
	case f.First == 0:
		line += " at " + f.Receiver
	case f.First == f.Last:
		line += fmt.Sprintf(": %s -> %s, message %d", f.Sender, f.Receiver, f.First)
	default:
		line += fmt.Sprintf(": %s -> %s, messages %d to %d", f.Sender, f.Receiver, f.First, f.Last)
	}
	if f.Note != "" {
		line += " (" + f.Note + ")"
	}
	return line
}

// kinds returns what is to be said about a message that was sent.
func (e entry) kinds(dst []Kind) []Kind {
	answered := e&(acknowledged|refused) != 0
	missing := e&(acknowledged|delivered) == acknowledged
	for _, c := range [...]struct {
		is   bool
		kind Kind
	}{
		{missing && e&told == 0, Lost},
		{missing && e&told != 0, Told},
		{missing && e&vouched != 0, Vouched},
		{e&duplicated != 0, Duplicated},
		{e&reordered != 0, Reordered},
		{e&refused != 0 && e&delivered != 0, Denied},
		{!answered && e&delivered != 0, Unacknowledged},
		{e&again != 0, AnsweredAgain},
		{!answered && e&delivered == 0, Unanswered},
		{e&refused != 0, Refused},
	} {
		if c.is {
			dst = append(dst, c.kind)
		}
	}
	return dst
}

// Findings passes all findings to yield until that returns false: stream by
// stream, neighbours together, then what was foreign. It is meant for the end
// of a run, and holds up the streams that it reads.
func (l *Ledger) Findings(yield func(Finding) bool) {
	l.mu.Lock()
	streams, codes, foreign := slices.Clone(l.streams), slices.Clone(l.codes), slices.Clone(l.foreign)
	l.mu.Unlock()
	for _, s := range streams {
		if !s.findings(codes, yield) {
			return
		}
	}
	for _, f := range foreign {
		if !yield(Finding{Kind: Strange, Receiver: f.At, Note: f.What}) {
			return
		}
	}
}

func (s *Stream) findings(codes []string, yield func(Finding) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var open, next []Finding // that the last entry belongs to, and this one
	var kinds []Kind
	for seq := uint64(1); seq <= s.sent; seq++ {
		e := acknowledged | delivered
		if s.chunks[(seq-1)>>chunkBits] == nil {
			seq += chunkLen - 1 // the whole chunk is clean
		} else {
			e = s.judged(seq)
		}
		kinds, next = e.kinds(kinds[:0]), next[:0]
		for _, k := range kinds {
			f := Finding{Kind: k, Sender: s.sender, Receiver: s.receiver, First: seq, Note: s.note}
			if i := int(e >> codeShift); e&refused != 0 && i < len(codes) {
				f.Code = codes[i]
			}
			if i := slices.IndexFunc(open, func(o Finding) bool { return o.Kind == k && o.Code == f.Code }); i >= 0 {
				f.First = open[i].First
				open = slices.Delete(open, i, i+1)
			}
			f.Last = seq
			next = append(next, f)
		}
		for _, f := range open {
			if !yield(f) {
				return false
			}
		}
		open, next = next, open
	}
	for _, f := range open {
		if !yield(f) {
			return false
		}
	}
	return true
}

// Worst returns at most n findings, broken promises first, and how many there
// are in all. Refusals are not among them: their counts by code say enough.
func (l *Ledger) Worst(n int) (worst []Finding, all int) {
	var rest []Finding
	worst = []Finding{} // an empty list in JSON, not null
	l.Findings(func(f Finding) bool {
		if f.Kind == Refused {
			return true
		}
		all++
		switch {
		case f.Kind.Breaks() && len(worst) < n:
			worst = append(worst, f)
		case !f.Kind.Breaks() && len(rest) < n:
			rest = append(rest, f)
		}
		return true
	})
	return append(worst, rest[:min(len(rest), n-len(worst))]...), all
}
