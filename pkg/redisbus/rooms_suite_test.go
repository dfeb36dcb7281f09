package redisbus_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/redisproc"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// mortal are times of leases with which a node that is cut off is soon taken for dead,
// and tells of its losses before the others have looked for it twice: as with those of
// a fleet. With lasting ones nobody is taken for dead.
func mortal(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(2500*ms, 100*ms, 600*ms, 2000*ms, 1000*ms)
}

func lasting(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(time.Minute, 100*ms, 600*ms, 2000*ms, 1000*ms)
}

// mortalEmbedded and lastingEmbedded are such times where keys expire to the second.
func mortalEmbedded(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(3000*ms, 100*ms, 1700*ms, 3000*ms, 1000*ms)
}

func lastingEmbedded(o redisbus.FleetOptions) redisbus.FleetOptions {
	const ms = time.Millisecond
	return o.WithTimes(time.Minute, 100*ms, 1700*ms, 3000*ms, 1000*ms)
}

// roomsNode runs a node: its bus, its lease and its rooms.
func roomsNode(tb testing.TB, o redisbus.Options, times rosterTimes, s relaytest.RoomsSettings) *relaytest.RoomsNode {
	tb.Helper()
	w := &wire{conns: map[net.Conn]struct{}{}}
	o.Keeps = func(t relay.Topic) bool { return strings.HasPrefix(string(t), relay.RoomTopics) }
	b := openWith(tb, o.WithDial(w.dial))
	f := openFleet(tb, times(fleetOptions(tb, b.Node(), b.FleetClient, noFault)))
	r := redisbus.NewRooms(b, f, redisbus.RoomsOptions{Max: s.Max, TTL: s.TTL, Retention: relaytest.RoomRetention,
		Log: slog.New(slog.NewTextHandler(tb.Output(), nil)).With("node", b.Node())})
	losses := relaytest.NewRoomLosses()
	r.OnLost(losses.LoseAll)
	r.OnGone(losses.LoseRoom)
	received, endBus := relaytest.Run(tb, b)
	runs := func(run func(context.Context) error) (end func()) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := run(ctx); err != nil {
				tb.Errorf("Run returned %v", err)
			}
		})
		return func() { cancel(); wg.Wait() }
	}
	endFleet, endRooms := runs(f.Run), runs(r.Run)
	var once sync.Once
	end := func(properly bool) {
		once.Do(func() { // the rooms first, the bus last
			endRooms()
			if properly {
				if err := f.Close(context.Background()); err != nil {
					tb.Logf("ending the node: %v", err)
				}
			}
			endFleet()
			endBus()
		})
	}
	die := func() { w.cut(true); end(false) }
	tb.Cleanup(func() { end(true) })
	relaytest.Eventually(tb, "the node is ready", func() bool { return b.Ready() == nil && f.Ready() == nil })
	return &relaytest.RoomsNode{Rooms: r, Seats: r, Broker: b, Recorder: received, RoomLosses: losses,
		Die: die, End: func() { end(true) }, Cut: w.cut}
}

// plenty are settings with limits that nothing comes near.
var plenty = relaytest.RoomsSettings{Max: relaytest.Unbounded, TTL: time.Hour}

// roomsFleet runs some nodes.
func roomsFleet(t *testing.T, n int, o redisbus.Options, times rosterTimes) (all []*relaytest.RoomsNode) {
	t.Helper()
	for range n {
		all = append(all, roomsNode(t, o, times, plenty))
	}
	return all
}

// keptSeats fails the test when a node has given up all its seats.
func keptSeats(t *testing.T, nodes ...*relaytest.RoomsNode) {
	t.Helper()
	for i, n := range nodes {
		if lost := n.AllLost(); lost != 0 {
			t.Errorf("node %d has given up all its seats %d times", i, lost)
		}
	}
}

// seated makes a room with one client from each node, the first of whom is host.
func seated(t *testing.T, nodes ...*relaytest.RoomsNode) (room relay.Room, seats []relay.Seat) {
	t.Helper()
	room, err := nodes[0].Create(t.Context(), 50)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range nodes {
		if _, err := n.Subscribe(t.Context(), relay.RoomTopic(room.ID)); err != nil {
			t.Fatal(err)
		}
		seat, err := n.Join(t.Context(), room.ID, room.Secret, fmt.Sprint("seated-", i), int32(i), false)
		if err != nil {
			t.Fatal(err)
		}
		seats = append(seats, seat)
	}
	return room, seats
}

// connected waits until these are, by what a node says.
func connected(t *testing.T, n *relaytest.RoomsNode, room, host int32, want ...int32) {
	t.Helper()
	relaytest.Eventually(t, fmt.Sprintf("connected are %d, of whom %d is host", want, host), func() bool {
		clients, is, err := n.Connected(t.Context(), room)
		return err == nil && is == host && slices.Equal(clients, want)
	})
}

// asIs are the times of a fleet.
func asIs(o redisbus.FleetOptions) redisbus.FleetOptions { return o }

// rooms runs the suite.
func rooms(t *testing.T, o redisbus.Options, mortal, lasting rosterTimes, rounds int, flush func(tb testing.TB)) {
	relaytest.Rooms(t, relaytest.RoomsBackend{
		Open: func(tb testing.TB, s relaytest.RoomsSettings) *relaytest.RoomsNode {
			if s.Mortal {
				return roomsNode(tb, o, mortal, s)
			}
			return roomsNode(tb, o, lasting, s)
		},
		Flush:  flush,
		Rounds: rounds,
	})
}

func TestRoomsOnRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	rooms(t, redisbus.Options{URL: r.URL()}, mortal, lasting, 200, func(tb testing.TB) { flushAll(tb, r.Server) })
}

func TestRoomsOnEmbeddedRedis(t *testing.T) {
	relaytest.NoLeaks(t)
	r, err := embedded.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	rooms(t, redisbus.Options{URL: r.URL()}, mortalEmbedded, lastingEmbedded, 5, func(tb testing.TB) {
		b := openWith(tb, redisbus.Options{URL: r.URL()})
		_, end := relaytest.Run(tb, b)
		defer end()
		if err := b.Flush(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	})
}

// What counts has been seen by the replicas.
func TestRoomsOnSentinel(t *testing.T) {
	relaytest.NoLeaks(t)
	s := startSentinel(t)
	o := optionsWaiting(s.URL(), 2)
	o.WaitTimeout = time.Second
	rooms(t, o, mortal, lasting, 20, func(tb testing.TB) { flushAll(tb, s.Servers...) })
}

func TestRoomsOnCluster(t *testing.T) {
	relaytest.NoLeaks(t)
	c := startCluster(t, redisproc.ClusterOptions{Masters: 3, Replicas: -1})
	rooms(t, redisbus.Options{URL: c.URL()}, mortal, lasting, 20, func(tb testing.TB) { flushAll(tb, c.Servers...) })
}
