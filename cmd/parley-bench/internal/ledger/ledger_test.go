package ledger

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
)

// send sends n messages on a fresh stream.
func send(n int) (*Ledger, *Stream) {
	l := New()
	s := l.Open("alice", "bob")
	for range n {
		s.Send()
	}
	return l, s
}

func findings(l *Ledger) (lines []string) {
	l.Findings(func(f Finding) bool {
		lines = append(lines, f.String())
		return true
	})
	return lines
}

func TestEachFateIsToldApart(t *testing.T) {
	for name, c := range map[string]struct {
		events func(*Stream)
		want   Totals
		lines  []string
	}{
		"all well": {
			events: func(s *Stream) {
				for seq := uint64(1); seq <= 3; seq++ {
					s.Acknowledge(seq)
					s.Deliver(seq)
				}
			},
			want: Totals{Sent: 3, Acknowledged: 3, Delivered: 3},
		},
		"lost": {
			events: func(s *Stream) {
				s.Acknowledge(1)
				s.Acknowledge(2)
				s.Acknowledge(3)
				s.Deliver(3)
			},
			want:  Totals{Sent: 3, Acknowledged: 3, Delivered: 1, Lost: 2},
			lines: []string{"lost though acknowledged: alice -> bob, messages 1 to 2"},
		},
		"duplicated, three arrivals": {
			events: func(s *Stream) {
				for range 3 {
					s.Deliver(1)
				}
				s.Acknowledge(1)
				s.Acknowledge(2)
				s.Deliver(2)
				s.Acknowledge(3)
				s.Deliver(3)
			},
			want:  Totals{Sent: 3, Acknowledged: 3, Delivered: 3, Duplicated: 1, Duplicates: 2},
			lines: []string{"duplicated: alice -> bob, message 1"},
		},
		"reordered": {
			events: func(s *Stream) {
				for _, seq := range []uint64{3, 1, 2} {
					s.Acknowledge(seq)
					s.Deliver(seq)
				}
			},
			want:  Totals{Sent: 3, Acknowledged: 3, Delivered: 3, Reordered: 2},
			lines: []string{"reordered: alice -> bob, messages 1 to 2"},
		},
		"refused, and delivered all the same": {
			events: func(s *Stream) {
				s.Refuse(1, "ERATE")
				s.Refuse(2, "EBROKER")
				s.Refuse(3, "EBROKER")
				s.Deliver(3)
			},
			want: Totals{Sent: 3, Refused: 3, RefusedBy: map[string]uint64{"ERATE": 1, "EBROKER": 2},
				Delivered: 1, Unacknowledged: 1, Denied: 1},
			lines: []string{
				"refused with ERATE: alice -> bob, message 1",
				"delivered though refused with EBROKER: alice -> bob, message 3",
				"refused with EBROKER: alice -> bob, messages 2 to 3",
			},
		},
		"unanswered, one of them delivered": {
			events: func(s *Stream) {
				s.Deliver(2)
				s.Note("the sender's connection ended")
			},
			want: Totals{Sent: 3, Unanswered: 3, Delivered: 1, Unacknowledged: 1},
			lines: []string{
				"unanswered: alice -> bob, message 1 (the sender's connection ended)",
				"delivered though unanswered: alice -> bob, message 2 (the sender's connection ended)",
				"unanswered: alice -> bob, message 3 (the sender's connection ended)",
			},
		},
		"answered again": {
			events: func(s *Stream) {
				for seq := uint64(1); seq <= 3; seq++ {
					s.Acknowledge(seq)
					s.Deliver(seq)
				}
				s.Refuse(2, "EINVAL")
				s.Acknowledge(2)
			},
			want:  Totals{Sent: 3, Acknowledged: 3, Delivered: 3, AnsweredAgain: 1},
			lines: []string{"answered more than once: alice -> bob, message 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, s := send(3)
			c.events(s)
			if c.want.RefusedBy == nil {
				c.want.RefusedBy = map[string]uint64{}
			}
			if got := l.Totals(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("totals\n%+v, want\n%+v", got, c.want)
			}
			if got := findings(l); !slices.Equal(got, c.lines) {
				t.Errorf("findings\n%q, want\n%q", got, c.lines)
			}
			broken := c.want.Lost+c.want.Duplicated+c.want.Reordered > 0
			if l.Totals().Kept() == broken {
				t.Errorf("kept is %v, and broken promises %v", !broken, broken)
			}
		})
	}
}

