package relaytest

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// list asks a node for all rooms, which must be in order.
func (s *roomsSuite) list(n *RoomsNode) []relay.Room {
	s.t.Helper()
	all, err := n.List(s.t.Context())
	s.done("List", err)
	if !slices.IsSortedFunc(all, func(a, b relay.Room) int { return cmp.Compare(a.ID, b.ID) }) {
		s.t.Errorf("the rooms are not in order: %+v", all)
	}
	return all
}

// totals checks the sums.
func (s *roomsSuite) totals(n *RoomsNode, want relay.RoomTotals) {
	s.t.Helper()
	got, err := n.Totals(s.t.Context())
	if err != nil || got != want {
		s.t.Errorf("Totals: %+v (%v), want %+v", got, err, want)
	}
}

// listed waits until a room is listed like this, by itself and among all.
func (s *roomsSuite) listed(n *RoomsNode, want relay.Room) {
	s.t.Helper()
	Eventually(s.t, "the room's clients are counted", func() bool {
		got, err := n.Room(s.t.Context(), want.ID)
		s.done("Room", err)
		return got == want
	})
	if !slices.Contains(s.list(n), want) {
		s.t.Errorf("%+v is not listed", want)
	}
}

func (s *roomsSuite) close(n *RoomsNode, room int32) {
	s.t.Helper()
	s.done("Close", n.Close(s.t.Context(), room))
}

// Rooms are made, found by every node, and ended.
func testRoomsManage(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	if all := s.list(b); len(all) != 0 {
		t.Fatalf("at first there are %+v", all)
	}
	s.totals(b, relay.RoomTotals{Max: Unbounded})
	var want []relay.Room
	seen := map[int32]bool{}
	for _, max := range []int32{1, 2, 5, 6, relay.MaxRoomClients} {
		room, err := a.Create(t.Context(), max)
		if err != nil || room.ID < 1 || room.Secret < 1 || room.MaxClients != max || room.Clients != 0 {
			t.Fatalf("Create(%d): %+v (%v)", max, room, err)
		}
		if seen[room.ID] || seen[room.Secret] {
			t.Errorf("a number came twice: %+v", room)
		}
		seen[room.ID], seen[room.Secret] = true, true
		want = append(want, room)
	}
	slices.SortFunc(want, func(a, b relay.Room) int { return cmp.Compare(a.ID, b.ID) })
	if got := s.list(b); !slices.Equal(got, want) {
		t.Errorf("List: %+v, want %+v", got, want)
	}
	s.totals(b, relay.RoomTotals{Rooms: 5, Max: Unbounded, Committed: 5 + 5 + 5 + 10 + relay.MaxRoomClients})
	for _, max := range []int32{relay.MaxRoomClients + 1, math.MaxInt32, 0, -1, math.MinInt32} {
		if room, err := a.Create(t.Context(), max); err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("Create(%d): %+v (%v)", max, room, err)
		}
	}
	for _, room := range want {
		s.listed(b, room)
		s.close(b, room.ID)
		_, err := a.Room(t.Context(), room.ID)
		s.refused("Room of one that is closed", err, relay.ErrNoRoom)
		s.refused("Close of one that is closed", a.Close(t.Context(), room.ID), relay.ErrNoRoom)
	}
	for _, id := range []int32{0, -1, math.MinInt32, math.MaxInt32} {
		_, err := a.Room(t.Context(), id)
		s.refused("Room of none", err, relay.ErrNoRoom)
		s.refused("Close of none", a.Close(t.Context(), id), relay.ErrNoRoom)
	}
	if got := s.list(a); len(got) != 0 {
		t.Errorf("in the end there are %+v", got)
	}
	s.totals(a, relay.RoomTotals{Max: Unbounded})
}

