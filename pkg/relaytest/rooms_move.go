package relaytest

import (
	"fmt"
	"testing"
	"time"

	"parley/pkg/relay"
)

// While the host is on the move nobody is host, and who comes is not. The move ends when
// it is assigned, or with the seat of who has granted it.
func testRoomsMove(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	ctx := t.Context()
	// moving makes a room of which client 0, on a, has granted it to client 2 of four, on b.
	moving := func(t *testing.T) (*roomsSuite, relay.Room, []*player, []relay.RoomEvent) {
		s := &roomsSuite{s.RoomsBackend, t}
		room := s.create(6, a, b)
		p := []*player{s.join(a, room, 0), s.join(b, room, 1), s.join(b, room, 2), s.join(a, room, 3)}
		s.done("Grant", a.Grant(ctx, p[0].Seat, 2))
		s.connected(b, room.ID, relay.NoHost, 0, 1, 2, 3)
		return s, room, p, []relay.RoomEvent{joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3]), movingEvent(0)}
	}
	t.Run("Assigned", func(t *testing.T) {
		s, room, p, want := moving(t)
		for i, p := range p {
			s.refused("Kick on the move", p.node.Kick(ctx, p.Seat, int32((i+1)%4)), relay.ErrNotHost)
			s.refused("Grant on the move", p.node.Grant(ctx, p.Seat, int32((i+1)%4)), relay.ErrNotHost)
			if i > 0 {
				s.done("Assign by another", p.node.Assign(ctx, p.Seat))
			}
		}
		no := p[0].Seat
		no.Name = newSeatName()
		s.refused("Assign with another seat", a.Assign(ctx, no), relay.ErrNoSeat)
		no.Room ^= 1
		s.refused("Assign in another room", a.Assign(ctx, no), relay.ErrNoRoom)
		q := s.join(b, room, 4)
		s.done("Tell", b.Tell(ctx, room.ID))
		s.connected(a, room.ID, relay.NoHost, 0, 1, 2, 3, 4)
		for range 3 { // an answer may be lost
			s.done("Assign", a.Assign(ctx, p[0].Seat))
		}
		s.connected(b, room.ID, 2, 0, 1, 2, 3, 4)
		want = append(want, joinedEvent(relay.NoHost, q), toldEvent(relay.NoHost, p[0].Seat, p[1].Seat, p[2].Seat, p[3].Seat, q.Seat), grantedEvent(2, 0))
		s.done("Grant", b.Grant(ctx, p[2].Seat, 1))
		s.done("Assign of before", a.Assign(ctx, p[0].Seat)) // is another's to do now
		s.connected(b, room.ID, relay.NoHost, 0, 1, 2, 3, 4)
		s.done("Assign", b.Assign(ctx, p[2].Seat))
		s.heard(a, room, append(want, movingEvent(2), grantedEvent(1, 2))...)
		s.agree(room, a, b)
	})
	// Who leaves, one after the other; then it may be assigned; who is host and who is
	// connected in the end.
	for name, c := range map[string]struct {
		leave   []int32
		assign  bool
		host    int32
		clients []int32
		told    []relay.RoomEvent
	}{
		"GranterLeaves":      {[]int32{0}, false, 2, []int32{1, 2, 3}, []relay.RoomEvent{leftEvent(2, 0)}},
		"TargetLeaves":       {[]int32{2}, true, 0, []int32{0, 1, 3}, []relay.RoomEvent{leftEvent(-1, 2), grantedEvent(0, 0)}},
		"BothLeave":          {[]int32{2, 0}, false, 1, []int32{1, 3}, []relay.RoomEvent{leftEvent(-1, 2), leftEvent(1, 0)}},
		"AnotherLeaves":      {[]int32{1}, true, 2, []int32{0, 2, 3}, []relay.RoomEvent{leftEvent(-1, 1), grantedEvent(2, 0)}},
		"AllButGranterLeave": {[]int32{1, 3, 2}, true, 0, []int32{0}, []relay.RoomEvent{leftEvent(-1, 1), leftEvent(-1, 3), leftEvent(-1, 2), grantedEvent(0, 0)}},
		"AllLeave":           {[]int32{1, 2, 3, 0}, false, -1, nil, []relay.RoomEvent{leftEvent(-1, 1), leftEvent(-1, 2), leftEvent(-1, 3), leftEvent(-1, 0)}},
		"AllLeaveGranterToo": {[]int32{0, 2, 1, 3}, false, -1, nil, []relay.RoomEvent{leftEvent(2, 0), leftEvent(1, 2), leftEvent(3, 1), leftEvent(-1, 3)}},
	} {
		t.Run(name, func(t *testing.T) {
			s, room, p, want := moving(t)
			gone := map[int32]bool{}
			for i, id := range c.leave {
				p[id].node.Leave(p[id].Seat)
				gone[id] = true
				var left []int32
				for id := range int32(len(p)) {
					if !gone[id] {
						left = append(left, id)
					}
				}
				s.connected(a, room.ID, c.told[i].Host, left...)
			}
			if c.assign {
				s.done("Assign", a.Assign(ctx, p[0].Seat))
			} else {
				s.refused("Assign by who has gone", a.Assign(ctx, p[0].Seat), relay.ErrNoSeat)
			}
			s.connected(b, room.ID, c.host, c.clients...)
			s.heard(b, room, append(want, c.told...)...)
			if len(c.clients) == 0 {
				q := s.join(b, room, 4) // the room is as any other
				s.connected(a, room.ID, 4, 4)
				b.Leave(q.Seat)
				s.connected(a, room.ID, relay.NoHost)
			}
			s.agree(room, a, b)
		})
	}
	t.Run("TargetComesBack", func(t *testing.T) {
		s, room, p, want := moving(t)
		b.Leave(p[2].Seat)
		s.connected(a, room.ID, relay.NoHost, 0, 1, 3)
		s.rejoin(a, room, p[2])
		s.done("Assign", a.Assign(ctx, p[0].Seat))
		s.heard(b, room, append(want, leftEvent(relay.NoHost, 2), joinedEvent(relay.NoHost, p[2]), grantedEvent(2, 0))...)
		s.agree(room, a, b)
	})
	t.Run("Closed", func(t *testing.T) {
		s, room, p, want := moving(t)
		s.close(b, room.ID)
		s.refused("Assign", a.Assign(ctx, p[0].Seat), relay.ErrNoRoom)
		s.heard(b, room, append(want, closedEvent)...)
		s.agree(room, a, b)
		for _, p := range p {
			p.node.Leave(p.Seat)
		}
	})
}

