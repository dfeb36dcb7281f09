package ledger

import "sync"

// entry is what happened to one message.
type entry uint32

const (
	acknowledged entry = 1 << iota
	refused
	delivered
	duplicated
	reordered
	abandoned // its sender waits for it no longer
	again     // answered more than once
	told      // its receiver was told that it may be missing
	vouched   // its receiver was told that it is not missing
	strict    // sent while Ledger.Strict was on

	codeShift = 16 // the error code's index is in the byte from here on
)

// clean tells that nothing is left to be said about the message.
func (e entry) clean() bool {
	return e&^(abandoned|told|vouched|strict) == acknowledged|delivered
}

func (e entry) settled() bool {
	return e&refused != 0 || e&(acknowledged|delivered) == acknowledged|delivered
}

const (
	chunkBits = 9
	chunkLen  = 1 << chunkBits
)

// chunk holds neighbours. One that holds clean entries only is not kept.
type chunk struct {
	clean   int
	entries [chunkLen]entry
}

// Stream is the account of one sender's messages to one receiver. Its messages
// are numbered from 1. All methods may be called by any goroutine.
type Stream struct {
	// Fixed after construction.
	ledger           *Ledger
	sender, receiver string

	mu      sync.Mutex
	chunks  []*chunk // nil: clean
	spare   *chunk
	sent    uint64
	highest uint64 // the highest number that was delivered
	floor   uint64 // no message up to here is waited for by Abandon

	settled              uint64
	acked, both          uint64
	delivered            uint64
	duplicated, arrivals uint64 // messages, and arrivals after the first
	reordered            uint64
	refusals, denied     uint64
	refused              map[uint8]uint64
	answeredAgain        uint64
	sentAgain            uint64
	gap                  uint64 // a gap was told when this was the last number sent, and nothing has come since
	marked               bool   // Tell, Vouch or Ledger.Strict has marked something
	note                 string
}

// Send counts one more message as sent and returns its number. It is called
// before the message is written, since an answer may overtake what follows.
// Who calls it must write messages in the order of their numbers.
func (s *Stream) Send() (seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent&(chunkLen-1) == 0 {
		c := s.spare
		if s.spare = nil; c == nil {
			c = new(chunk)
		} else {
			*c = chunk{}
		}
		s.chunks = append(s.chunks, c)
	}
	s.sent++
	if s.ledger.strict.Load() {
		s.marked = true
		s.set(s.sent, strict)
	}
	return s.sent
}

// Sent returns the number of the last message that was sent, 0 before the first.
func (s *Stream) Sent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}

// Progress tells how many messages are neither refused nor both acknowledged and
// delivered, and counts all that has happened to messages that were sent: while
// that stands still, nothing happens.
func (s *Stream) Progress() (unsettled, events uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent - s.settled, s.acked + s.refusals + s.delivered + s.arrivals + s.sentAgain
}

// get returns the entry of a message that was sent.
func (s *Stream) get(seq uint64) entry {
	i := seq - 1
	if c := s.chunks[i>>chunkBits]; c != nil {
		return c.entries[i&(chunkLen-1)]
	}
	return acknowledged | delivered
}

// set replaces an entry, and drops or restores its chunk.
func (s *Stream) set(seq uint64, e entry) {
	i := seq - 1
	c := s.chunks[i>>chunkBits]
	if c == nil {
		c = &chunk{clean: chunkLen}
		for k := range c.entries {
			c.entries[k] = acknowledged | delivered
		}
		s.chunks[i>>chunkBits] = c
	}
	was := c.entries[i&(chunkLen-1)]
	c.entries[i&(chunkLen-1)] = e
	if e.settled() && !was.settled() {
		s.settled++
	}
	switch {
	case e.clean() && !was.clean():
		if c.clean++; c.clean == chunkLen {
			s.chunks[i>>chunkBits] = nil
			s.spare = c
		}
	case !e.clean() && was.clean():
		c.clean--
	}
}

// known tells whether a message with this number was sent.
func (s *Stream) known(seq uint64) bool { return seq >= 1 && seq <= s.sent }

