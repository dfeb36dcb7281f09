package relaytest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// RosterNode is a node that runs: a broker with what it has received, and its part in
// who is present.
type RosterNode struct {
	relay.Broker
	relay.Roster
	*Recorder
	Die func()         // ends it without a word, and waits
	End func()         // ends it as a node that is stopped, and waits
	Cut func(off bool) // cuts it off from Redis, or lets it back
}

// RosterBackend is a Redis and the nodes on it. Leases should last for a second or so.
type RosterBackend struct {
	// Open makes one more node and runs it until the test ends. Topics that start with
	// "here/" are not kept.
	Open func(tb testing.TB) *RosterNode
	// Flush has Redis lose all its data.
	Flush func(tb testing.TB)
}

// Roster checks what relay.Roster promises. The parts share the backend and run one
// after the other.
func Roster(t *testing.T, b RosterBackend) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *rosterSuite)
	}{
		{"Transitions", testRosterTransitions},
		{"Undone", testRosterUndone},
		{"Names", testRosterNames},
		{"View", testRosterView},
		{"Death", testRosterDeath},
		{"DeathOfMany", testRosterDeathOfMany},
		{"End", testRosterEnd},
		{"CutOff", testRosterCutOff},
		{"CutOffForLong", testRosterCutOffForLong},
		{"Flush", testRosterFlush},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.test(t, &rosterSuite{b, t, relay.Topic("here/" + part.name)})
		})
	}
}

type rosterSuite struct {
	RosterBackend
	t     *testing.T
	topic relay.Topic
}

// open makes a node that hears the topic.
func (s *rosterSuite) open() *RosterNode {
	s.t.Helper()
	n := s.Open(s.t)
	if _, err := n.Subscribe(s.t.Context(), s.topic); err != nil {
		s.t.Fatalf("Subscribe: %v", err)
	}
	return n
}

// changes are those that a node has heard, as "+alice", and their numbers.
func (s *rosterSuite) changes(n *RosterNode) (all []string, numbers []uint64) {
	for _, m := range n.Messages(s.topic) {
		c, ok := relay.ChangeOf(&m)
		if !ok {
			s.t.Errorf("heard %q, which is no change", m.Body)
			continue
		}
		sign := "-"
		if c.Present {
			sign = "+"
		}
		all, numbers = append(all, sign+m.From), append(numbers, c.Number)
	}
	return all, numbers
}

// heard waits until a node has heard these changes, whose numbers rise by one.
func (s *rosterSuite) heard(n *RosterNode, want ...string) {
	s.t.Helper()
	Eventually(s.t, fmt.Sprintf("%q are heard", want), func() bool { return n.Count(s.topic) >= len(want) })
	got, numbers := s.changes(n)
	if !slices.Equal(got, want) {
		s.t.Errorf("heard %q, want %q", got, want)
	}
	for i := range numbers {
		if i > 0 && numbers[i] != numbers[i-1]+1 {
			s.t.Errorf("the numbers of changes are %d", numbers)
			break
		}
	}
}

// members asks a node who is present, in order.
func (s *rosterSuite) members(n *RosterNode) (members []string, last uint64) {
	s.t.Helper()
	Eventually(s.t, "Redis tells who is present", func() bool {
		var err error
		members, last, err = n.Members(s.t.Context(), s.topic)
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			s.t.Fatalf("Members: %v", err)
		}
		return err == nil
	})
	slices.Sort(members)
	return members, last
}

// present waits until these are, by what a node says.
func (s *rosterSuite) present(n *RosterNode, want ...string) {
	s.t.Helper()
	slices.Sort(want)
	Eventually(s.t, fmt.Sprintf("present are %q", want), func() bool {
		got, _ := s.members(n)
		return slices.Equal(got, want)
	})
}

// The first node that has a member and the last one make a change, once.
func testRosterTransitions(t *testing.T, s *rosterSuite) {
	a, b, c := s.open(), s.open(), s.open()
	if got, last := s.members(c); len(got) != 0 || last != 0 {
		t.Errorf("of a new topic present are %q, the last change is %d", got, last)
	}
	a.Enter(s.topic, "alice")
	s.heard(c, "+alice")
	a.Enter(s.topic, "alice") // again
	b.Enter(s.topic, "alice")
	b.Enter(s.topic, "bob")
	s.heard(c, "+alice", "+bob")
	s.present(c, "alice", "bob")
	a.Leave(s.topic, "alice")
	a.Leave(s.topic, "alice") // again
	a.Leave(s.topic, "bob")   // whom it does not have
	a.Enter(s.topic, "carol")
	s.heard(c, "+alice", "+bob", "+carol")
	b.Leave(s.topic, "alice")
	s.heard(c, "+alice", "+bob", "+carol", "-alice")
	b.Leave(s.topic, "bob")
	s.heard(c, "+alice", "+bob", "+carol", "-alice", "-bob")
	a.Leave(s.topic, "carol")
	for _, n := range []*RosterNode{a, b, c} {
		s.heard(n, "+alice", "+bob", "+carol", "-alice", "-bob", "-carol")
		got, last := s.members(n)
		if _, numbers := s.changes(n); len(got) != 0 || last != numbers[len(numbers)-1] {
			t.Errorf("present are %q, the last change is %d; heard %d", got, last, numbers)
		}
	}
	a.Enter(s.topic, "alice") // the numbers go on
	s.heard(c, "+alice", "+bob", "+carol", "-alice", "-bob", "-carol", "+alice")
}

