package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file do to Redis, under rooms, what happens to it in production.
// Mostly while clients storm them: what is left afterwards must be what somebody
// believes to have, and all nodes must have heard the same.

// The times are those of a fleet: there is another host within 15 s of a node's death.
func TestRoomsDeathInTime(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, asIs)
	room, _ := seated(t, n...)
	began := time.Now()
	n[0].Die()
	connected(t, n[1], room.ID, 1, 1)
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("another host %v after the node's death", took)
	} else {
		t.Logf("another host %v after the node's death", took)
	}
}

// With those times, too, a node that is cut off is told before there is another host.
func TestRoomsCutOffInTime(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, asIs)
	room, _ := seated(t, n...)
	n[0].Cut(true)
	var told time.Time
	relaytest.Eventually(t, "there is another host", func() bool {
		_, host, err := n[1].Connected(t.Context(), room.ID)
		if told.IsZero() && n[0].AllLost() > 0 { // looked at after Redis has answered
			told = time.Now()
		}
		return err == nil && host == 1
	})
	if told.IsZero() {
		t.Error("the node of the old host has not been told that it is dead")
	} else {
		t.Logf("another host %v after the old one was told", time.Since(told))
	}
}

// Whatever state Redis is in, a call answers in time; what may have been done without
// anybody knowing is undone, and what could not be done is made up for.
func TestRoomsWithoutRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedisWith(t, redisproc.Options{Dir: t.TempDir(), AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, lasting)
	a, b := n[0], n[1]
	room, seats := seated(t, a, b)
	gone, err := a.Join(t.Context(), room.ID, room.Secret, "gone", 7, false)
	if err != nil {
		t.Fatal(err)
	}
	a.Leave(gone)
	connected(t, b, room.ID, 0, 0, 1)
	calls := map[string]func(name string) error{
		"Create":    func(string) error { _, err := a.Create(t.Context(), 5); return err },
		"Room":      func(string) error { _, err := a.Room(t.Context(), room.ID); return err },
		"List":      func(string) error { _, err := a.List(t.Context()); return err },
		"Close":     func(string) error { return a.Close(t.Context(), 1) },
		"Totals":    func(string) error { _, err := a.Totals(t.Context()); return err },
		"Kick":      func(string) error { return a.Kick(t.Context(), seats[0], 9) },
		"Grant":     func(string) error { return a.Grant(t.Context(), seats[0], 9) },
		"Assign":    func(string) error { return a.Assign(t.Context(), seats[0]) },
		"Connected": func(string) error { _, _, err := a.Connected(t.Context(), room.ID); return err },
		"Tell":      func(string) error { return a.Tell(t.Context(), room.ID) },
		"Rejoin": func(name string) error {
			_, err := a.Rejoin(t.Context(), room.ID, room.Secret, "re"+name, gone.Client, 7, false)
			return err
		},
	}
	for i := range 8 {
		calls[fmt.Sprint("Join-", i)] = func(name string) error {
			_, err := n[i%2].Join(t.Context(), room.ID, room.Secret, name, 1, true)
			return err
		}
	}
	fail := func(state string) {
		t.Helper()
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				began := time.Now()
				if err := call(state + name); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("%s while redis is %s: error = %v, want %v", name, state, err, relay.ErrUnavailable)
				}
				// The promise is two seconds, on a machine that has nothing else to do.
				if took := time.Since(began); took > 2*time.Second+relaytest.Patience/10 {
					t.Errorf("%s while redis is %s took %v", name, state, took)
				}
			})
		}
		wg.Wait()
	}
	r.Stop(t)
	fail("stopped")
	r.Cont(t)
	connected(t, b, room.ID, 0, 0, 1)
	r.Kill()
	fail("dead")
	began := time.Now()
	a.Leave(seats[0])
	if took := time.Since(began); took > time.Second {
		t.Errorf("Leave took %v without Redis", took)
	}
	r.Restart(t)
	connected(t, b, room.ID, 1, 1)
	if err := b.Kick(t.Context(), seats[1], 0); !errors.Is(err, relay.ErrNoClient) {
		t.Errorf("Kick when Redis is back: %v, want %v", err, relay.ErrNoClient)
	}
	keptSeats(t, n...)
}

// A restart without persistence loses all rooms: who has a seat is told.
func TestRoomsRestart(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, lasting)
	room, seats := seated(t, n...)
	r.Restart(t)
	for i := range n {
		relaytest.Eventually(t, "who has a seat is told", func() bool { return n[i].RoomLost(room.ID) || n[i].AllLost() > 0 })
		n[i].Leave(seats[i])
	}
	if _, err := n[0].Room(t.Context(), room.ID); !errors.Is(err, relay.ErrNoRoom) {
		t.Errorf("Room: error = %v, want %v", err, relay.ErrNoRoom)
	}
	storm := relaytest.StartRoomStorm(t, 1, n...)
	storm.Await(100)
	storm.Stop()
	storm.Check()
}

