package relaytest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

const (
	// group is how many messages a test appends at once.
	group = 4
	// groupWindow is how many groups of a test wait for an answer: few, since the
	// embedded Redis takes its time for a script, and all wait for those before.
	groupWindow = 16
)

// many appends groups of messages to a topic from several goroutines of several
// nodes, and waits for the answers.
func many(t *testing.T, ms []*member, topic relay.Topic, groups int) (total int) {
	t.Helper()
	ledger := &Ledger{Window: make(chan struct{}, groupWindow)}
	const goroutines = 2
	var wg sync.WaitGroup
	for k, m := range ms {
		for g := range goroutines {
			wg.Go(func() {
				sender := k*goroutines + g
				for i := range groups {
					var all []relay.Message
					for j := range group {
						all = append(all, relay.Message{Topic: topic, From: fmt.Sprint(sender), Body: []byte(nth(sender, i, j))})
					}
					ledger.Window <- struct{}{}
					m.journal().Append(all, plenty, ledger, Numbered(sender, i))
				}
			})
		}
	}
	wg.Wait()
	answers := len(ms) * goroutines * groups
	Eventually(t, "all is answered", func() bool { return ledger.Len() == answers })
	next := map[int]int{}
	for _, a := range ledger.Answers() {
		sender, i := a.Numbers()
		if a.Err != nil {
			t.Errorf("%d.%d: %v", sender, i, a.Err)
		}
		if i != next[sender] {
			t.Errorf("%d.%d was answered when %d had its turn", sender, i, next[sender])
		}
		next[sender] = i + 1
	}
	return answers * group
}

// together fails the test unless messages that were appended together stand
// together, and those of one sender in their order.
func together(t *testing.T, where string, ms []relay.Message) {
	t.Helper()
	next := map[int]int{}
	for at := 0; at+group <= len(ms); at += group {
		var sender, i, j int
		if _, err := fmt.Sscanf(string(ms[at].Body), "%d.%d.%d", &sender, &i, &j); err != nil {
			t.Fatalf("%s: %q: %v", where, ms[at].Body, err)
		}
		if i != next[sender] {
			t.Fatalf("%s: %q comes when %d had its turn", where, ms[at].Body, next[sender])
		}
		next[sender] = i + 1
		for j := range group {
			if got, want := string(ms[at+j].Body), nth(sender, i, j); got != want {
				t.Fatalf("%s: %q stands where %q belongs", where, got, want)
			}
			if n := at + j; n > 0 && ms[n].ID.Compare(ms[n-1].ID) <= 0 {
				t.Fatalf("%s: %v stands after %v", where, ms[n].ID, ms[n-1].ID)
			}
		}
	}
}

// Many append several messages each to one topic: everywhere those that belong
// together stand together, and all have one order.
func testJournalTogether(t *testing.T, f *fleet) {
	ms := []*member{f.join(), f.join(), f.join()}
	const topic = relay.Topic("chat/together")
	for _, m := range ms {
		m.follow(topic)
	}
	total := many(t, ms, topic, 30)
	kept, n := ms[0].oldest(topic, total+1)
	if len(kept) != total || n != int64(total) {
		t.Fatalf("%d messages are kept, and %d said to be; %d were appended", len(kept), n, total)
	}
	together(t, "the journal", kept)
	for k, m := range ms {
		m.await(topic, total)
		heard := m.Messages(topic)
		if len(heard) != total || m.Gaps() != 0 {
			t.Errorf("node %d heard %d messages and %d gaps, want %d and none", k, len(heard), m.Gaps(), total)
		}
		for i := range kept {
			if heard[i].ID != kept[i].ID {
				t.Fatalf("node %d heard %v in place %d, where the journal has %v", k, heard[i].ID, i, kept[i].ID)
			}
		}
	}
}

// Append and Enqueue of one node share the order of a topic.
func testJournalOrder(t *testing.T, f *fleet) {
	m, to := f.join(), f.join()
	const topic = relay.Topic("chat/order")
	to.follow(topic)
	ledger := &Ledger{Window: make(chan struct{}, groupWindow)}
	var want []string
	const rounds = 100
	for i := range rounds {
		ledger.Window <- struct{}{}
		m.journal().Append([]relay.Message{{Topic: topic, Body: []byte(nth(0, i, 0))}, {Topic: topic, Body: []byte(nth(0, i, 1))}},
			plenty, ledger, Numbered(0, 2*i))
		ledger.Window <- struct{}{}
		m.Enqueue(relay.Message{Topic: topic, Body: []byte(nth(1, i, 0))},
			relay.Retention{Length: plenty, Age: time.Hour}, ledger, Numbered(0, 2*i+1))
		want = append(want, nth(0, i, 0), nth(0, i, 1), nth(1, i, 0))
	}
	to.await(topic, len(want))
	if got := to.Bodies(topic); !slices.Equal(got, want) || to.Gaps() != 0 {
		t.Errorf("heard %q and %d gaps", got, to.Gaps())
	}
	Eventually(t, "all is answered", func() bool { return ledger.Len() == 2*rounds })
	for i, a := range ledger.Answers() {
		if _, n := a.Numbers(); n != i || a.Err != nil {
			t.Errorf("answer %d is that to %d: %v", i, n, a.Err)
		}
	}
}

// While some append and some page, others forget: pages have what is left, in order,
// and subscribers hear everything.
func testJournalForgetInUse(t *testing.T, f *fleet) {
	ms := []*member{f.join(), f.join()}
	const topic = relay.Topic("chat/in-use")
	for _, m := range ms {
		m.follow(topic)
	}
	stop := make(chan struct{})
	var archived []relay.Message
	var wg sync.WaitGroup
	wg.Go(func() { // the mover
		for end := false; ; {
			oldest, total := ms[0].oldest(topic, 7)
			if len(oldest) == 0 && end {
				return
			}
			if int64(len(oldest)) > total {
				t.Errorf("%d are the oldest of %d", len(oldest), total)
			}
			if len(oldest) > 0 {
				archived = append(archived, oldest...)
				ms[0].forget(topic, oldest[len(oldest)-1].ID)
			}
			select {
			case <-stop:
				end = true
			default:
			}
		}
	})
	wg.Go(func() { // the reader
		for {
			select {
			case <-stop:
				return
			default:
			}
			r := ms[1].newest(topic, 5)
			page := r.Messages
			if len(page) > 0 {
				older, _ := ms[1].before(topic, page[len(page)-1].ID, 5)
				page = append(page, older...)
			}
			if !slices.IsSortedFunc(page, func(a, b relay.Message) int { return b.ID.Compare(a.ID) }) {
				t.Errorf("a page is not in order: %q", bodiesOf(page))
			}
		}
	})
	total := many(t, ms, topic, 30)
	close(stop)
	wg.Wait()
	if len(archived) != total {
		t.Errorf("%d messages were moved, %d were appended", len(archived), total)
	}
	together(t, "what was moved", archived)
	for k, m := range ms {
		m.await(topic, total)
		heard := m.Messages(topic)
		together(t, fmt.Sprint("node ", k), heard)
		if len(heard) != total || m.Gaps() != 0 {
			t.Errorf("node %d heard %d messages and %d gaps, want %d and none", k, len(heard), m.Gaps(), total)
		}
	}
}
