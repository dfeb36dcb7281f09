package redisbus_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file have Redis fail while it keeps journals: what was accepted is
// there, or Intact tells that it may not be.

const enough = 1 << 20 // messages: more than any test appends

func joinJournal(t *testing.T, o redisbus.Options) *node {
	t.Helper()
	n := joinBus(t, openWith(t, o))
	ready(t, n)
	return n
}

// appends appends messages, as often as it takes.
func (n *node) appends(t *testing.T, topic relay.Topic, bodies ...string) (last relay.ID) {
	t.Helper()
	relaytest.Eventually(t, "messages are accepted", func() bool {
		var err error
		last, err = relaytest.Append(t, n, topic, enough, bodies...)
		return err == nil
	})
	return last
}

// newest reads the end of a topic, as often as it takes.
func (n *node) newest(t *testing.T, topic relay.Topic, count int) (r relay.Recent) {
	t.Helper()
	relaytest.Eventually(t, "the journal can be read", func() bool {
		var err error
		r, err = n.Newest(t.Context(), topic, count)
		return err == nil
	})
	return r
}

// lost tells whether who has followed the topic up to a place is told that something
// may be lost.
func (n *node) lost(t *testing.T, topic relay.Topic, place relay.ID) bool {
	t.Helper()
	return place.Compare(n.newest(t, topic, 1).Intact) < 0
}

// A flush loses what was kept, and Intact tells so at once, whether something was
// appended since or not; a topic that begins after it is whole.
func TestJournalFlush(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := joinJournal(t, journalOptions(r.URL()))
	const topic, quiet = relay.Topic("chat/flushed"), relay.Topic("chat/quiet")
	before := n.appends(t, topic, "0", "1")
	if n.lost(t, topic, before) {
		t.Error("something is said to be lost before it is")
	}
	quietly := n.appends(t, quiet, "0")
	if err := admin(t, r).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if !n.lost(t, topic, before) || !n.lost(t, quiet, quietly) {
		t.Error("nothing is said to be lost right after the flush")
	}
	relaytest.Eventually(t, "the history has another name", func() bool {
		text, err := admin(t, r).Get(t.Context(), "parley:epoch").Result()
		return err == nil && text != ""
	})
	if !n.lost(t, topic, before) || !n.lost(t, quiet, quietly) {
		t.Error("nothing is said to be lost when the history has another name")
	}
	after := n.appends(t, topic, "2")
	if !n.lost(t, topic, before) {
		t.Error("nothing is said to be lost when the topic goes on")
	}
	relaytest.Eventually(t, "who follows from after the flush has everything", func() bool {
		after = n.appends(t, topic, "3")
		return !n.lost(t, topic, after)
	})
	last := n.appends(t, topic, "4")
	if n.lost(t, topic, after) || n.lost(t, topic, last) || !n.lost(t, topic, before) {
		t.Errorf("intact from %v; it went on at %v", n.newest(t, topic, 1).Intact, after)
	}
}

// A restart without persistence does the same.
func TestJournalRestart(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := joinJournal(t, journalOptions(r.URL()))
	const topic = relay.Topic("chat/restarted")
	before := n.appends(t, topic, "0", "1")
	r.Restart(t)
	if !n.lost(t, topic, before) {
		t.Error("nothing is said to be lost")
	}
	after := n.appends(t, topic, "2")
	if !n.lost(t, topic, before) || n.lost(t, topic, after) {
		t.Errorf("intact from %v; it went on at %v", n.newest(t, topic, 1).Intact, after)
	}
}

