package redisbus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

func startSentinel(t *testing.T) *redisproc.Sentinel {
	t.Helper()
	s, err := redisproc.StartSentinel(t.Context(), redisproc.SentinelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServers(t, s.Log, s.Close) })
	return s
}

func startCluster(t *testing.T, o redisproc.ClusterOptions) *redisproc.Cluster {
	t.Helper()
	c, err := redisproc.StartCluster(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeServers(t, c.Log, c.Close) })
	return c
}

func closeServers(t *testing.T, log func() string, end func() error) {
	if t.Failed() {
		t.Logf("the servers' logs:\n%s", log())
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

// shared has all parts of a suite work on one Redis, whose topics they do not share.
func shared(url string) func(testing.TB) relaytest.Backend {
	return func(testing.TB) relaytest.Backend {
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return openKeeping(tb, url) },
			Down: func() {},
		}
	}
}

func TestHistoryOnSentinel(t *testing.T) { relaytest.History(t, shared(startSentinel(t).URL())) }

func TestHistoryOnCluster(t *testing.T) {
	relaytest.History(t, shared(startCluster(t, redisproc.ClusterOptions{Masters: 3}).URL()))
}

func TestBrokerOnCluster(t *testing.T) {
	relaytest.Broker(t, func(tb testing.TB) relaytest.Backend {
		c, err := redisproc.StartCluster(context.Background(), redisproc.ClusterOptions{Masters: 3})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := c.Close(); err != nil {
				tb.Error(err)
			}
		})
		return relaytest.Backend{
			Open: func(tb testing.TB) relay.Broker { return open(tb, c.URL()) },
			Down: func() {
				for _, s := range c.Servers {
					s.Kill()
				}
			},
		}
	})
}

// pair is two nodes with kept traffic between them.
type pair struct {
	from, to *node
	traffic  *traffic
	topics   int
}

func startPair(t *testing.T, o redisbus.Options, topics int) *pair {
	t.Helper()
	p := &pair{from: joinBus(t, openWith(t, o)), to: joinBus(t, openWith(t, o)), topics: topics}
	ready(t, p.from, p.to)
	subscribeTraffic(t, p.to, topics)
	p.traffic = flowKept(t, p.from, topics, kept)
	p.flowing(t)
	return p
}

// flowing waits until of each topic a message has come that was sent from now.
func (p *pair) flowing(t *testing.T) {
	t.Helper()
	mark := time.Now()
	for k := range p.topics {
		relaytest.Eventually(t, fmt.Sprintf("%s is heard", trafficTopic(k)), func() bool {
			all := p.to.Events(trafficTopic(k))
			return len(all) > 0 && all[len(all)-1].Message.Time.After(mark)
		})
	}
}

// complete fails the test unless everything that was accepted has come or may come
// yet.
func (p *pair) complete(t *testing.T) {
	t.Helper()
	p.traffic.stop()
	accepted := map[string]bool{}
	for _, a := range p.traffic.ledger.Answers() {
		if k, seq := a.Numbers(); a.Err == nil {
			accepted[fmt.Sprint(trafficTopic(k), " ", seq)] = true
		}
	}
	relaytest.Eventually(t, "everything that was accepted has come", func() bool {
		for k := range p.topics {
			for _, body := range p.to.Bodies(trafficTopic(k)) {
				delete(accepted, fmt.Sprint(trafficTopic(k), " ", body))
			}
		}
		return len(accepted) == 0
	})
	t.Log(p.traffic.check(t, p.to, p.topics))
}