// A node that ends does not wait for a Redis that is silent.
func TestRoomsEndWithoutRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	o := redisbus.Options{URL: r.URL()}
	n := []*relaytest.RoomsNode{roomsNode(t, o, mortal, plenty), roomsNode(t, o, lasting, plenty)}
	room, _ := seated(t, n...)
	r.Stop(t)
	began := time.Now()
	n[0].Die()
	t.Logf("ended after %v", time.Since(began))
	if took := time.Since(began); took > relaytest.Patience/2 {
		t.Errorf("ended after %v", took)
	}
	if _, err := n[0].Join(t.Context(), room.ID, room.Secret, "late", 1, false); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Join after the end: error = %v, want %v", err, relay.ErrClosed)
	}
	r.Cont(t)
	relaytest.Eventually(t, "the seats of the node that has ended are gone", func() bool {
		clients, _, err := n[1].Connected(t.Context(), room.ID)
		return err == nil && !slices.Contains(clients, 0)
	})
}

// Redis is stopped for so long that nobody knows who lives: all give up their seats.
func TestRoomsStoppedForLong(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, mortal)
	room, _ := seated(t, n...)
	r.Stop(t)
	relaytest.Eventually(t, "both have given up their seats", func() bool { return n[0].AllLost() > 0 && n[1].AllLost() > 0 })
	r.Cont(t)
	connected(t, n[0], room.ID, relay.NoHost)
	storm := relaytest.StartRoomStorm(t, 1, n...)
	storm.Await(100)
	storm.Stop()
	storm.Check()
}