// A server that keeps its data on disk is killed while messages are appended, and
// comes back: of the messages that were appended together all are there or none, what
// was lost is told, and what is there is in order.
func TestJournalOutlivesKilledRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedisWith(t, redisproc.Options{Dir: t.TempDir(), AppendOnly: true})
	n := joinJournal(t, journalOptions(r.URL()))
	const topic = relay.Topic("chat/killed")
	n.subscribe(t, topic)
	stop := make(chan struct{})
	var mu sync.Mutex
	accepted := map[int]relay.ID{}
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			id, err := relaytest.Append(t, n, topic, enough, fmt.Sprint(i, ".0"), fmt.Sprint(i, ".1"), fmt.Sprint(i, ".2"))
			if err == nil {
				mu.Lock()
				accepted[i] = id
				mu.Unlock()
			} else if !errors.Is(err, relay.ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
		}
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(accepted)
	}
	var before relay.ID
	for range 3 {
		mark := count()
		relaytest.Eventually(t, "messages are accepted", func() bool { return count() > mark+50 })
		mu.Lock()
		for _, id := range accepted {
			if id.Compare(before) > 0 {
				before = id
			}
		}
		mu.Unlock()
		r.Restart(t)
	}
	mark := count()
	relaytest.Eventually(t, "messages are accepted again", func() bool { return count() > mark+50 })
	end()
	kept, total, err := n.Oldest(t.Context(), topic, enough)
	if err != nil || total != int64(len(kept)) || total%3 != 0 {
		t.Fatalf("%d messages are kept, %d said to be (%v)", len(kept), total, err)
	}
	intact := n.newest(t, topic, 1).Intact
	if before.Compare(intact) >= 0 {
		t.Errorf("nothing is said to be lost after %v", before)
	}
	there := map[int]bool{}
	last := -1
	for at := 0; at < len(kept); at += 3 {
		first, _, _ := strings.Cut(string(kept[at].Body), ".")
		i, _ := strconv.Atoi(first)
		for k := range 3 {
			if got, want := string(kept[at+k].Body), fmt.Sprint(i, ".", k); got != want {
				t.Fatalf("%q stands where %q belongs", got, want)
			}
		}
		if i <= last {
			t.Fatalf("%d stands after %d", i, last)
		}
		last, there[i] = i, true
	}
	lost := 0
	for i, id := range accepted {
		if !there[i] {
			lost++
			if id.Compare(intact) >= 0 {
				t.Errorf("%d was accepted at %v and is lost, though all is said to be intact from %v", i, id, intact)
			}
		}
	}
	t.Logf("%d of %d were lost, and told", lost, len(accepted))
}

// A master dies, and with it perhaps what its replica did not have: Intact tells so,
// and is settled some seconds later.
func TestJournalFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	n := joinJournal(t, journalOptions(s.URL()))
	const topic = relay.Topic("chat/failover")
	before := n.appends(t, topic, "0", "1")
	master, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.Client().Wait(t.Context(), 2, 0).Result(); err != nil { // so that the topic goes on
		t.Fatal(err)
	}
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "it is told", func() bool { return n.lost(t, topic, before) })
	after := n.appends(t, topic, "2")
	if !n.lost(t, topic, before) {
		t.Error("nothing is said to be lost when the topic goes on")
	}
	if !n.lost(t, topic, after) {
		t.Error("all is said to be intact, while another node may still write to the old master")
	}
	relaytest.Eventually(t, "who follows from now has everything", func() bool {
		after = n.appends(t, topic, "3")
		return !n.lost(t, topic, after)
	})
	if r := n.newest(t, topic, 1); r.Intact != after {
		t.Errorf("intact from %v, want %v", r.Intact, after)
	}
}

// When all replicas had to have what counted, a failover loses nothing, and nobody is
// told that it has.
func TestJournalFailoverWithWaiting(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	o := journalOptions(s.URL())
	o.WaitReplicas, o.WaitTimeout = 2, time.Second
	n := joinJournal(t, o)
	const topic = relay.Topic("chat/waiting")
	before := n.appends(t, topic, "0", "1")
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := n.newest(t, topic, 10)
	if len(r.Messages) != 2 || r.Messages[0].ID != before || n.lost(t, topic, before) {
		t.Errorf("%d messages after the failover, intact from %v", len(r.Messages), r.Intact)
	}
}

// Replicas that are not there are an error for the sender.
func TestJournalTooFewReplicas(t *testing.T) {
	relaytest.NoLeaks(t)
	o := journalOptions(relaytest.StartRedis(t).URL())
	o.WaitReplicas, o.WaitTimeout = 1, 100*time.Millisecond
	n := joinJournal(t, o)
	if _, err := relaytest.Append(t, n, "chat/a", enough, "0", "1"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("error = %v, want one that is ErrUnavailable", err)
	}
	if _, err := relaytest.Append(t, n, "chat/a", 0, "0", "1"); !errors.Is(err, relay.ErrFull) {
		t.Errorf("error = %v, want one that is ErrFull", err)
	}
}

