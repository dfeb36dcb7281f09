package ledger

// What a gap excuses, in one place:
//
// An acknowledged message that is never delivered is lost silently, unless its
// receiver was told of a gap into which it falls.
//
//   - TellWhole: the receiver is told, as it comes back, that it may have missed
//     something while it was away. All messages sent before that moment fall
//     into the gap.
//   - TellHere: the receiver is told in the midst of its stream. Messages sent
//     before that moment fall into the gap, up to the first that is delivered
//     after it: from there on nothing may be missing.
//
// A message that is sent between the moment when the server sees a gap and the
// moment when the receiver reads of it counts as sent before.
//
// The reverse is Vouch: the receiver is told, as it comes back, that it has
// missed nothing. A message that was acknowledged before that moment, is never
// delivered, and had not been told as a gap, was falsely recovered, whatever the
// receiver is told later.

// Strict sets whether messages sent from now on count in Totals.LostStrict when
// they are acknowledged and never delivered, told or not.
func (l *Ledger) Strict(on bool) { l.strict.Store(on) }

// TellWhole notes that the receiver was told of a gap that ends at this moment.
func (s *Stream) TellWhole() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(s.sent, told)
	s.gap = 0
}

// TellHere notes that the receiver was told of a gap at this place of its
// stream.
func (s *Stream) TellHere() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked = true
	s.gap = s.sent
}

// Vouch notes that the receiver was told that it has missed nothing up to now.
func (s *Stream) Vouch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(s.sent, func(_ uint64, e entry) entry {
		if e&(acknowledged|delivered|told) == acknowledged {
			return e | vouched
		}
		return e
	})
}

// Unvouch takes back what Vouch has noted of messages that have not come yet:
// for a connection that ended before it could have brought them.
func (s *Stream) Unvouch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(s.sent, func(_ uint64, e entry) entry { return e &^ vouched })
}

// SentAgain counts an arrival that the receiver dropped because it has seen the
// message's id.
func (s *Stream) SentAgain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sentAgain++
}

// mark sets a flag of all messages up to a number that have not been delivered.
func (s *Stream) mark(upTo uint64, flag entry) {
	s.each(upTo, func(_ uint64, e entry) entry {
		if e&delivered == 0 {
			return e | flag
		}
		return e
	})
}

// each passes the entries up to a number to change, which returns what becomes
// of them. Chunks that are clean are left out.
func (s *Stream) each(upTo uint64, change func(seq uint64, e entry) entry) {
	s.marked = true
	for seq := uint64(1); seq <= min(upTo, s.sent); seq++ {
		if s.chunks[(seq-1)>>chunkBits] == nil {
			seq += chunkLen - 1
			continue
		}
		e := s.get(seq)
		if changed := change(seq, e); changed != e {
			s.set(seq, changed)
		}
	}
}

// judged returns a message's entry as it counts when nothing else happens: a gap
// that nothing has followed excuses all that was sent before it.
func (s *Stream) judged(seq uint64) entry {
	e := s.get(seq)
	if seq <= s.gap && e&delivered == 0 {
		e |= told
	}
	return e
}

// missing counts messages that were acknowledged and not delivered, by their
// marks.
type missing struct{ told, vouched, strict uint64 }

func (s *Stream) missing() (m missing) {
	if !s.marked {
		return m
	}
	marked := func(e, flag entry) uint64 {
		if e&flag != 0 {
			return 1
		}
		return 0
	}
	s.each(s.sent, func(seq uint64, _ entry) entry {
		if e := s.judged(seq); e&(acknowledged|delivered) == acknowledged {
			m.told += marked(e, told)
			m.vouched += marked(e, vouched)
			m.strict += marked(e, strict)
		}
		return s.get(seq)
	})
	return m
}