func TestWhatNobodySentIsForeign(t *testing.T) {
	l, s := send(1)
	for _, seq := range []uint64{0, 2, 1 << 40} {
		for name, r := range map[string]Result{
			"delivery": s.Deliver(seq), "acknowledgement": s.Acknowledge(seq), "refusal": s.Refuse(seq, "X"),
		} {
			if r != (Result{}) {
				t.Errorf("%s of message %d, which was not sent: %+v", name, seq, r)
			}
		}
	}
	if got := l.Totals(); got.Sent != 1 || got.Delivered+got.Acknowledged+got.Refused != 0 || !got.Kept() {
		t.Errorf("counted all the same: %+v", got)
	}
	for i := range maxForeign + 5 {
		l.Foreign("bob", "text %d", i)
	}
	if got := l.Totals(); got.Foreign != maxForeign+5 || got.Kept() {
		t.Errorf("foreign %d, kept %v", got.Foreign, got.Kept())
	}
	if lines := findings(l); len(lines) != 1+maxForeign || lines[1] != "foreign at bob (text 0)" {
		t.Errorf("%d findings, the second %q", len(lines), lines[1])
	}
}

func TestWorstNamesBrokenPromisesFirst(t *testing.T) {
	l, s := send(10)
	for seq := uint64(2); seq <= 10; seq += 2 {
		s.Acknowledge(seq) // lost; the odd ones are unanswered
	}
	s.Send()
	s.Refuse(11, "ERATE")
	worst, all := l.Worst(6)
	if all != 10 || len(worst) != 6 {
		t.Fatalf("%d of %d findings", len(worst), all)
	}
	for i, f := range worst {
		if (f.Kind == Lost) != (i < 5) || (f.Kind == Unanswered) != (i == 5) {
			t.Errorf("finding %d is %v", i, f)
		}
	}
}

func TestAWaitEndsOnce(t *testing.T) {
	_, s := send(8)
	frees := func(r Result) int {
		if r.Frees {
			return 1
		}
		return 0
	}
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"delivered, acknowledged, delivered", frees(s.Deliver(1)) + frees(s.Acknowledge(1)) + frees(s.Deliver(1)), 1},
		{"refused, refused, delivered", frees(s.Refuse(2, "X")) + frees(s.Refuse(2, "X")) + frees(s.Deliver(2)), 1},
		{"delivered, refused", frees(s.Deliver(3)) + frees(s.Refuse(3, "X")), 1},
		{"abandoned (4 to 6)", s.Abandon(6), 3},
		{"abandoned again", s.Abandon(6), 0},
		{"delivered late", frees(s.Acknowledge(4)) + frees(s.Deliver(4)), 0},
		{"refused late", frees(s.Refuse(5, "X")), 0},
		{"beyond what was sent", s.Abandon(100), 2},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
		}
	}
	if r := s.Deliver(8); r.Frees || !r.First {
		t.Errorf("delivery of an abandoned message: %+v", r)
	}
}

// TestAgainstAModel plays random events into the ledger and into a plain list
// of everything, and compares.
func TestAgainstAModel(t *testing.T) {
	type message struct {
		acked, refused, again, late bool
		code                        string
		arrivals                    int
	}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		l := New()
		streams := []*Stream{l.Open("a", "b"), l.Open("c", "d")}
		model := make([][]message, len(streams))
		highest := make([]int, len(streams))
		for range 20000 {
			k := rng.IntN(len(streams))
			s, sent := streams[k], len(model[k])
			if sent == 0 || rng.IntN(3) == 0 {
				if got := s.Send(); got != uint64(sent+1) {
					t.Fatalf("sequence number %d after %d messages", got, sent)
				}
				model[k] = append(model[k], message{})
				continue
			}
			// Mostly the next message in order, so that chunks do become clean.
			at := rng.IntN(sent)
			if rng.IntN(50) != 0 {
				for at = max(sent-20, 0); at < sent-1 && model[k][at].arrivals > 0 && model[k][at].acked; at++ {
				}
			}
			m, seq := &model[k][at], uint64(at+1)
			switch p := rng.IntN(100); {
			case p < 50:
				s.Deliver(seq)
				if m.arrivals++; m.arrivals == 1 {
					m.late = at+1 < highest[k]
					highest[k] = max(highest[k], at+1)
				}
			case p < 99:
				s.Acknowledge(seq)
				m.again = m.again || m.acked || m.refused
				m.acked = m.acked || !m.refused
			default:
				code := fmt.Sprintf("E%d", rng.IntN(3))
				s.Refuse(seq, code)
				m.again = m.again || m.acked || m.refused
				if !m.acked && !m.refused {
					m.refused, m.code = true, code
				}
			}
		}
		want := Totals{RefusedBy: map[string]uint64{}}
		unsettled := uint64(0)
		byKind := map[Kind]uint64{}
		count := func(is bool, n *uint64, kind Kind) {
			if is {
				*n++
				byKind[kind]++
			}
		}
		var ignored uint64
		for _, messages := range model {
			for _, m := range messages {
				answered, arrived := m.acked || m.refused, m.arrivals > 0
				want.Sent++
				if m.acked {
					want.Acknowledged++
				}
				if arrived {
					want.Delivered++
					want.Duplicates += uint64(m.arrivals - 1)
				}
				if !answered {
					want.Unanswered++
				}
				if arrived && !m.acked {
					want.Unacknowledged++
				}
				if m.refused {
					want.RefusedBy[m.code]++
				}
				if !m.refused && !(m.acked && arrived) {
					unsettled++
				}
				count(m.refused, &want.Refused, Refused)
				count(m.arrivals > 1, &want.Duplicated, Duplicated)
				count(m.late, &want.Reordered, Reordered)
				count(m.acked && !arrived, &want.Lost, Lost)
				count(m.refused && arrived, &want.Denied, Denied)
				count(m.again, &want.AnsweredAgain, AnsweredAgain)
				count(!answered && !arrived, &ignored, Unanswered)
				count(!answered && arrived, &ignored, Unacknowledged)
			}
		}
		if got := l.Totals(); !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: totals\n%+v, want\n%+v", seed, got, want)
		}
		if got := l.Unsettled(); got != unsettled {
			t.Fatalf("seed %d: %d unsettled, want %d", seed, got, unsettled)
		}
		found := map[Kind]uint64{}
		l.Findings(func(f Finding) bool {
			found[f.Kind] += f.Messages()
			return true
		})
		if !reflect.DeepEqual(found, byKind) {
			t.Fatalf("seed %d: findings %v, want %v", seed, found, byKind)
		}
	}
}