// What rooms count for is rounded up to a multiple of five, and may be just the
// maximum.
func testRoomsMaximum(t *testing.T, s *roomsSuite) {
	const max = 23
	a, b := s.Open(t, RoomsSettings{Max: max, TTL: time.Hour}), s.Open(t, RoomsSettings{Max: max + 2, TTL: time.Hour})
	var rooms []relay.Room
	committed := int64(0)
	create := func(n *RoomsNode, clients int32, want error) {
		t.Helper()
		room, err := n.Create(t.Context(), clients)
		if want != nil {
			s.refused("Create over the maximum", err, want)
		} else {
			s.done("Create", err)
			rooms = append(rooms, room)
			committed += relay.Committed(clients)
		}
		s.totals(a, relay.RoomTotals{Rooms: int64(len(rooms)), Max: max, Committed: committed})
	}
	create(a, max+1, relay.ErrRoomsFull)
	create(a, max, relay.ErrRoomsFull) // counts for 25
	create(a, 6, nil)
	create(a, 11, relay.ErrRoomsFull) // counts for 15
	create(b, 15, nil)                // 25, which is b's maximum
	create(b, 1, relay.ErrRoomsFull)
	s.close(a, rooms[0].ID)
	rooms, committed = rooms[1:], committed-10
	create(a, 6, relay.ErrRoomsFull)
	create(a, 5, nil)
	create(a, 1, relay.ErrRoomsFull) // 20 and 5
	create(a, relay.MaxRoomClients, relay.ErrRoomsFull)
	for _, room := range rooms {
		s.close(b, room.ID)
	}
	s.totals(b, relay.RoomTotals{Max: max + 2})
}

// Many create at once: the maximum is reached, and not exceeded.
func testRoomsCreateRace(t *testing.T, s *roomsSuite) {
	const most, each = 50, 12
	limits := RoomsSettings{Max: most, TTL: time.Hour}
	nodes := []*RoomsNode{s.Open(t, limits), s.Open(t, limits), s.Open(t, limits)}
	for range max(2, s.Rounds/20) {
		var made atomic.Int64
		var wg sync.WaitGroup
		for _, n := range nodes {
			for i := range each {
				wg.Go(func() {
					_, err := n.Create(t.Context(), int32(1+i%5))
					if err == nil {
						made.Add(1)
					} else if !errors.Is(err, relay.ErrRoomsFull) {
						t.Errorf("Create: %v", err)
					}
				})
			}
		}
		wg.Wait()
		if got := made.Load(); got != most/5 {
			t.Errorf("%d rooms were made, want %d", got, most/5)
		}
		s.totals(nodes[1], relay.RoomTotals{Rooms: most / 5, Max: most, Committed: most})
		all := s.list(nodes[0])
		if len(all) != most/5 {
			t.Errorf("%d rooms are listed, want %d", len(all), most/5)
		}
		// Two close each room.
		var closed atomic.Int64
		for i, room := range all {
			for k := range 2 {
				wg.Go(func() {
					err := nodes[(i+k)%len(nodes)].Close(t.Context(), room.ID)
					if err == nil {
						closed.Add(1)
					} else if !errors.Is(err, relay.ErrNoRoom) {
						t.Errorf("Close: %v", err)
					}
				})
			}
		}
		wg.Wait()
		if got := closed.Load(); got < most/5 {
			t.Errorf("%d rooms were closed, want %d or more", got, most/5)
		}
		s.totals(nodes[2], relay.RoomTotals{Max: most})
	}
}