// Wishes take effect in their order, whatever comes of those in between.
func testRosterUndone(t *testing.T, s *rosterSuite) {
	a, c := s.open(), s.open()
	for range 100 {
		a.Enter(s.topic, "stays")
		a.Leave(s.topic, "goes")
		a.Leave(s.topic, "stays")
		a.Enter(s.topic, "goes")
		a.Enter(s.topic, "stays")
		a.Leave(s.topic, "goes")
	}
	s.present(c, "stays")
	a.Leave(s.topic, "stays")
	a.Enter(s.topic, "goes")
	s.present(c, "goes")
	a.Leave(s.topic, "goes")
	s.present(c)
	view := map[string]bool{}
	all, _ := s.changes(c)
	for _, change := range all {
		if view[change[1:]] == (change[0] == '+') {
			t.Errorf("%s, though it was so before: %q", change, all)
		}
		view[change[1:]] = change[0] == '+'
	}
}

// Members have any bytes, 512 at most.
func testRosterNames(t *testing.T, s *rosterSuite) {
	a, c := s.open(), s.open()
	var want []string
	for _, member := range []string{"\x00", "with space", "ä\n\xff", "+", "-1", strings.Repeat("x", 127), strings.Repeat("x", 128),
		strings.Repeat("y", 255), strings.Repeat("y", 256), strings.Repeat("z", 512)} {
		a.Enter(s.topic, member)
		want = append(want, "+"+member)
		s.heard(c, want...)
	}
	a.Enter(s.topic, "")
	a.Enter(s.topic, strings.Repeat("z", 513))
	a.Enter(s.topic, "last")
	s.heard(c, append(want, "+last")...)
	if m := c.Messages(s.topic)[0]; time.Since(m.Time).Abs() > time.Hour || !m.ID.IsZero() {
		t.Errorf("a change is of %v, at %v", m.Time, m.ID)
	}
}

// Who subscribes, asks for the members, and leaves out changes up to the last, knows
// who is present, at any time.
func testRosterView(t *testing.T, s *rosterSuite) {
	nodes := []*RosterNode{s.open(), s.open()}
	const members, rounds = 12, 600
	var wg sync.WaitGroup
	began := make(chan struct{})
	for k, n := range nodes {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(k), 1))
			for i := range rounds {
				member := fmt.Sprint("member-", r.IntN(members))
				if r.IntN(2) == 0 {
					n.Enter(s.topic, member)
				} else {
					n.Leave(s.topic, member)
				}
				if k == 0 && i == rounds/3 {
					close(began)
				}
				if i%10 == 0 {
					if _, _, err := n.Members(t.Context(), s.topic); err != nil {
						t.Errorf("Members: %v", err)
					}
				}
			}
			for i := range members {
				if i%3 == 0 {
					n.Enter(s.topic, fmt.Sprint("member-", i))
				} else {
					n.Leave(s.topic, fmt.Sprint("member-", i))
				}
			}
		})
	}
	<-began
	c := s.open()
	seen, last := s.members(c)
	view := map[string]bool{}
	for _, member := range seen {
		view[member] = true
	}
	wg.Wait()
	var want []string
	for i := 0; i < members; i += 3 {
		want = append(want, fmt.Sprint("member-", i))
	}
	s.present(c, want...)
	_, end := s.members(c)
	Eventually(t, "the last change is heard", func() bool {
		_, numbers := s.changes(c)
		return last == end || len(numbers) > 0 && numbers[len(numbers)-1] == end
	})
	all, numbers := s.changes(c)
	for i, change := range all {
		if numbers[i] <= last {
			continue
		}
		if numbers[i] != last+1 {
			t.Fatalf("change %d comes after %d", numbers[i], last)
		}
		last++
		if view[change[1:]] == (change[0] == '+') {
			t.Fatalf("%s, though it was so before", change)
		}
		view[change[1:]] = change[0] == '+'
	}
	maps.DeleteFunc(view, func(_ string, present bool) bool { return !present })
	if got := slices.Sorted(maps.Keys(view)); !slices.Equal(got, slices.Sorted(slices.Values(want))) || last != end {
		t.Errorf("by what was heard up to change %d of %d, present are %q, want %q", last, end, got, want)
	}
}

