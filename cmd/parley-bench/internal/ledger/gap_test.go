package ledger

import "testing"

// acked sends n messages that are all acknowledged.
func acked(n int) (*Ledger, *Stream) {
	l, s := send(n)
	for seq := range uint64(n) {
		s.Acknowledge(seq + 1)
	}
	return l, s
}

func TestWhatAGapExcuses(t *testing.T) {
	deliver := func(s *Stream, seqs ...uint64) {
		for _, seq := range seqs {
			s.Deliver(seq)
		}
	}
	more := func(s *Stream) {
		s.Acknowledge(s.Send())
	}
	for name, c := range map[string]struct {
		play       func(*Stream)
		told, lost uint64
	}{
		"nothing told":                {func(s *Stream) { deliver(s, 1, 2, 5) }, 0, 2},
		"told on coming back":         {func(s *Stream) { deliver(s, 1); s.TellWhole(); deliver(s, 3, 5) }, 2, 0},
		"sent after that":             {func(s *Stream) { deliver(s, 1, 2, 3, 4, 5); s.TellWhole(); more(s) }, 0, 1},
		"told in place":               {func(s *Stream) { deliver(s, 1, 2); s.TellHere(); deliver(s, 5) }, 2, 0},
		"missing behind the place":    {func(s *Stream) { deliver(s, 1); s.TellHere(); deliver(s, 3, 5) }, 1, 1},
		"nothing came after it":       {func(s *Stream) { deliver(s, 1, 2); s.TellHere() }, 3, 0},
		"sent after the place":        {func(s *Stream) { deliver(s, 1, 2); s.TellHere(); more(s) }, 3, 1},
		"told twice in place":         {func(s *Stream) { deliver(s, 1); s.TellHere(); more(s); s.TellHere() }, 5, 0},
		"told in place, then wholly":  {func(s *Stream) { deliver(s, 1); s.TellHere(); more(s); s.TellWhole(); deliver(s, 3) }, 4, 0},
		"delivered all the same":      {func(s *Stream) { s.TellWhole(); deliver(s, 1, 2, 3, 4, 5) }, 0, 0},
		"acknowledged after the gap":  {func(s *Stream) { s.Send(); s.TellWhole(); s.Acknowledge(6) }, 6, 0},
		"unanswered is not lost":      {func(s *Stream) { deliver(s, 1, 2, 3, 4, 5); s.Send(); s.TellWhole() }, 0, 0},
		"a second gap, further along": {func(s *Stream) { s.TellHere(); deliver(s, 2); s.TellHere(); deliver(s, 4) }, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := acked(5)
			c.play(s)
			got := l.Totals()
			if got.Told != c.told || got.Lost != c.lost {
				t.Errorf("told %d, lost silently %d; want %d and %d", got.Told, got.Lost, c.told, c.lost)
			}
			if got.Kept() != (c.lost == 0) {
				t.Errorf("kept: %v with %d lost", got.Kept(), c.lost)
			}
			found := map[Kind]uint64{}
			l.Findings(func(f Finding) bool { found[f.Kind] += f.Messages(); return true })
			if found[Told] != c.told || found[Lost] != c.lost {
				t.Errorf("found %v", found)
			}
		})
	}
}

func TestAFalseRecoveryIsOneWhateverIsToldLater(t *testing.T) {
	for name, c := range map[string]struct {
		play func(*Stream)
		want uint64
	}{
		"all came":        {func(s *Stream) { s.Vouch(); s.Deliver(1); s.Deliver(2); s.Deliver(3) }, 0},
		"one did not":     {func(s *Stream) { s.Vouch(); s.Deliver(1); s.Deliver(3) }, 1},
		"told afterwards": {func(s *Stream) { s.Vouch(); s.Deliver(1); s.Deliver(3); s.TellWhole() }, 1},
		"told before":     {func(s *Stream) { s.TellWhole(); s.Vouch() }, 0},
		"taken back":      {func(s *Stream) { s.Vouch(); s.Unvouch(); s.TellWhole() }, 0},
		"acknowledged only later": {func(s *Stream) {
			s.Deliver(1)
			s.Deliver(2)
			s.Deliver(3)
			s.Send()
			s.Vouch()
			s.Acknowledge(4)
		}, 0},
		"told in place after it came": {func(s *Stream) { s.Vouch(); s.TellHere(); s.Deliver(3) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := acked(3)
			c.play(s)
			got := l.Totals()
			if got.FalselyRecovered != c.want {
				t.Errorf("%d falsely recovered, want %d", got.FalselyRecovered, c.want)
			}
			if got.Kept() != (c.want == 0 && got.Lost == 0) {
				t.Errorf("kept: %v with %+v", got.Kept(), got)
			}
		})
	}
}

func TestStrictTimesCountWhatIsToldToo(t *testing.T) {
	l, s := acked(2)
	l.Strict(true)
	for range 4 {
		s.Acknowledge(s.Send())
	}
	l.Strict(false)
	s.Acknowledge(s.Send())
	s.Deliver(3)
	s.TellWhole()
	s.Deliver(6)
	if got := l.Totals(); got.LostStrict != 2 || got.Told != 5 || got.Lost != 0 {
		t.Errorf("lost in strict times %d, told %d, lost %d; want 2, 5, 0", got.LostStrict, got.Told, got.Lost)
	}
	for _, seq := range []uint64{4, 5} {
		s.Deliver(seq)
	}
	if got := l.Totals(); got.LostStrict != 0 {
		t.Errorf("lost in strict times %d after all came", got.LostStrict)
	}
}

func TestSettlesOnceAndSentAgainIsNoDuplicate(t *testing.T) {
	l, s := send(2)
	if s.Acknowledge(1).Settles || !s.Deliver(1).Settles || s.Deliver(2).Settles || !s.Acknowledge(2).Settles {
		t.Error("the second of acknowledgement and delivery settles, and no other")
	}
	s.SentAgain()
	if got := l.Totals(); got.SentAgain != 1 || got.Duplicated != 0 || !got.Kept() {
		t.Errorf("%+v", got)
	}
}