// The sums are those of one moment, whatever goes on.
func testRoomsTotals(t *testing.T, s *roomsSuite) {
	a, b, c := s.open(), s.open(), s.open()
	var wg sync.WaitGroup
	for _, n := range []*RoomsNode{a, b} {
		wg.Go(func() {
			for range max(10, s.Rounds/4) {
				room, err := n.Create(t.Context(), 3) // counts for 5
				if err != nil {
					t.Errorf("Create: %v", err)
					return
				}
				for range 3 {
					name := newSeatName()
					if _, err := n.Join(t.Context(), room.ID, room.Secret, name, 1, false); err != nil {
						t.Errorf("Join: %v", err)
					}
				}
				if err := n.Close(t.Context(), room.ID); err != nil {
					t.Errorf("Close: %v", err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	looks := 0
	for running := true; running; looks++ {
		select {
		case <-over:
			running = false
		default:
		}
		got, err := c.Totals(t.Context())
		if err != nil || got.Committed != 5*got.Rooms || got.Rooms > 2 || got.Clients > 3*got.Rooms || got.Clients < 0 {
			t.Fatalf("Totals: %+v (%v)", got, err)
		}
		for _, room := range s.list(c) {
			if room.Secret < 1 || room.MaxClients != 3 || room.Clients < 0 || room.Clients > 3 {
				t.Fatalf("listed: %+v", room)
			}
		}
	}
	t.Logf("%d looks", looks)
	s.totals(c, relay.RoomTotals{Max: Unbounded})

	room := s.create(3, a)
	sums := func(clients int32) {
		t.Helper()
		room.Clients = clients
		s.listed(c, room)
		s.totals(c, relay.RoomTotals{Rooms: 1, Max: Unbounded, Clients: int64(clients), Committed: 5})
	}
	sums(0)
	p, q := s.join(a, room, 0), s.join(b, room, 1)
	sums(2)
	s.done("Kick", a.Kick(t.Context(), p.Seat, 1))
	sums(1)
	b.Leave(q.Seat)
	s.rejoin(a, room, q)
	sums(2)
	s.grant(p, 1)
	a.Leave(p.Seat)
	sums(1)
	s.close(c, room.ID)
	s.totals(c, relay.RoomTotals{Max: Unbounded})
}

// A room in which nobody is lasts for its time, from when the last one left.
func testRoomsExpiry(t *testing.T, s *roomsSuite) {
	const ttl = 1500 * time.Millisecond
	a := s.Open(t, RoomsSettings{Max: Unbounded, TTL: ttl})
	b := s.Open(t, RoomsSettings{Max: Unbounded, TTL: ttl})
	lasts := s.create(5, a, b)
	s.join(a, lasts, 0)
	left := s.create(5, a, b)
	p := s.join(a, left, 0)
	created := time.Now()
	never := s.create(5, a, b)
	gone := func(room relay.Room, since time.Time) {
		t.Helper()
		Eventually(t, "the room is gone", func() bool {
			_, err := b.Room(t.Context(), room.ID)
			if err != nil && !errors.Is(err, relay.ErrNoRoom) {
				t.Fatalf("Room: %v", err)
			}
			return err != nil
		})
		if took := time.Since(since); took < ttl-time.Millisecond { // Redis's clock counts these
			t.Errorf("a room with nobody in it lasted for %v, want %v", took, ttl)
		} else {
			t.Logf("it lasted for %v", took)
		}
		_, err := a.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, false)
		s.refused("Join of a room that has expired", err, relay.ErrNoRoom)
		s.refused("Tell of a room that has expired", a.Tell(t.Context(), room.ID), relay.ErrNoRoom)
		s.refused("Close of a room that has expired", a.Close(t.Context(), room.ID), relay.ErrNoRoom)
		if slices.ContainsFunc(s.list(a), func(r relay.Room) bool { return r.ID == room.ID }) {
			t.Error("it is listed")
		}
	}
	gone(never, created)
	a.Leave(p.Seat)
	parted := time.Now()
	s.connected(b, left.ID, relay.NoHost)
	s.rejoin(b, left, p)
	s.connected(b, lasts.ID, 0, 0)
	time.Sleep(time.Until(parted.Add(ttl + ttl/4))) // nothing is to happen meanwhile
	s.connected(b, left.ID, 0, 0)
	b.Leave(p.Seat)
	gone(left, time.Now())
	s.connected(b, lasts.ID, 0, 0)
	s.agree(lasts, a, b)
}

// With a room its seats end, on whichever node, and everybody hears of it.
func testRoomsClose(t *testing.T, s *roomsSuite) {
	a, b, c := s.open(), s.open(), s.open()
	room := s.create(4, a, b, c)
	p, q := s.join(a, room, 0), s.join(b, room, 1)
	away := s.join(c, room, 2)
	c.Leave(away.Seat)
	s.connected(c, room.ID, 0, 0, 1)
	s.close(c, room.ID)
	s.refused("Close again", b.Close(t.Context(), room.ID), relay.ErrNoRoom)
	_, _, err := b.Connected(t.Context(), room.ID)
	s.refused("Connected", err, relay.ErrNoRoom)
	s.refused("Kick", a.Kick(t.Context(), p.Seat, q.Client), relay.ErrNoRoom)
	s.refused("Grant", a.Grant(t.Context(), p.Seat, q.Client), relay.ErrNoRoom)
	s.refused("Assign", a.Assign(t.Context(), p.Seat), relay.ErrNoRoom)
	s.refused("Tell", a.Tell(t.Context(), room.ID), relay.ErrNoRoom)
	_, err = a.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, false)
	s.refused("Join", err, relay.ErrNoRoom)
	_, err = a.Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), away.Client, away.secret, false)
	s.refused("Rejoin", err, relay.ErrNoRoom)
	a.Leave(p.Seat)
	b.Leave(q.Seat)
	for _, n := range []*RoomsNode{a, b, c} {
		s.heard(n, room, joinedEvent(0, p), joinedEvent(0, q), joinedEvent(0, away), leftEvent(0, 2), closedEvent)
	}
	s.agree(room, a, b, c)
	if a.AllLost()+b.AllLost() != 0 {
		t.Error("with one room all seats were lost")
	}
}
