package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file do to Redis, under rosters, what happens to it in production.

const here = relay.Topic("here/faults")

// present waits until these are present at a topic, by what a node says.
func present(t *testing.T, n *relaytest.RosterNode, topic relay.Topic, want ...string) {
	t.Helper()
	slices.Sort(want)
	relaytest.Eventually(t, fmt.Sprintf("present are %q", want), func() bool {
		got, _, err := n.Members(t.Context(), topic)
		slices.Sort(got)
		return err == nil && slices.Equal(got, want)
	})
}

// The times are those of a fleet: a dead node's members are gone within 15 s.
func TestRosterDeathInTime(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	asIs := func(o redisbus.FleetOptions) redisbus.FleetOptions { return o }
	a, b := rosterNode(t, r.URL(), asIs), rosterNode(t, r.URL(), asIs)
	a.Enter(here, "alice")
	b.Enter(here, "bob")
	present(t, b, here, "alice", "bob")
	began := time.Now()
	a.Die()
	present(t, b, here, "bob")
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("gone %v after their node", took)
	} else {
		t.Logf("gone %v after their node", took)
	}
}

// What somebody has done to the keys is put right, and nothing stays for ever.
func TestRosterKeys(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a, b := rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick)
	a.Enter(here, "alice")
	a.Enter(here, "anna")
	b.Enter(here, "bob")
	present(t, b, here, "alice", "anna", "bob")
	c := r.Client()
	own, err := c.Keys(t.Context(), "parley:r:"+string(here)+" *").Result()
	if err != nil || len(own) != 2 {
		t.Fatalf("sets of members: %q (%v), want one of each node", own, err)
	}
	for _, key := range append(own, "parley:m:"+string(here), "parley:n:"+string(here)) {
		if life, err := c.PTTL(t.Context(), key).Result(); err != nil || life <= 0 || life > 24*time.Hour {
			t.Errorf("%s lives for %v (%v)", key, life, err)
		}
		if err := c.Expire(t.Context(), key, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		relaytest.Eventually(t, "it lives on", func() bool { return c.PTTL(t.Context(), key).Val() > 2*time.Hour })
	}
	// One member too few, and none left at all.
	for _, key := range own {
		if has, _ := c.SIsMember(t.Context(), key, "anna").Result(); has {
			if err := c.SRem(t.Context(), key, "anna").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	relaytest.Eventually(t, "anna is there again", func() bool {
		for _, key := range own {
			if has, _ := c.SIsMember(t.Context(), key, "anna").Result(); has {
				return true
			}
		}
		return false
	})
	if err := c.Del(t.Context(), append(own, "parley:m:"+string(here))...).Err(); err != nil {
		t.Fatal(err)
	}
	present(t, b, here, "alice", "anna", "bob")
	a.Leave(here, "alice")
	a.Leave(here, "anna")
	b.Leave(here, "bob")
	present(t, b, here)
	relaytest.Eventually(t, "the claims are given back", func() bool { return c.HLen(t.Context(), "parley:{fleet}:names").Val() == 0 })
	keys, err := c.Keys(t.Context(), "parley:?:*").Result()
	if want := []string{"parley:n:" + string(here)}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("left behind: %q (%v), want %q", keys, err, want)
	}
	a.Enter(here, "alice") // claimed again
	present(t, b, here, "alice")
}

// A node dies, and Redis has lost its claims: its members are taken back all the same,
// and those of nodes that live are not.
func TestRosterWithoutClaims(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	a, b, c := rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick)
	a.Enter(here, "alice")
	b.Enter(here, "bob")
	c.Enter(here, "carol")
	b.Enter("here/else", "bob")
	present(t, b, here, "alice", "bob", "carol")
	a.Die()
	keys, err := r.Client().Keys(t.Context(), "parley:{fleet}:*").Result()
	if err == nil {
		err = r.Client().Del(t.Context(), keys...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	present(t, b, here, "bob", "carol")
	relaytest.Eventually(t, "it is heard", func() bool { return b.Count(here) > 0 })
	if got := b.Messages(here); len(got) != 1 || got[0].From != "alice" {
		t.Errorf("heard %d changes, the first of %s", len(got), got[0].From)
	}
}

// A restart without persistence is like a flush.
func TestRosterRestart(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a, b := rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick)
	a.Enter(here, "alice")
	b.Enter(here, "bob")
	b.Enter(here, "alice")
	present(t, b, here, "alice", "bob")
	r.Kill()
	began := time.Now()
	a.Enter(here, "anna")
	b.Leave(here, "bob")
	if took := time.Since(began); took > time.Second {
		t.Errorf("Enter and Leave took %v without Redis", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := b.Members(ctx, here); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Members without Redis: %v, want %v", err, relay.ErrUnavailable)
	}
	r.Restart(t)
	present(t, b, here, "alice", "anna")
	b.Leave(here, "alice")
	a.Leave(here, "anna")
	present(t, b, here, "alice")
}

// A node that ends does not wait for a Redis that is silent.
func TestRosterEndWithoutRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a, b := rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick)
	for i := range 20 {
		a.Enter(relay.Topic(fmt.Sprint("here/", i)), "alice")
	}
	a.Enter(here, "alice")
	present(t, b, here, "alice")
	r.Stop(t)
	began := time.Now()
	a.End() // the bus and the lease too
	t.Logf("ended after %v", time.Since(began))
	if took := time.Since(began); took > relaytest.Patience/2 {
		t.Errorf("ended after %v", took)
	}
	r.Cont(t)
	present(t, b, here)
}