// The master dies, and all replicas have what was accepted: nothing is lost.
func TestFailoverWithWaitingLosesNothing(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	o := optionsWaiting(s.URL(), 2)
	o.WaitTimeout = time.Second
	p := startPair(t, o, 20)
	for range 2 {
		old, err := s.KillMaster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Rejoin(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		p.flowing(t)
	}
	p.complete(t)
}

// Without waiting for replicas something may be lost with a master, and every
// topic is told so.
func TestFailoverIsTold(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	p := startPair(t, optionsWaiting(s.URL(), 0), 20)
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.flowing(t)
	p.traffic.stop()
	p.told(t)
	t.Log(p.traffic.check(t, p.to, p.topics))
}

// told waits until every topic has been told of a gap.
func (p *pair) told(t *testing.T) {
	t.Helper()
	relaytest.Eventually(t, "every topic is told", func() bool { return p.to.Gaps() >= p.topics })
}

// A master that is demoted and lives on is left at once: its subscribers would
// hear nothing any more.
func TestDemotedMasterIsLeft(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	p := startPair(t, optionsWaiting(s.URL(), 0), 5)
	from, _, err := s.Failover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.left(t, from)
}

// So is one that Sentinels and replicas have lost sight of, and that takes itself
// for the master still.
func TestIsolatedMasterIsLeft(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	p := startPair(t, optionsWaiting(s.URL(), 0), 5)
	old, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Isolate(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitMoved(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	p.left(t, old)
}

// left waits until no node is connected to a server, and messages flow.
func (p *pair) left(t *testing.T, s *redisproc.Server) {
	t.Helper()
	began := time.Now()
	c := s.Client()
	relaytest.Eventually(t, "the nodes have left the old master", func() bool {
		list, err := c.ClientList(t.Context()).Result()
		return err == nil && !strings.Contains(list, "name=parley-")
	})
	t.Logf("left %v after the switch", time.Since(began).Round(time.Millisecond))
	p.flowing(t)
	t.Logf("messages flow %v after the switch", time.Since(began).Round(time.Millisecond))
	mark := p.traffic.ledger.Len()
	relaytest.Eventually(t, "a thousand more are accepted", func() bool { return p.traffic.ledger.Len() > mark+1000 })
	p.traffic.stop()
	for _, a := range p.traffic.ledger.Answers()[mark:] {
		if a.Err != nil {
			t.Fatalf("refused after the switch: %v", a.Err)
		}
	}
	p.told(t)
	t.Log(p.traffic.check(t, p.to, p.topics))
}

// A master of a Cluster dies: what it had goes on elsewhere, and the rest never
// stopped.
func TestClusterFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: 1})
	p := startPair(t, optionsWaiting(c.URL(), 0), 48)
	if _, err := c.KillMaster(t.Context(), redisbus.PartitionSlots()[0]); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.flowing(t)
	t.Logf("messages flow %v after the master's death", time.Since(began).Round(time.Millisecond))
	p.traffic.stop()
	slot, lost := redisbus.PartitionSlots()[0], 0
	for k := range p.topics {
		if redisbus.TopicSlot(trafficTopic(k)) == slot {
			lost++
			relaytest.Eventually(t, "the topics of the dead master are told", func() bool { return len(p.gaps(k)) > 0 })
		}
	}
	if lost == 0 || p.to.Gaps() == p.topics {
		t.Errorf("%d topics were told, of %d; %d are in one of the slots that lost their master", p.to.Gaps(), p.topics, lost)
	}
	t.Log(p.traffic.check(t, p.to, p.topics))
}

// gaps are those of a topic.
func (p *pair) gaps(k int) (all []relaytest.Event) {
	for _, e := range p.to.Events(trafficTopic(k)) {
		if e.Gap {
			all = append(all, e)
		}
	}
	return all
}

// Slots are moved under load, back and forth.
func TestClusterReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3})
	p := startPair(t, optionsWaiting(c.URL(), 0), 48)
	for _, slot := range redisbus.PartitionSlots()[:6] {
		masters, err := c.Masters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		owner, err := c.SlotOwner(t.Context(), slot)
		if err != nil {
			t.Fatal(err)
		}
		to := masters[0]
		if to == owner {
			to = masters[1]
		}
		if err := c.MoveSlot(t.Context(), slot, to); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	p.flowing(t)
	t.Logf("messages flow %v after the last slot has moved", time.Since(began).Round(time.Millisecond))
	p.complete(t)
	if n := p.to.Gaps(); n != 0 {
		t.Errorf("%d gaps were told, and nothing is missing", n)
	}
}
