package relaytest

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"parley/pkg/relay"
)

// A room's clients have ids that count up from 0 and never come again; the first one
// is host.
func testRoomsJoin(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(2, a, b)
	s.connected(b, room.ID, relay.NoHost)
	for _, wrong := range []relay.Room{
		{ID: room.ID, Secret: room.Secret ^ 1}, {ID: room.ID}, {ID: room.ID, Secret: -room.Secret},
		{ID: room.ID ^ 1, Secret: room.Secret}, {ID: -1, Secret: room.Secret},
	} {
		_, err := a.Join(t.Context(), wrong.ID, wrong.Secret, newSeatName(), 1, true)
		s.refused("Join with a wrong id or secret", err, relay.ErrNoRoom)
	}
	p := s.join(a, room, 0)
	s.connected(b, room.ID, 0, 0)
	name := strings.Repeat("~", 64)
	seat, err := b.Join(t.Context(), room.ID, room.Secret, name, math.MaxInt32, true)
	q := &player{seat, b, math.MaxInt32}
	if want := (relay.Seat{Room: room.ID, Client: 1, Name: name}); err != nil || seat != want {
		t.Fatalf("Join: %+v (%v), want %+v", seat, err, want)
	}
	_, err = a.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, true)
	s.refused("Join of a full room", err, relay.ErrRoomFull)
	s.connected(a, room.ID, 0, 0, 1)
	joined := joinedEvent(0, q)
	joined.Full, joined.All = true, []relay.Seat{p.Seat, q.Seat}
	want := []relay.RoomEvent{joinedEvent(0, p), joined}
	for i := range int32(3) {
		b.Leave(q.Seat)
		s.connected(b, room.ID, 0, 0)
		want = append(want, leftEvent(0, q.Client))
		q = s.join(b, room, 2+i)
		want = append(want, joinedEvent(0, q))
	}
	a.Leave(p.Seat)
	s.connected(b, room.ID, 4, 4)
	b.Leave(q.Seat)
	s.connected(a, room.ID, relay.NoHost)
	r := s.join(a, room, 5) // also after all have gone
	s.connected(b, room.ID, 5, 5)
	want = append(want, leftEvent(4, 0), leftEvent(relay.NoHost, 4), joinedEvent(5, r))
	s.heard(a, room, want...)
	s.heard(b, room, want...)
	s.agree(room, a, b)
}

// Who has gone comes back under the same id, with the same secret and another seat.
func testRoomsRejoin(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(2, a, b)
	p, q := s.join(a, room, 0), s.join(b, room, 1)
	rejoin := func(what string, room relay.Room, client, secret int32, want error) {
		t.Helper()
		_, err := b.Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), client, secret, true)
		s.refused(what, err, want)
	}
	old := p.Seat
	a.Leave(old)
	s.connected(b, room.ID, 1, 1)
	rejoin("of a client that is connected", room, q.Client, q.secret, relay.ErrConnected)
	rejoin("of one that is connected, with a wrong secret", room, q.Client, q.secret^1, relay.ErrNoClient)
	rejoin("with a wrong secret", room, p.Client, p.secret^1, relay.ErrNoClient)
	rejoin("with another's secret", room, p.Client, q.secret, relay.ErrNoClient)
	rejoin("of nobody", room, 2, p.secret, relay.ErrNoClient)
	rejoin("of nobody", room, -1, p.secret, relay.ErrNoClient)
	rejoin("of nobody", room, math.MaxInt32, p.secret, relay.ErrNoClient)
	rejoin("with a wrong secret of the room", relay.Room{ID: room.ID, Secret: room.Secret ^ 1}, p.Client, p.secret, relay.ErrNoRoom)
	rejoin("of another room", relay.Room{ID: room.ID ^ 1, Secret: room.Secret}, p.Client, p.secret, relay.ErrNoRoom)
	name := newSeatName()
	seat, err := b.Rejoin(t.Context(), room.ID, room.Secret, name, 0, p.secret, true)
	if want := (relay.Seat{Room: room.ID, Client: 0, Name: name}); err != nil || seat != want {
		t.Fatalf("Rejoin: %+v (%v), want %+v", seat, err, want)
	}
	again := joinedEvent(1, &player{Seat: seat})
	again.Full, again.All = true, []relay.Seat{seat, q.Seat}
	want := []relay.RoomEvent{joinedEvent(0, &player{Seat: old}), joinedEvent(0, q), leftEvent(1, 0), again}
	a.Leave(old) // is not that seat any more
	s.refused("Kick by a seat of before", a.Kick(t.Context(), old, 1), relay.ErrNoSeat)
	s.heard(a, room, want...)

	b.Leave(seat)
	s.connected(b, room.ID, 1, 1)
	r := s.join(a, room, 2)
	rejoin("of a full room", room, p.Client, p.secret, relay.ErrRoomFull)
	a.Leave(r.Seat)
	b.Leave(q.Seat)
	s.connected(a, room.ID, relay.NoHost)
	s.rejoin(a, room, p) // the first one in a room without a host
	s.rejoin(a, room, q)
	s.connected(b, room.ID, 0, 0, 1)
	s.agree(room, a, b)
}