// Redis stalls again and again, for shorter than leases last, and nothing is lost.
func TestRoomsStalls(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 3, redisbus.Options{URL: r.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	for range 3 {
		storm.Await(300)
		r.Stop(t)
		time.Sleep(400 * time.Millisecond) // this long, and nobody does anything
		r.Cont(t)
	}
	storm.Await(300)
	r.Stop(t)
	time.Sleep(2500 * time.Millisecond) // longer than anybody waits for an answer
	r.Cont(t)
	storm.Await(300)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// Connections are cut under questions whose answers are lost with them: what is asked
// again is done once, and what was missed is heard.
func TestRoomsConnectionsCut(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 3, redisbus.Options{URL: r.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	loose := comeAndGo(t, n...)
	c := admin(t, r)
	for i := range 40 {
		storm.Await(40)
		if i%4 == 0 {
			n[i/4%3].Cut(true)
			n[i/4%3].Cut(false)
			continue
		}
		if err := c.ClientKillByFilter(t.Context(), "TYPE", []string{"normal", "pubsub"}[i%2], "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	storm.Stop()
	most := 3 + loose()
	storm.Check()
	keptSeats(t, n...)
	if all, err := n[0].Totals(t.Context()); err != nil || all.Rooms < 3 || all.Rooms > most {
		t.Errorf("%d rooms are left (%v), want 3 to %d", all.Rooms, err, most)
	}
	for i, n := range n {
		if n.Gaps() > 0 {
			t.Errorf("node %d was told of %d gaps", i, n.Gaps())
		}
	}
}

// comeAndGo has rooms made and closed until the result is called, which tells how many
// may be left since nobody knows.
func comeAndGo(t *testing.T, nodes ...*relaytest.RoomsNode) (loose func() int64) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var made, unknown int64
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			room, err := nodes[i%len(nodes)].Create(context.Background(), 5)
			if err == nil {
				made++
				err = nodes[(i+1)%len(nodes)].Close(context.Background(), room.ID)
			}
			if errors.Is(err, relay.ErrUnavailable) {
				unknown++
			} else if err != nil {
				t.Errorf("making and closing a room: %v", err)
			}
		}
	})
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(end)
	return func() int64 {
		end()
		t.Logf("%d rooms came and went, %d may be left", made, unknown)
		return unknown
	}
}

// Scripts that Redis has forgotten are loaded again: those too that are not asked twice.
func TestRoomsScriptsForgotten(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, lasting)
	room, seats := seated(t, n...)
	var created relay.Room
	for _, do := range []func() error{
		func() error { return n[0].Grant(t.Context(), seats[0], 1) },
		func() error { return n[0].Assign(t.Context(), seats[0]) },
		func() error { return n[1].Tell(t.Context(), room.ID) },
		func() error { return n[1].Kick(t.Context(), seats[1], 0) },
		func() error {
			_, err := n[0].Rejoin(t.Context(), room.ID, room.Secret, "again", 0, 0, false)
			return err
		},
		func() error {
			_, err := n[0].Join(t.Context(), room.ID, room.Secret, "new", 0, false)
			return err
		},
		func() (err error) { created, err = n[0].Create(t.Context(), 5); return err },
		func() error { _, err := n[0].Totals(t.Context()); return err },
		func() error { _, err := n[0].List(t.Context()); return err },
		func() error { return n[0].Close(t.Context(), created.ID) },
	} {
		if err := r.Client().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	storm := relaytest.StartRoomStorm(t, 1, n...)
	for range 10 {
		storm.Await(30)
		if err := r.Client().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// Redis has no memory left, again and again: what it refuses has not happened at all.
func TestRoomsWithoutMemory(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, lasting)
	storm := relaytest.StartRoomStorm(t, 3, n...)
	c := admin(t, r)
	for range 8 {
		storm.Await(100)
		for _, most := range []string{"1", "0"} {
			if err := c.ConfigSet(t.Context(), "maxmemory", most).Err(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // for what is refused meanwhile
		}
	}
	storm.Await(100)
	storm.Stop()
	storm.Check()
	keptSeats(t, n...)
}

// When too few replicas have a transition it fails, and a seat is given back.
func TestRoomsTooFewReplicas(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	a := roomsNode(t, redisbus.Options{URL: r.URL()}, lasting, plenty)
	b := roomsNode(t, optionsWaiting(r.URL(), 1), lasting, plenty)
	room, _ := seated(t, a)
	name := "not-replicated"
	if _, err := b.Join(t.Context(), room.ID, room.Secret, name, 1, false); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Join without a replica: error = %v, want %v", err, relay.ErrUnavailable)
	}
	relaytest.Eventually(t, "the seat was given back", func() bool {
		v, err := relaytest.ReplayRoom(room.ID, room.MaxClients, a.Events(relay.RoomTopic(room.ID)))
		if err != nil {
			t.Fatal(err)
		}
		return v.Ended[name] == relay.RoomLeft
	})
	connected(t, a, room.ID, 0, 0)
	if _, err := b.Create(t.Context(), 1); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Create without a replica: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if _, err := b.Totals(t.Context()); err != nil {
		t.Errorf("Totals need no replica: %v", err)
	}
	relaytest.Eventually(t, "the room that was not confirmed is gone", func() bool {
		totals, err := a.Totals(t.Context())
		return err == nil && totals.Rooms == 1
	})
}

// A node dies, and Redis has lost its claims: its seats are given up all the same, and
// those of nodes that live are not.
func TestRoomsWithoutClaims(t *testing.T) {
	t.Parallel()
	r := relaytest.StartRedis(t)
	n := roomsFleet(t, 3, redisbus.Options{URL: r.URL()}, func(o redisbus.FleetOptions) redisbus.FleetOptions {
		const ms = time.Millisecond // a lease lasts until it is gone with the claims
		return o.WithTimes(5000*ms, 100*ms, 600*ms, 2000*ms, 1000*ms)
	})
	room, _ := seated(t, n...)
	n[0].Die()
	connected(t, n[1], room.ID, 0, 0, 1, 2)
	keys, err := r.Client().Keys(t.Context(), "parley:{fleet}:*").Result()
	if err == nil && len(keys) > 0 {
		err = r.Client().Del(t.Context(), keys...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	connected(t, n[1], room.ID, 1, 1, 2)
	keptSeats(t, n[1:]...)
}

// Of rooms that have ended and nodes that have gone nothing stays for ever.
func TestRoomsLeaveNothing(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	permanent := func() (all []string) {
		t.Helper()
		keys, err := r.Client().Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if r.Client().PTTL(t.Context(), key).Val() == -1 {
				all = append(all, key)
			}
		}
		slices.Sort(all)
		return all
	}
	ended := func(clients bool) []string {
		n := roomsFleet(t, 2, redisbus.Options{URL: r.URL()}, lasting)
		first, _ := seated(t, n...)
		if err := n[0].Close(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		if clients {
			storm := relaytest.StartRoomStorm(t, 5, n...)
			storm.Await(300)
			storm.Stop()
			storm.Check()
			all, err := n[0].List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, room := range all {
				if err := n[1].Close(t.Context(), room.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		n[0].End()
		n[1].End()
		return permanent()
	}
	if before, after := ended(false), ended(true); !slices.Equal(before, after) {
		t.Errorf("left behind are %s; %s after one room with two clients", strings.Join(after, ", "), strings.Join(before, ", "))
	}
}