func TestCleanMessagesCostNoMemory(t *testing.T) {
	l := New()
	s := l.Open("a", "b")
	const n = 100 * chunkLen
	for range n {
		seq := s.Send()
		s.Acknowledge(seq)
		s.Deliver(seq)
	}
	kept := 0
	for _, c := range s.chunks {
		if c != nil {
			kept++
		}
	}
	if kept != 0 {
		t.Errorf("%d of %d chunks are kept", kept, len(s.chunks))
	}
	s.Deliver(3*chunkLen + 7)
	s.Deliver(1)
	s.Acknowledge(n)
	want := []string{
		"duplicated: a -> b, message 1",
		fmt.Sprintf("duplicated: a -> b, message %d", 3*chunkLen+7),
		fmt.Sprintf("answered more than once: a -> b, message %d", n),
	}
	if got := findings(l); !slices.Equal(got, want) {
		t.Errorf("after the chunks were dropped: %q, want %q", got, want)
	}
	if got := testing.AllocsPerRun(50*chunkLen, func() {
		seq := s.Send()
		s.Acknowledge(seq)
		s.Deliver(seq)
	}); got != 0 {
		t.Errorf("%v allocations a message", got)
	}
}

func TestManyCodesEndInOther(t *testing.T) {
	l, s := send(300)
	for i := range uint64(300) {
		s.Refuse(i+1, fmt.Sprintf("E%d", i))
	}
	got := l.Totals()
	if got.Refused != 300 || len(got.RefusedBy) != maxCodes || got.RefusedBy["other"] != 300-(maxCodes-1) || got.RefusedBy["E0"] != 1 {
		t.Errorf("%d refusals by %d codes, other %d", got.Refused, len(got.RefusedBy), got.RefusedBy["other"])
	}
	if codes := got.Codes(); !slices.IsSorted(codes) || len(codes) != maxCodes {
		t.Errorf("%d codes, sorted %v", len(codes), slices.IsSorted(codes))
	}
}

func TestSendersReceiversAndReadersAtOnce(t *testing.T) {
	l := New()
	var wg sync.WaitGroup
	const n = 5000
	for i := range 4 {
		s := l.Open(fmt.Sprint(i), "x")
		sent := make(chan uint64, 16)
		acks := make(chan uint64, 16)
		wg.Go(func() {
			for range n {
				seq := s.Send()
				sent <- seq
				acks <- seq
			}
			close(sent)
			close(acks)
		})
		wg.Go(func() {
			for seq := range sent {
				s.Deliver(seq)
			}
		})
		wg.Go(func() {
			for seq := range acks {
				s.Acknowledge(seq)
			}
		})
	}
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			if got := l.Totals(); got.Delivered > got.Sent || got.Acknowledged > got.Sent {
				t.Errorf("more came than was sent: %+v", got)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-watched
	if got := l.Totals(); got.Sent != 4*n || got.Delivered != 4*n || !got.Kept() || l.Unsettled() != 0 || len(findings(l)) != 0 {
		t.Errorf("at the end %+v, %d unsettled", got, l.Unsettled())
	}
}