// A seat is given up once, and the next host is the one with the lowest id.
func testRoomsLeave(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(5, a, b)
	p := []*player{s.join(a, room, 0), s.join(b, room, 1), s.join(b, room, 2), s.join(a, room, 3)}
	want := []relay.RoomEvent{joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3])}
	leave := func(n *RoomsNode, seat relay.Seat, host int32, connected ...int32) {
		t.Helper()
		n.Leave(seat)
		n.Leave(seat) // again
		s.connected(b, room.ID, host, connected...)
		want = append(want, leftEvent(host, seat.Client))
	}
	leave(b, p[1].Seat, 0, 0, 2, 3)
	want = append(want, s.grant(p[0], 3)...)
	leave(a, p[3].Seat, 0, 0, 2) // not 1, who has gone
	for _, no := range []relay.Seat{
		{Room: room.ID, Client: 0, Name: newSeatName()}, {Room: room.ID, Client: 9, Name: newSeatName()},
		{Room: room.ID ^ 1, Client: 0, Name: p[0].Name}, p[1].Seat, p[3].Seat,
	} {
		a.Leave(no)
		b.Leave(no)
	}
	leave(a, p[0].Seat, 2, 2)
	leave(b, p[2].Seat, relay.NoHost)
	s.heard(a, room, want...)
	s.heard(b, room, want...)
	s.agree(room, a, b)
}

// The host, and nobody else, takes others' seats.
func testRoomsKick(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(5, a, b)
	p := []*player{s.join(a, room, 0), s.join(b, room, 1), s.join(b, room, 2), s.join(a, room, 3)}
	want := []relay.RoomEvent{joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3]), leftEvent(0, 3)}
	a.Leave(p[3].Seat)
	s.connected(b, room.ID, 0, 0, 1, 2)
	s.commanded("Kick", p, func(n *RoomsNode, host relay.Seat, target int32) error { return n.Kick(t.Context(), host, target) })
	s.done("Kick", a.Kick(t.Context(), p[0].Seat, 1))
	s.connected(b, room.ID, 0, 0, 2)
	want = append(want, kickedEvent(0, 1))
	s.refused("Kick again", a.Kick(t.Context(), p[0].Seat, 1), relay.ErrNoClient)
	s.refused("Kick by who was kicked", b.Kick(t.Context(), p[1].Seat, 2), relay.ErrNoSeat)
	b.Leave(p[1].Seat) // has no effect
	s.rejoin(a, room, p[1])
	want = append(want, joinedEvent(0, p[1]))
	s.done("Kick", a.Kick(t.Context(), p[0].Seat, 1))
	s.done("Kick", a.Kick(t.Context(), p[0].Seat, 2))
	a.Leave(p[1].Seat)
	b.Leave(p[2].Seat)
	want = append(want, kickedEvent(0, 1), kickedEvent(0, 2))
	s.connected(b, room.ID, 0, 0)
	q := s.join(b, room, 4) // ids of who was kicked do not come again
	s.heard(b, room, append(want, joinedEvent(0, q))...)
	s.agree(room, a, b)
}