// Scripts that Redis has forgotten are loaded again.
func TestRosterScriptsForgotten(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a := rosterNode(t, r.URL(), quick)
	for i := range 5 {
		if err := r.Client().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		a.Enter(here, fmt.Sprint(i))
		present(t, a, here, strings.Split("0 1 2 3 4", " ")[:i+1]...)
	}
}

// With a node go its members at all topics: more than one pipeline takes.
func TestRosterManyTopics(t *testing.T) {
	relaytest.NoLeaks(t)
	const topics = 150
	r := relaytest.StartRedis(t)
	c := relaytest.StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	for _, url := range []string{r.URL(), c.URL()} {
		a, b := rosterNode(t, url, quick), rosterNode(t, url, quick)
		topic := func(i int) relay.Topic { return relay.Topic(fmt.Sprint("here/", i)) }
		for i := range topics {
			a.Enter(topic(i), "alice")
			if i%2 == 0 {
				b.Enter(topic(i), "alice")
			}
		}
		for i := range topics {
			present(t, b, topic(i), "alice")
		}
		a.Die()
		for i := range topics {
			if i%2 == 0 {
				present(t, b, topic(i), "alice")
			} else {
				present(t, b, topic(i))
			}
		}
	}
}

// Masters die while members come and go: in the end everybody is right.
func TestRosterFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	a, b := rosterNode(t, s.URL(), quick), rosterNode(t, s.URL(), quick)
	if _, err := b.Subscribe(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		for i := range 50 {
			a.Enter(here, fmt.Sprint(round, ".", i))
			b.Enter(here, fmt.Sprint(round, ".", i))
		}
		old, err := s.KillMaster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			a.Leave(here, fmt.Sprint(round, ".", i))
			b.Leave(here, fmt.Sprint(round, ".", i))
		}
		a.Enter(here, "alice")
		b.Enter(here, "bob")
		if err := s.Rejoin(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		present(t, a, here, "alice", "bob")
	}
	var last uint64
	for _, m := range b.Messages(here) {
		c, ok := relay.ChangeOf(&m)
		if !ok || c.Number <= last {
			t.Fatalf("change %q comes after %d", m.Body, last)
		}
		last = c.Number
	}
	a.Die()
	present(t, b, here, "bob")
}

// Slots move while members come and go.
func TestRosterReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := relaytest.StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	a, b := rosterNode(t, c.URL(), quick), rosterNode(t, c.URL(), quick)
	if _, err := b.Subscribe(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	for round, s := range c.Servers {
		a.Enter(here, fmt.Sprint(round))
		if err := c.MoveSlot(t.Context(), redisbus.TopicSlot(here), s); err != nil {
			t.Fatal(err)
		}
		b.Enter(here, fmt.Sprint(round))
	}
	present(t, b, here, "0", "1", "2")
	for round := range c.Servers {
		a.Leave(here, fmt.Sprint(round))
	}
	a.Enter(here, "alice")
	present(t, b, here, "0", "1", "2", "alice")
	a.Die()
	present(t, b, here, "0", "1", "2")
}

// A member of two nodes counts twice.
func TestRosterCounts(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a, b := rosterNode(t, r.URL(), quick), rosterNode(t, r.URL(), quick)
	a.Enter(here, "x")
	b.Enter(here, "x")
	relaytest.Eventually(t, "both have it", func() bool { return countOf(t, r.Client(), "x") == 2 })
	a.Leave(here, "x")
	relaytest.Eventually(t, "one has it", func() bool { return countOf(t, r.Client(), "x") == 1 })
	present(t, a, here, "x")
	b.Leave(here, "x")
	present(t, a, here)
}

// countOf is how many nodes have a member.
func countOf(t *testing.T, c *redis.Client, member string) int {
	t.Helper()
	n, err := c.HGet(t.Context(), "parley:m:"+string(here), member).Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return n
}