// With a node go the members that it alone has.
func testRosterDeath(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	a.Enter(s.topic, "alone")
	s.heard(b, "+alone")
	a.Enter(s.topic, "shared")
	b.Enter(s.topic, "shared")
	b.Enter(s.topic, "bob")
	s.present(b, "alone", "bob", "shared")
	began := time.Now()
	a.Die()
	s.present(b, "bob", "shared")
	t.Logf("gone %v after their node", time.Since(began).Round(time.Millisecond))
	b.Leave(s.topic, "shared")
	s.present(b, "bob")
	Eventually(t, "all changes are heard", func() bool { return b.Count(s.topic) >= 5 })
	all, _ := s.changes(b)
	if n := len(all); n != 5 || all[n-2] != "-alone" || all[n-1] != "-shared" {
		t.Errorf("heard %q", all)
	}
}

// A node dies that has more members than one script goes through.
func testRosterDeathOfMany(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	const n = 1203
	want := map[string]int{}
	for i := range n {
		a.Enter(s.topic, fmt.Sprint("member-", i))
		want[fmt.Sprint("+member-", i)], want[fmt.Sprint("-member-", i)] = 1, 1
	}
	b.Enter(s.topic, "member-7")
	delete(want, "-member-7")
	Eventually(t, "all have come", func() bool { return b.Count(s.topic) >= n })
	a.Die()
	s.present(b, "member-7")
	Eventually(t, "all have gone", func() bool { return b.Count(s.topic) >= 2*n-1 })
	all, numbers := s.changes(b)
	got := map[string]int{}
	for i, change := range all {
		got[change]++
		if i > 0 && numbers[i] != numbers[i-1]+1 {
			t.Fatalf("change %d comes after %d", numbers[i], numbers[i-1])
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("heard %d changes, of them %d different; want %d, once each", len(all), len(got), len(want))
	}
}

// A node that ends takes its members along, at once.
func testRosterEnd(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	a.Enter(s.topic, "alice")
	a.Enter(s.topic, "shared")
	b.Enter(s.topic, "shared")
	s.present(b, "alice", "shared")
	a.End()
	if got, _ := s.members(b); !slices.Equal(got, []string{"shared"}) {
		t.Errorf("present when the node has ended: %q", got)
	}
	a.Enter(s.topic, "late") // which nobody hears of
	c := s.open()
	c.Enter(s.topic, "carol")
	s.present(b, "carol", "shared")
}

// What a node notes while it is cut off takes effect when it is back.
func testRosterCutOff(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	a.Enter(s.topic, "stays")
	a.Enter(s.topic, "goes")
	s.present(b, "goes", "stays")
	a.Cut(true)
	a.Leave(s.topic, "goes")
	a.Enter(s.topic, "comes")
	a.Cut(false)
	s.present(b, "comes", "stays")
}

// A node that was taken for dead enters its members again when it is back.
func testRosterCutOffForLong(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	a.Enter(s.topic, "alice")
	a.Enter(s.topic, "shared")
	a.Enter(s.topic, "goes")
	b.Enter(s.topic, "shared")
	s.present(b, "alice", "goes", "shared")
	a.Cut(true)
	s.present(b, "shared")
	a.Leave(s.topic, "goes")
	a.Enter(s.topic, "comes")
	a.Cut(false)
	s.present(b, "alice", "comes", "shared")
	b.Leave(s.topic, "shared") // a has it again
	b.Enter(s.topic, "bob")
	s.present(b, "alice", "bob", "comes", "shared")
	a.Die()
	s.present(b, "bob")
}

// What Redis loses the nodes enter again, and the numbers do not come again.
func testRosterFlush(t *testing.T, s *rosterSuite) {
	a, b := s.open(), s.open()
	for i := range 10 {
		a.Enter(s.topic, fmt.Sprint("member-", i))
	}
	a.Enter(s.topic, "shared")
	b.Enter(s.topic, "shared")
	Eventually(t, "all have come", func() bool { got, _ := s.members(b); return len(got) == 11 })
	for i := range 10 {
		a.Leave(s.topic, fmt.Sprint("member-", i))
	}
	a.Enter(s.topic, "alice")
	s.present(b, "alice", "shared")
	_, before := s.members(b)
	heard := 0
	Eventually(t, "the last change is heard", func() bool {
		_, numbers := s.changes(b)
		heard = len(numbers)
		return numbers[heard-1] == before
	})
	s.Flush(t)
	began := time.Now()
	s.present(b, "alice", "shared")
	t.Logf("present again %v after the flush", time.Since(began).Round(time.Millisecond))
	Eventually(t, "the changes are heard", func() bool { return b.Count(s.topic) >= heard+2 })
	_, numbers := s.changes(b)
	if numbers[heard] <= before+1 || !slices.IsSorted(numbers) {
		t.Errorf("the numbers of changes go on with %d after %d: nobody can know that members were lost", numbers[heard], before)
	}
	b.Leave(s.topic, "shared")
	a.Leave(s.topic, "alice")
	s.present(b, "shared")
	a.Die()
	s.present(b)
}