// Nodes die between a grant and its assignment: that of who has granted it, that of
// whom it was granted to, both, and all that have clients in the room.
func testRoomsMoveOfTheDead(t *testing.T, s *roomsSuite) {
	granters, targets := s.openMortal(), s.openMortal()
	lives := s.open()
	type part struct {
		nodes [4]*RoomsNode // of the clients; 0 grants it to 2
		host  int32         // in the end
		left  []int32
	}
	parts := []part{
		{[4]*RoomsNode{granters, lives, lives, lives}, 2, []int32{1, 2, 3}},
		{[4]*RoomsNode{lives, lives, targets, lives}, 0, []int32{0, 1, 3}},
		{[4]*RoomsNode{granters, lives, targets, lives}, 1, []int32{1, 3}},
		{[4]*RoomsNode{granters, lives, granters, lives}, 1, []int32{1, 3}},
		{[4]*RoomsNode{granters, granters, lives, targets}, 2, []int32{2}},
		{[4]*RoomsNode{granters, targets, targets, granters}, relay.NoHost, nil},
	}
	rooms := make([]relay.Room, len(parts))
	first := make([]*player, len(parts))
	for i, part := range parts {
		rooms[i] = s.create(5, lives)
		for id, n := range part.nodes {
			if p := s.join(n, rooms[i], int32(id)); id == 0 {
				first[i] = p
			}
		}
		s.done("Grant", first[i].node.Grant(t.Context(), first[i].Seat, 2))
		s.connected(lives, rooms[i].ID, relay.NoHost, 0, 1, 2, 3)
	}
	began := time.Now()
	granters.Die()
	targets.Die()
	for i, part := range parts {
		if part.nodes[0] == lives {
			s.connected(lives, rooms[i].ID, relay.NoHost, part.left...)
			s.done("Assign", lives.Assign(t.Context(), first[i].Seat))
		}
		s.connected(lives, rooms[i].ID, part.host, part.left...)
		if v := s.agree(rooms[i], lives); v.Moving() || v.Host != part.host {
			t.Error(fmt.Sprint("room ", i, ": the host is ", v.Host, ", want ", part.host))
		}
	}
	t.Logf("all moves have ended %v after the deaths", time.Since(began).Round(time.Millisecond))
	for _, room := range rooms {
		s.close(lives, room.ID)
	}
}
