package redisbus_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// A master dies, and with it perhaps what its replica did not have: a reader is told, not
// more than it takes, and nothing else is missing.
func TestInboxFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	l := newLetters(t, redisbus.Options{URL: s.URL()})
	l.send(t, "0")
	l.takes(t, "r", true, "0")
	l.takes(t, "r", true)
	master, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.Client().Wait(t.Context(), 2, 0).Result(); err != nil { // so that the readers go on
		t.Fatal(err)
	}
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	polls, told, took := 0, 0, 0
	var since time.Time
	relaytest.Eventually(t, "nothing new is told for longer than nodes may be late", func() bool {
		if polls%10 == 0 {
			l.send(t, fmt.Sprint("m", polls))
		}
		c := l.get(t, relay.Reading{Reader: "r"})
		polls++
		took += len(c.Messages)
		if !c.Complete {
			told++
			since = time.Now()
		}
		l.settle(t, "r", c.End)
		return told > 0 && time.Since(since) > 6*time.Second
	})
	if want := (polls + 9) / 10; took != want {
		t.Errorf("%d messages came, %d were sent", took, want)
	}
	if told > 4 || polls < 10*told {
		t.Errorf("told %d times in %d polls", told, polls)
	}
	t.Logf("told %d times in %d polls", told, polls)
	if c := l.get(t, relay.Reading{Reader: "unknown"}); c.Complete {
		t.Error("a reader that Redis may have lost is not told")
	}
}

// When all replicas had to have what counted, a failover loses nothing, and nobody is told
// that it has; where readers are may be lost, so that messages come again.
func TestInboxFailoverWithWaiting(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	o := optionsWaiting(s.URL(), 2)
	o.WaitTimeout = time.Second
	nodes := []*letters{newLetters(t, o), newLetters(t, o)}
	const after = 30 // messages, once there is another master
	var left atomic.Int32
	left.Store(math.MaxInt32)
	var accepted []string
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; left.Load() > 0; i++ {
			body := fmt.Sprint(i)
			_, err := nodes[0].Publish(t.Context(), relay.Message{Topic: nodes[0].Topic, Body: []byte(body)}, relaytest.InboxRetention)
			if err == nil { // else it may come nevertheless
				accepted = append(accepted, body)
				left.Add(-1)
			}
		}
	})
	end := sync.OnceFunc(func() { left.Store(0); wg.Wait() })
	defer end()
	came := map[string]bool{}
	polls := 0
	poll := func() {
		n := nodes[polls%len(nodes)]
		polls++
		c := n.get(t, relay.Reading{Reader: "r"})
		if !c.Complete {
			t.Errorf("poll %d: messages are said to be missing after %v", polls, c.Start)
		}
		for _, m := range c.Messages {
			came[string(m.Body)] = true
		}
		n.settle(t, "r", c.End)
	}
	relaytest.Eventually(t, "messages come", func() bool { poll(); return len(came) > 10 })
	old, err := s.KillMaster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rejoin(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	left.Store(after)
	relaytest.Eventually(t, "messages are accepted", func() bool { poll(); return left.Load() <= 0 })
	end()
	for before := -1; before != len(came); {
		before = len(came)
		poll()
	}
	for _, body := range accepted {
		if !came[body] {
			t.Errorf("%s was accepted and has not come", body)
		}
	}
	if c := nodes[1].get(t, relay.Reading{Reader: "unknown"}); !c.Complete {
		t.Error("a reader that is not known is told that something is missing")
	}
	t.Logf("%d messages in %d polls", len(accepted), polls)
}

// The slot of a topic moves to and fro: nothing is said to be missing, nothing is, and
// answers that are settled are not given again.
func TestInboxReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: -1})
	nodes := []*letters{newLetters(t, redisbus.Options{URL: c.URL()}), newLetters(t, redisbus.Options{URL: c.URL()})}
	const enough = 200 // rounds
	var enoughRounds atomic.Bool
	moved := make(chan error, 1)
	go func() {
		for !enoughRounds.Load() {
			for _, to := range c.Servers {
				if err := c.MoveSlot(t.Context(), redisbus.TopicSlot(nodes[0].Topic), to); err != nil {
					moved <- err
					return
				}
			}
		}
		moved <- nil
	}()
	var sent, got []string
	var end relay.ID
	rounds := 0
	round := func() {
		rounds++
		body := fmt.Sprint(rounds)
		nodes[0].send(t, body)
		sent = append(sent, body)
		for i := range nodes {
			l := nodes[(rounds+i)%len(nodes)]
			c := l.get(t, relay.Reading{Reader: "r"})
			if !c.Complete || c.Start.ID != end {
				t.Errorf("round %d: starts at %v, complete: %v; want %v", rounds, c.Start, c.Complete, end)
			}
			for _, m := range c.Messages {
				got = append(got, string(m.Body))
			}
			l.settle(t, "r", c.End)
			end = c.End.ID
		}
	}
	for moving := true; moving; {
		select {
		case err := <-moved:
			if err != nil {
				t.Fatal(err)
			}
			moving = false
		default:
			round()
			enoughRounds.Store(rounds >= enough)
		}
	}
	// A message of which Redis's answer was lost is sent again.
	if got := slices.Compact(got); !slices.Equal(got, sent) {
		t.Errorf("got %s, sent %s", strings.Join(got, " "), strings.Join(sent, " "))
	}
}
