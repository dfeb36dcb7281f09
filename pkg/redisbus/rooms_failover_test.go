package redisbus_test

import (
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file have other masters take rooms over, under a storm.

// Masters die under a storm, and all replicas have what counts: nothing is lost.
func TestRoomsFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	o := optionsWaiting(s.URL(), 2)
	o.WaitTimeout = time.Second
	n := roomsFleet(t, 2, o, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	storm.Await(300)
	old, err := s.KillMaster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rejoin(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	storm.Await(300)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// A master dies that nobody has waited to be followed: the last of what happened may be
// lost, and in the end everybody knows who has a seat.
func TestRoomsLossyFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: s.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	storm.Lossy()
	storm.Await(300)
	if _, err := s.KillMaster(t.Context()); err != nil {
		t.Fatal(err)
	}
	storm.Await(300)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// A master that Sentinels and replicas have lost sight of takes transitions that are lost
// when it is left: whoever had a seat by them is told.
func TestRoomsIsolatedMaster(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: s.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	storm.Lossy()
	storm.Await(200)
	old, err := s.Master(t.Context())
	if err == nil {
		err = s.Isolate(t.Context(), old)
	}
	if err != nil {
		t.Fatal(err)
	}
	storm.Await(200)
	if _, err := s.WaitMoved(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	storm.Await(200)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// The slot of the rooms moves under a storm, to and fro.
func TestRoomsReshard(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: -1})
	n := roomsFleet(t, 3, redisbus.Options{URL: c.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	slot := redisbus.TopicSlot(relay.RoomTopic(1))
	if other := redisbus.TopicSlot(relay.RoomTopic(2147483647)); other != slot {
		t.Fatalf("two rooms have the slots %d and %d", slot, other)
	}
	for range 2 {
		for _, to := range c.Servers {
			storm.Await(100)
			if err := c.MoveSlot(t.Context(), slot, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	storm.Await(200)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// The master of the rooms dies in a Cluster.
func TestRoomsClusterFailover(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: 1})
	n := roomsFleet(t, 2, redisbus.Options{URL: c.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	storm.Lossy()
	storm.Await(200)
	if _, err := c.KillMaster(t.Context(), redisbus.TopicSlot(relay.RoomTopic(1))); err != nil {
		t.Fatal(err)
	}
	storm.Await(200)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}