// commanded checks who may not do what only a host may. Of the players 0 is host, 3 is
// not connected, and others are not there.
func (s *roomsSuite) commanded(what string, p []*player, command func(*RoomsNode, relay.Seat, int32) error) {
	s.t.Helper()
	a, b, host := p[0].node, p[1].node, p[0].Seat
	for _, c := range []struct {
		by     string
		n      *RoomsNode
		seat   relay.Seat
		target int32
		want   error
	}{
		{"another client", b, p[1].Seat, 2, relay.ErrNotHost},
		{"another client, of the host", b, p[1].Seat, 0, relay.ErrNotHost},
		{"a client that has gone", a, p[3].Seat, 1, relay.ErrNoSeat},
		{"nobody", a, relay.Seat{Room: host.Room, Client: 9, Name: newSeatName()}, 1, relay.ErrNoSeat},
		{"the host with another seat", a, relay.Seat{Room: host.Room, Client: 0, Name: newSeatName()}, 1, relay.ErrNoSeat},
		{"somebody with the host's seat", a, relay.Seat{Room: host.Room, Client: 2, Name: host.Name}, 1, relay.ErrNoSeat},
		{"the host in another room", a, relay.Seat{Room: host.Room ^ 1, Client: 0, Name: host.Name}, 1, relay.ErrNoRoom},
		{"the host, of itself", a, host, 0, relay.ErrNoClient},
		{"the host, of who has gone", a, host, 3, relay.ErrNoClient},
		{"the host, of nobody", a, host, 4, relay.ErrNoClient},
		{"the host, of nobody", a, host, -1, relay.ErrNoClient},
		{"the host, of nobody", a, host, math.MaxInt32, relay.ErrNoClient},
	} {
		s.refused(fmt.Sprint(what, " by ", c.by), command(c.n, c.seat, c.target), c.want)
	}
}

// The host, and nobody else, makes another one host. Nobody is while it does so.
func testRoomsGrant(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(5, a, b)
	p := []*player{s.join(a, room, 0), s.join(b, room, 1), s.join(b, room, 2), s.join(a, room, 3)}
	want := []relay.RoomEvent{joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3]), leftEvent(0, 3)}
	a.Leave(p[3].Seat)
	s.connected(b, room.ID, 0, 0, 1, 2)
	grant := func(n *RoomsNode, host relay.Seat, target int32) error { return n.Grant(t.Context(), host, target) }
	s.commanded("Grant", p, grant)
	want = append(want, s.grant(p[0], 2)...)
	s.connected(b, room.ID, 2, 0, 1, 2)
	s.refused("Grant by who was host", grant(a, p[0].Seat, 1), relay.ErrNotHost)
	s.refused("Kick by who was host", a.Kick(t.Context(), p[0].Seat, 1), relay.ErrNotHost)
	s.refused("Grant by the host to itself", grant(b, p[2].Seat, 2), relay.ErrNoClient)
	want = append(want, s.grant(p[2], 1)...)
	want = append(want, s.grant(p[1], 0)...)
	s.done("Kick", a.Kick(t.Context(), p[0].Seat, 2))
	b.Leave(p[2].Seat)
	want = append(want, kickedEvent(0, 2))
	// A host is host by its seat: who comes back is another one.
	old := p[0].Seat
	a.Leave(old)
	s.connected(b, room.ID, 1, 1)
	s.rejoin(a, room, p[0])
	want = append(append(want, leftEvent(1, 0), joinedEvent(1, p[0])), s.grant(p[1], 0)...)
	s.refused("Kick by the host with its old seat", a.Kick(t.Context(), old, 1), relay.ErrNoSeat)
	s.heard(a, room, want...)
	s.heard(b, room, want...)
	s.agree(room, a, b)
}

// Everybody is told who is connected, and nothing changes.
func testRoomsTell(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(12, a, b)
	s.done("Tell", a.Tell(t.Context(), room.ID))
	want := []relay.RoomEvent{toldEvent(relay.NoHost)}
	var seats []relay.Seat
	for i := range int32(12) { // in the order of numbers, not of their digits
		p := s.join(b, room, i)
		want = append(want, joinedEvent(0, p))
		seats = append(seats, p.Seat)
	}
	s.done("Tell", b.Tell(t.Context(), room.ID))
	s.done("Tell", a.Tell(t.Context(), room.ID))
	s.done("Grant", b.Grant(t.Context(), seats[0], 11))
	s.done("Tell", a.Tell(t.Context(), room.ID))
	s.done("Assign", b.Assign(t.Context(), seats[0]))
	s.done("Tell", a.Tell(t.Context(), room.ID))
	want = append(want, toldEvent(0, seats...), toldEvent(0, seats...), movingEvent(0), toldEvent(relay.NoHost, seats...),
		grantedEvent(11, 0), toldEvent(11, seats...))
	s.heard(b, room, want...)
	s.refused("Tell of no room", a.Tell(t.Context(), room.ID^1), relay.ErrNoRoom)
	_, _, err := a.Connected(t.Context(), room.ID^1)
	s.refused("Connected of no room", err, relay.ErrNoRoom)
	s.connected(a, room.ID, 11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	s.agree(room, a, b)
}
