package redisbus_test

import (
	"fmt"
	"slices"
	"strings"
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
	l := newLetters(t, o)
	l.takes(t, "r", true)
	l.send(t, "0", "1") // which has the reader on the replicas, too
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.takes(t, "r", true, "0", "1")
	l.takes(t, "unknown", true, "0", "1")
}

// The slot of a topic moves to and fro: nothing is said to be missing, nothing is, and
// answers that are settled are not given again.
func TestInboxReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: -1})
	a, b := newLetters(t, redisbus.Options{URL: c.URL()}), newLetters(t, redisbus.Options{URL: c.URL()})
	moved := make(chan error, 1)
	go func() {
		for range 2 {
			for _, to := range c.Servers {
				if err := c.MoveSlot(t.Context(), redisbus.TopicSlot(a.Topic), to); err != nil {
					moved <- err
					return
				}
			}
		}
		moved <- nil
	}()
	var sent, got []string
	rounds := 0
	round := func() {
		rounds++
		body := fmt.Sprint(rounds)
		a.send(t, body)
		sent = append(sent, body)
		for _, l := range []*letters{b, a}[rounds%2:] {
			c := l.get(t, relay.Reading{Reader: "r"})
			if !c.Complete {
				t.Fatalf("round %d: messages are said to be missing after %v", rounds, c.Start)
			}
			for _, m := range c.Messages {
				got = append(got, string(m.Body))
			}
			l.settle(t, "r", c.End)
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
		}
	}
	round()
	for _, m := range a.get(t, relay.Reading{Reader: "r"}).Messages {
		got = append(got, string(m.Body))
	}
	// A message of which Redis's answer was lost is sent again.
	if got := slices.Compact(got); !slices.Equal(got, sent) {
		t.Errorf("got %s, sent %s", strings.Join(got, " "), strings.Join(sent, " "))
	}
	t.Logf("%d messages while the slot moved", len(sent))
}
