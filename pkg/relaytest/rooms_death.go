package relaytest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"parley/pkg/relay"
)

// With a node go its seats, and others become hosts.
func testRoomsDeath(t *testing.T, s *roomsSuite) {
	a, b := s.openMortal(), s.open()
	room, lonely := s.create(6, b), s.create(6, b)
	p := []*player{s.join(a, room, 0), s.join(b, room, 1), s.join(a, room, 2), s.join(b, room, 3), s.join(a, room, 4)}
	alone := s.join(a, lonely, 0)
	began := time.Now()
	a.Die()
	s.connected(b, room.ID, 1, 1, 3)
	s.connected(b, lonely.ID, relay.NoHost)
	t.Logf("gone %v after their node", time.Since(began).Round(time.Millisecond))
	s.heard(b, room, joinedEvent(0, p[0]), joinedEvent(0, p[1]), joinedEvent(0, p[2]), joinedEvent(0, p[3]), joinedEvent(0, p[4]),
		leftEvent(1, 0, 2, 4)) // one event of all
	s.rejoin(b, room, p[2])
	s.connected(b, room.ID, 1, 1, 2, 3)
	s.rejoin(b, lonely, alone)
	s.connected(b, lonely.ID, 0, 0)
	s.agree(room, b)
	s.agree(lonely, b)
	room.Clients = 3
	s.listed(b, room)
	if b.AllLost() != 0 {
		t.Error("the survivor has lost its seats")
	}
}

// Several nodes die at once, with more rooms than one pipeline goes through.
func testRoomsDeathOfMany(t *testing.T, s *roomsSuite) {
	rooms := min(70, 4*s.Rounds)
	nodes := []*RoomsNode{s.openMortal(), s.openMortal(), s.openMortal()}
	survivor := s.open()
	all := make([]relay.Room, rooms)
	stays := make([]*player, rooms)
	hosts := make([]int32, rooms)
	for i := range all {
		all[i] = s.create(6, survivor)
		order := []*RoomsNode{nodes[i%3], nodes[(i+1)%3], survivor, nodes[(i+2)%3], nodes[i%3]}
		if i%4 == 0 {
			order[2] = nodes[0] // nobody survives
		}
		hosts[i] = relay.NoHost
		for k, n := range order {
			if p := s.join(n, all[i], int32(k)); n == survivor {
				stays[i], hosts[i] = p, p.Client
			}
		}
	}
	died := make(chan struct{}, len(nodes))
	for _, n := range nodes {
		go func() { n.Die(); died <- struct{}{} }()
	}
	for range nodes {
		<-died
	}
	for i, room := range all {
		if stays[i] == nil {
			s.connected(survivor, room.ID, relay.NoHost)
		} else {
			s.connected(survivor, room.ID, hosts[i], hosts[i])
		}
		if v := s.agree(room, survivor); stays[i] != nil && !v.Has(stays[i].Seat) {
			t.Errorf("the survivor's seat is gone: %v", v.Seats)
		}
		if left := eventsOf(survivor, room.ID)[5:]; len(left) > len(nodes) {
			t.Errorf("%d nodes have died, and %d events tell of it", len(nodes), len(left))
		}
	}
	if survivor.AllLost() != 0 {
		t.Error("the survivor has lost its seats")
	}
}

// A node that is cut off for so long that it is taken for dead is told that its seats
// are lost before another client is host in its client's place.
func testRoomsCutOffForLong(t *testing.T, s *roomsSuite) {
	a, b := s.openMortal(), s.open()
	room := s.create(4, a, b)
	host, other := s.join(a, room, 0), s.join(b, room, 1)
	untold := s.create(4, b) // of which the node that is cut off hears nothing
	s.join(a, untold, 0)
	s.join(b, untold, 1)
	a.Cut(true)
	told := s.moved(a, func() (bool, error) {
		_, is, err := b.Connected(t.Context(), room.ID)
		return is != host.Client, err
	})
	t.Logf("another host %v after its node was told", time.Since(told).Round(time.Millisecond))
	s.connected(b, untold.ID, 1, 1)
	began := time.Now()
	_, err := a.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, false)
	s.refused("Join while the node is cut off", err, relay.ErrUnavailable)
	if took := time.Since(began); took > 2*time.Second+Patience/10 {
		t.Errorf("Join took %v", took)
	}
	a.Leave(host.Seat) // as its connection is closed
	a.Cut(false)
	s.returns(a, room, host)
	s.connected(b, room.ID, 1, 0, 1)
	s.heard(b, room, joinedEvent(0, &player{Seat: relay.Seat{Client: 0, Name: eventsOf(b, room.ID)[0].Name}}), joinedEvent(0, other),
		leftEvent(1, 0), joinedEvent(1, host))
	s.agree(room, b)
	s.agree(untold, b)
	if b.AllLost() != 0 {
		t.Error("the other node has lost its seats")
	}
}