// Result is what the ledger makes of an event.
type Result struct {
	// Known is false when no message with this number was sent; nothing was
	// counted, and the caller notes something Foreign.
	Known bool
	// First is true when the event is the first of its kind for the message.
	First bool
	// Frees is true for the one event that ends the sender's wait for the
	// message: its delivery or refusal, whichever is first, unless it was
	// abandoned.
	Frees bool
	// Settles is true for the one event by which the message is both
	// acknowledged and delivered.
	Settles bool
}

// Acknowledge counts an acknowledgement.
func (s *Stream) Acknowledge(seq uint64) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(seq) {
		return Result{}
	}
	e := s.get(seq)
	if e&(acknowledged|refused) != 0 {
		s.answerAgain(seq, e)
		return Result{Known: true}
	}
	s.acked++
	if e&delivered != 0 {
		s.both++
	}
	s.set(seq, e|acknowledged)
	return Result{Known: true, First: true, Settles: e&delivered != 0}
}

// Refuse counts an error answer.
func (s *Stream) Refuse(seq uint64, code string) Result {
	index := s.ledger.code(code)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(seq) {
		return Result{}
	}
	e := s.get(seq)
	if e&(acknowledged|refused) != 0 {
		s.answerAgain(seq, e)
		return Result{Known: true}
	}
	s.refusals++
	s.refused[index]++
	if e&delivered != 0 {
		s.denied++
	}
	s.set(seq, e|refused|entry(index)<<codeShift)
	return Result{Known: true, First: true, Frees: e&(delivered|abandoned) == 0}
}

func (s *Stream) answerAgain(seq uint64, e entry) {
	if e&again == 0 {
		s.answeredAgain++
		s.set(seq, e|again)
	}
}

// Deliver counts an arrival at the receiver.
func (s *Stream) Deliver(seq uint64) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known(seq) {
		return Result{}
	}
	e := s.get(seq)
	if e&delivered != 0 {
		s.arrivals++
		if e&duplicated == 0 {
			s.duplicated++
			s.set(seq, e|duplicated)
		}
		return Result{Known: true}
	}
	s.delivered++
	if e&acknowledged != 0 {
		s.both++
	}
	if e&refused != 0 {
		s.denied++
	}
	if s.gap > 0 { // what was sent before this one is what the gap may lack
		s.mark(min(s.gap, seq-1), told)
		s.gap = 0
	}
	r := Result{Known: true, First: true, Frees: e&(refused|abandoned) == 0, Settles: e&acknowledged != 0}
	e |= delivered
	if seq < s.highest {
		s.reordered++
		e |= reordered
	} else {
		s.highest = seq
	}
	s.set(seq, e)
	return r
}

// Abandon ends the sender's wait for all messages up to a number that have
// been neither delivered nor refused, and returns how many these are. The
// ledger goes on to count what happens to them.
func (s *Stream) Abandon(upTo uint64) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for seq := s.floor + 1; seq <= min(upTo, s.sent); seq++ {
		if e := s.get(seq); e&(delivered|refused|abandoned) == 0 {
			s.set(seq, e|abandoned)
			n++
		}
		s.floor = seq
	}
	return n
}

// Note says what happened to the stream as a whole, such as a connection that
// ended; findings of the stream carry it. The first note stays.
func (s *Stream) Note(note string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.note == "" {
		s.note = note
	}
}

func (s *Stream) addTo(t *Totals, by map[uint8]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Sent += s.sent
	t.Acknowledged += s.acked
	t.Refused += s.refusals
	t.Unanswered += s.sent - s.acked - s.refusals
	t.Delivered += s.delivered
	t.Duplicated += s.duplicated
	t.Duplicates += s.arrivals
	t.Reordered += s.reordered
	missing := s.missing()
	t.Lost += s.acked - s.both - missing.told
	t.Told += missing.told
	t.FalselyRecovered += missing.vouched
	t.LostStrict += missing.strict
	t.SentAgain += s.sentAgain
	t.Unacknowledged += s.delivered - s.both
	t.Denied += s.denied
	t.AnsweredAgain += s.answeredAgain
	for code, n := range s.refused {
		by[code] += n
	}
}
