package relaytest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// A client whose node has died is back at once, though the node's lease stands; one
// whose node lives is not.
func testRoomsBack(t *testing.T, s *roomsSuite) {
	dead, b, c := s.open(), s.open(), s.open()
	room, moving := s.create(4, b, c), s.create(4, b, c)
	p := []*player{s.join(dead, room, 0), s.join(b, room, 1), s.join(dead, room, 2), s.join(b, room, 3)} // it is full
	q := []*player{s.join(dead, moving, 0), s.join(b, moving, 1), s.join(b, moving, 2)}
	s.done("Grant", dead.Grant(t.Context(), q[0].Seat, 2))
	for _, p := range p {
		began := time.Now()
		_, err := c.Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), p.Client, p.secret, false)
		s.refused("Rejoin of who is connected", err, relay.ErrConnected)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a node that lives was looked at for %v", took)
		}
	}
	dead.Die()
	_, err := c.Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), 0, p[0].secret^1, false)
	s.refused("Rejoin with a wrong secret", err, relay.ErrNoClient)
	s.connected(c, room.ID, 0, 0, 1, 2, 3)
	want := []relay.RoomEvent{joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3])}
	back := func(n *RoomsNode, room relay.Room, p *player) {
		t.Helper()
		began := time.Now()
		s.rejoin(n, room, p)
		took := time.Since(began)
		t.Logf("back after %v", took.Round(time.Millisecond))
		if took > 2*time.Second+Patience/10 {
			t.Errorf("Rejoin took %v", took)
		}
	}
	back(c, room, p[0])
	s.connected(b, room.ID, 1, 0, 1, 2, 3)
	back(b, room, p[2])
	s.heard(b, room, append(want, leftEvent(1, 0), joinedEvent(1, p[0]), leftEvent(1, 2), joinedEvent(1, p[2]))...)
	back(b, moving, q[0])
	s.heard(c, moving, joinedEvent(0, &player{Seat: relay.Seat{Client: 0, Name: eventsOf(c, moving.ID)[0].Name}}), joinedEvent(0, q[1]),
		joinedEvent(0, q[2]), movingEvent(0), leftEvent(2, 0), joinedEvent(2, q[0]))
	s.agree(room, b, c)
	s.agree(moving, b, c)
}

// Of several who come back as the client of a dead node, one does: what it has then is
// not taken from it.
func testRoomsBackRace(t *testing.T, s *roomsSuite) {
	dead := s.open()
	nodes := []*RoomsNode{s.open(), s.open()}
	room := s.create(2, nodes...)
	p := s.join(dead, room, 0)
	dead.Die()
	var mu sync.Mutex
	var seats []relay.Seat
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			seat, err := nodes[i%2].Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), 0, p.secret, false)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				seats = append(seats, seat)
			} else if !errors.Is(err, relay.ErrConnected) {
				t.Errorf("Rejoin: %v", err)
			}
		})
	}
	wg.Wait()
	if len(seats) != 1 {
		t.Fatalf("back are %+v", seats)
	}
	if v := s.agree(room, nodes...); !v.Has(seats[0]) || len(v.Seats) != 1 || v.Host != 0 {
		t.Errorf("host is %d of %v, want %+v", v.Host, v.Seats, seats[0])
	}
	s.heard(nodes[0], room, joinedEvent(0, p), leftEvent(relay.NoHost, 0), joinedEvent(0, &player{Seat: seats[0]}))
}

// A node that is cut off hears, when it is back, that another one has seated its client,
// and has no part in that.
func testRoomsBackFromCutOff(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(4, a, b)
	p, q, stays := s.join(a, room, 0), s.join(b, room, 1), s.join(a, room, 2)
	want := []relay.RoomEvent{joinedEvent(0, p), joinedEvent(0, q), joinedEvent(0, stays)}
	old := p.Seat
	a.Cut(true)
	s.returns(b, room, p) // Redis may hear of the cut a moment later
	a.Cut(false)
	s.heard(a, room, append(want, leftEvent(1, 0), joinedEvent(1, p))...)
	a.Leave(old) // as its connection is closed
	s.refused("Kick by a seat of before", a.Kick(t.Context(), old, 1), relay.ErrNoSeat)
	v := s.agree(room, a, b)
	if !v.Has(p.Seat) || !v.Has(q.Seat) || !v.Has(stays.Seat) || a.AllLost() != 0 {
		t.Errorf("connected are %v; all seats were lost %d times", v.Seats, a.AllLost())
	}
}