// moved waits until a host is another one, and returns when its node had been told
// that it has lost all seats, which must have been before.
func (s *roomsSuite) moved(n *RoomsNode, another func() (bool, error)) (told time.Time) {
	s.t.Helper()
	Eventually(s.t, "there is another host", func() bool {
		is, err := another()
		if told.IsZero() && n.AllLost() > 0 { // looked at after Redis has answered
			told = time.Now()
		}
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			s.t.Fatal(err)
		}
		if is && err == nil && told.IsZero() {
			s.t.Fatal("there is another host, and the node of the old one has not been told that it is dead")
		}
		return is && err == nil
	})
	return told
}

// returns has a client come back as soon as its node may seat anybody.
func (s *roomsSuite) returns(n *RoomsNode, room relay.Room, p *player) {
	s.t.Helper()
	Eventually(s.t, "the client is back", func() bool {
		name := newSeatName()
		seat, err := n.Rejoin(s.t.Context(), room.ID, room.Secret, name, p.Client, p.secret, false)
		if err == nil {
			p.Seat, p.node = seat, n
		} else if !errors.Is(err, relay.ErrUnavailable) && !errors.Is(err, relay.ErrConnected) {
			s.t.Fatalf("Rejoin: %v", err)
		}
		return err == nil
	})
}

// Redis loses everything: who has a seat is told, and rooms can be made again.
func testRoomsFlush(t *testing.T, s *roomsSuite) {
	nodes := []*RoomsNode{s.open(), s.open()}
	var rooms []relay.Room
	var players [][]*player
	for range 5 {
		room := s.create(5, nodes...)
		rooms = append(rooms, room)
		players = append(players, []*player{s.join(nodes[0], room, 0), s.join(nodes[1], room, 1), s.join(nodes[0], room, 2)})
	}
	s.Flush(t)
	began := time.Now()
	for i, room := range rooms {
		for _, p := range players[i] {
			Eventually(t, fmt.Sprint("client ", p.Client, " is told"), func() bool { return s.told(p, room) })
		}
	}
	t.Logf("all are told %v after the flush", time.Since(began).Round(time.Millisecond))
	for i, room := range rooms {
		_, _, err := nodes[0].Connected(t.Context(), room.ID)
		s.refused("Connected", err, relay.ErrNoRoom)
		p := players[i][0]
		s.refused("Kick", p.node.Kick(t.Context(), p.Seat, 1), relay.ErrNoRoom)
		_, err = nodes[1].Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, false)
		if !errors.Is(err, relay.ErrNoRoom) && !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("Join: %v", err)
		}
		for _, p := range players[i] {
			p.node.Leave(p.Seat)
		}
	}
	var room relay.Room
	Eventually(t, "a room is made", func() bool {
		var err error
		room, err = nodes[1].Create(t.Context(), 5)
		return err == nil
	})
	for _, n := range nodes {
		s.hear(n, room.ID)
	}
	for i, n := range nodes {
		p := &player{node: n, Seat: relay.Seat{Room: room.ID, Client: int32(i)}}
		Eventually(t, "a client can join", func() bool {
			seat, err := n.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, false)
			if err != nil && !errors.Is(err, relay.ErrUnavailable) {
				t.Fatalf("Join: %v", err)
			}
			p.Seat = seat
			return err == nil
		})
	}
	s.agree(room, nodes...)
	if totals, err := nodes[0].Totals(t.Context()); err != nil || totals.Rooms != 1 || totals.Clients != 2 || totals.Committed != 5 {
		t.Errorf("after the flush: %+v (%v)", totals, err)
	}
}

// told tells whether a node knows that a seat is lost: all of its seats, the whole room,
// or by an event.
func (s *roomsSuite) told(p *player, room relay.Room) bool {
	if p.node.AllLost() > 0 || p.node.RoomLost(room.ID) {
		return true
	}
	v, err := ReplayRoom(room.ID, room.MaxClients, p.node.Events(relay.RoomTopic(room.ID)))
	if err != nil {
		s.t.Fatal(err)
	}
	return !v.Unknown && !v.Has(p.Seat)
}