// A Redis without room refuses all of an append, or takes all of it.
func TestJournalWithoutMemory(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	n := joinJournal(t, journalOptions(r.URL()))
	const topic = relay.Topic("chat/memory")
	n.subscribe(t, topic)
	n.appends(t, topic, "0", "1")
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := relaytest.Append(t, n, topic, enough, "2", "3"); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("error = %v, want one that is ErrUnavailable", err)
	}
	if _, total, err := n.Oldest(t.Context(), topic, 1); err != nil || total != 2 {
		t.Errorf("%d messages (%v), want 2", total, err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	n.appends(t, topic, "4", "5")
	relaytest.Eventually(t, "the rest comes", func() bool { return n.Count(topic) >= 4 })
	if got := n.Bodies(topic); !slices.Equal(got, []string{"0", "1", "4", "5"}) || n.Gaps() != 0 {
		t.Errorf("heard %q and %d gaps", got, n.Gaps())
	}
}

// A key of another kind refuses all of an append.
func TestJournalOfAnotherKind(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	n := joinJournal(t, journalOptions(r.URL()))
	for i, kind := range []string{"s:", "h:", "b:"} {
		topic := relay.Topic(fmt.Sprint("chat/kind-", i))
		if err := c.SAdd(t.Context(), "parley:"+kind+string(topic), "x").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := relaytest.Append(t, n, topic, enough, "0", "1"); !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s: error = %v, want one that is ErrUnavailable", kind, err)
		}
		keys, err := c.Keys(t.Context(), "parley:?:"+string(topic)).Result()
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: keys %q (%v), want the one that was there", kind, keys, err)
		}
	}
}

// Scripts that Redis has forgotten are loaded again.
func TestJournalScriptsForgotten(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := joinJournal(t, journalOptions(r.URL()))
	const topic = relay.Topic("chat/scripts")
	forget := func() {
		t.Helper()
		if err := admin(t, r).ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	forget()
	if _, err := relaytest.Append(t, n, topic, enough, "0", "1"); err != nil {
		t.Error(err)
	}
	forget()
	if r, err := n.Newest(t.Context(), topic, 10); err != nil || len(r.Messages) != 2 {
		t.Errorf("read %v, %v", r, err)
	}
	forget()
	if ms, total, err := n.Oldest(t.Context(), topic, 10); err != nil || len(ms) != 2 || total != 2 {
		t.Errorf("read %v of %d, %v", ms, total, err)
	}
}

// What was missed is read from the stream; when it was forgotten meanwhile, there is a
// gap.
func TestJournalHoles(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	from, to := joinJournal(t, journalOptions(r.URL())), joinJournal(t, journalOptions(r.URL()))
	const topic = relay.Topic("chat/holes")
	to.subscribe(t, topic)
	from.appends(t, topic, "0", "1")
	heard := func(want ...string) {
		t.Helper()
		relaytest.Eventually(t, fmt.Sprintf("%q have come", want), func() bool { return len(to.Events(topic)) >= len(want) })
		if got := shown(to.Events(topic)); !slices.Equal(got, want) {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	heard("0", "1")
	missWhile(t, r, to, func() { from.appends(t, topic, "2", "3", "4") })
	heard("0", "1", "2", "3", "4")
	missWhile(t, r, to, func() {
		last := from.appends(t, topic, "5", "6")
		if err := from.Forget(t.Context(), topic, last); err != nil {
			t.Fatal(err)
		}
		from.appends(t, topic, "7")
	})
	heard("0", "1", "2", "3", "4", "gap", "7")
	if to.lost(t, topic, from.newest(t, topic, 1).Messages[0].ID) {
		t.Error("what was forgotten is said to be lost")
	}
}

// Slots move to other masters while messages are appended: everything comes, together
// and once.
func TestJournalClusterReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Replicas: -1})
	from, to := joinJournal(t, journalOptions(c.URL())), joinJournal(t, journalOptions(c.URL()))
	const topic = relay.Topic("chat/moved")
	to.subscribe(t, topic)
	from.appends(t, topic, "first")
	before := from.newest(t, topic, 1).Intact
	stop := make(chan struct{})
	var accepted []string
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			bodies := []string{fmt.Sprint(i, ".0"), fmt.Sprint(i, ".1")}
			if _, err := relaytest.Append(t, from, topic, enough, bodies...); err == nil {
				accepted = append(accepted, bodies...)
			} else {
				t.Logf("%d: %v", i, err) // it may come nevertheless
			}
		}
	})
	for range 2 {
		for _, s := range c.Servers {
			if err := c.MoveSlot(t.Context(), redisbus.TopicSlot(topic), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	end()
	if len(accepted) == 0 {
		t.Fatal("nothing was accepted")
	}
	relaytest.Eventually(t, "everything that was accepted has come", func() bool {
		got := map[string]int{}
		for _, body := range to.Bodies(topic) {
			got[body]++
		}
		for _, body := range accepted {
			if got[body] != 1 {
				return false
			}
		}
		return true
	})
	if to.Gaps() != 0 {
		t.Errorf("%d gaps were told, and nothing is missing", to.Gaps())
	}
	if after := from.newest(t, topic, 1).Intact; after != before {
		t.Errorf("intact from %v, was %v", after, before)
	}
}
