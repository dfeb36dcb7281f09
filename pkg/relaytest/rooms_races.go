package relaytest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// What clients say and what happens to them has one order, for all nodes.
func testRoomsOrder(t *testing.T, s *roomsSuite) {
	a, b, c := s.open(), s.open(), s.open()
	room := s.create(30, a, b, c)
	nodes := []*RoomsNode{a, b}
	// One after the other, from different nodes.
	var want []string
	for i := range int32(5) {
		body := fmt.Sprint("before ", i)
		s.say(nodes[i%2], room.ID, body)
		p := s.join(nodes[(i+1)%2], room, i)
		want = append(want, body, string(relay.AppendRoomEvent(nil, &relay.RoomEvent{Kind: relay.RoomJoined, Client: i, Name: p.Name, Fence: 1})))
	}
	s.agree(room, a, b, c)
	for i, body := range c.Bodies(relay.RoomTopic(room.ID))[:len(want)] {
		if e, ok := relay.RoomEventOf(&relay.Message{Topic: relay.RoomTopic(room.ID), Body: []byte(body)}); ok {
			e.Fence = 1 // any
			body = string(relay.AppendRoomEvent(nil, &e))
		}
		if body != want[i] {
			t.Errorf("message %d is %q, want %q", i, body, want[i])
		}
	}
	// At the same time.
	var wg sync.WaitGroup
	for k, n := range nodes {
		wg.Go(func() {
			for i := range 20 {
				if err := say(t.Context(), n, room.ID, fmt.Sprint(k, " says ", i)); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 10 {
				if _, err := n.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, true); err != nil {
					t.Errorf("Join: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if v := s.agree(room, a, b, c); len(v.Seats) != 25 || v.Host != 0 {
		t.Errorf("in the end %d are connected, host is %d", len(v.Seats), v.Host)
	}
}

// Of many who join for one seat, one gets it.
func testRoomsLastSeat(t *testing.T, s *roomsSuite) {
	const many = 64
	nodes := []*RoomsNode{s.open(), s.open(), s.open()}
	for round := range s.Rounds {
		room := s.create(2, nodes[round%3])
		s.join(nodes[0], room, 0)
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range many {
			n := nodes[i%len(nodes)]
			wg.Go(func() {
				seat, err := n.Join(t.Context(), room.ID, room.Secret, newSeatName(), 1, i%2 == 0)
				switch {
				case err == nil && seat.Client == 1:
					won.Add(1)
				case !errors.Is(err, relay.ErrRoomFull):
					t.Errorf("Join: %+v, %v", seat, err)
				}
			})
		}
		wg.Wait()
		if got := won.Load(); got != 1 {
			t.Fatalf("round %d: %d got the last seat", round, got)
		}
		s.connected(nodes[1], room.ID, 0, 0, 1)
		s.agree(room, nodes[round%3])
		s.close(nodes[2], room.ID)
	}
}

// Of several who come back as one client, one does; when there is room for one of two
// clients, one of them does.
func testRoomsRejoinRace(t *testing.T, s *roomsSuite) {
	nodes := []*RoomsNode{s.open(), s.open()}
	a, b := nodes[0], nodes[1]
	room := s.create(2, a, b)
	s.join(a, room, 0)
	clients := []*player{s.join(b, room, 1), nil}
	b.Leave(clients[0].Seat)
	s.connected(a, room.ID, 0, 0)
	clients[1] = s.join(a, room, 2)
	a.Leave(clients[1].Seat)
	for round := range s.Rounds {
		s.connected(a, room.ID, 0, 0)
		var mu sync.Mutex
		var seats []relay.Seat
		var winner *RoomsNode
		var wg sync.WaitGroup
		for i := range 4 { // one client from both nodes; in each other round two of them
			n, p := nodes[i%2], clients[i/2*(round%2)]
			wg.Go(func() {
				seat, err := n.Rejoin(t.Context(), room.ID, room.Secret, newSeatName(), p.Client, p.secret, false)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					seats, winner = append(seats, seat), n
				} else if !errors.Is(err, relay.ErrConnected) && !errors.Is(err, relay.ErrRoomFull) {
					t.Errorf("Rejoin: %v", err)
				}
			})
		}
		wg.Wait()
		if len(seats) != 1 {
			t.Fatalf("round %d: back are %+v", round, seats)
		}
		s.connected(b, room.ID, 0, 0, seats[0].Client)
		winner.Leave(seats[0])
	}
	s.connected(b, room.ID, 0, 0)
	s.agree(room, a, b)
}

// The host leaves, grants and kicks at the same time, from anywhere: there is one host
// at every moment at which none is on the move.
func testRoomsHostRace(t *testing.T, s *roomsSuite) {
	nodes := []*RoomsNode{s.open(), s.open(), s.open()}
	room := s.create(6, nodes...)
	var players [4]*player
	for i := range players {
		players[i] = s.join(nodes[i%3], room, int32(i))
	}
	kicked, granted := 0, 0
	for range max(5, s.Rounds/4) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		left := rand.IntN(len(players))
		for i, p := range players {
			n := p.node
			wg.Go(func() {
				err := n.Grant(t.Context(), p.Seat, int32((i+1)%4))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					granted++
				}
				s.mayBeRefused("Grant", err)
				if err == nil {
					err := n.Assign(t.Context(), p.Seat)
					s.mayBeRefused("Assign", err)
				}
			})
			wg.Go(func() {
				err := n.Kick(t.Context(), p.Seat, int32((i+3)%4))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					kicked++
				}
				s.mayBeRefused("Kick", err)
			})
		}
		wg.Go(func() { players[left].node.Leave(players[left].Seat) })
		wg.Wait()
		Eventually(t, "who has left is gone", func() bool {
			clients, _, err := nodes[0].Connected(t.Context(), room.ID)
			s.done("Connected", err) // by what Redis says: a node may not have heard yet that it had come
			return !slices.Contains(clients, players[left].Client)
		})
		v := s.agree(room, nodes...)
		if v.Moving() {
			t.Fatal("all is done, and nobody is host")
		}
		for _, p := range players {
			if !v.Has(p.Seat) {
				p.node.Leave(p.Seat) // as the connection of who was kicked is closed
				s.rejoin(nodes[rand.IntN(3)], room, p)
			}
		}
	}
	s.agree(room, nodes...)
	counts := map[relay.RoomEventKind]int{}
	for _, e := range eventsOf(nodes[1], room.ID) {
		counts[e.Kind]++
	}
	if counts[relay.RoomKicked] != kicked || counts[relay.RoomMoving] != granted || kicked+granted == 0 {
		t.Errorf("%d kicks and %d grants were heard, %d and %d succeeded", counts[relay.RoomKicked], counts[relay.RoomMoving], kicked, granted)
	}
}

// mayBeRefused checks the error of a command whose turn may have come too late.
func (s *roomsSuite) mayBeRefused(what string, err error) {
	if err != nil && !errors.Is(err, relay.ErrNoSeat) && !errors.Is(err, relay.ErrNotHost) && !errors.Is(err, relay.ErrNoClient) {
		s.t.Errorf("%s: %v", what, err)
	}
}

// What a node misses while its connection is lost it hears later, in its order.
func testRoomsHole(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(60, a, b)
	stays := s.join(b, room, 0)
	next := int32(1)
	for round := range 3 {
		b.Cut(true)
		for range 10 {
			p := s.join(a, room, next)
			s.say(a, room.ID, fmt.Sprint("round ", round, ", ", next))
			if next++; next%2 == 0 {
				a.Leave(p.Seat)
			}
		}
		b.Cut(false)
		s.connected(a, room.ID, 0, append([]int32{0}, everyOther(2, next)...)...)
	}
	if v := s.agree(room, a, b); !v.Has(stays.Seat) || b.AllLost() != 0 || b.Gaps() != 0 {
		t.Errorf("who stayed has %v; the node has lost its seats %d times, and was told of %d gaps", v.Seats, b.AllLost(), b.Gaps())
	}
}

// everyOther are the numbers from one on, below another, in steps of two.
func everyOther(from, below int32) (all []int32) {
	for i := from; i < below; i += 2 {
		all = append(all, i)
	}
	return all
}

// What a node is asked while it is cut off fails in time, and is undone or made up for.
func testRoomsCutOff(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	room := s.create(5, a, b)
	host, other := s.join(a, room, 0), s.join(b, room, 1)
	a.Cut(true)
	began := time.Now()
	a.Leave(host.Seat)
	if took := time.Since(began); took > time.Second {
		t.Errorf("Leave took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // shorter than a lease
	defer cancel()
	_, err := a.Join(ctx, room.ID, room.Secret, newSeatName(), 1, false)
	s.refused("Join", err, relay.ErrUnavailable)
	a.Cut(false)
	s.connected(b, room.ID, 1, 1)
	s.heard(b, room, joinedEvent(0, host), joinedEvent(0, other), leftEvent(1, 0))
	s.rejoin(a, room, host)
	s.agree(room, a, b)
	if a.AllLost() != 0 {
		t.Error("all seats were lost")
	}
}

// A node that ends gives up its seats at once.
func testRoomsEnd(t *testing.T, s *roomsSuite) {
	a, b := s.open(), s.open()
	var rooms []relay.Room
	for range 5 {
		room := s.create(5, b)
		s.join(a, room, 0)
		s.join(b, room, 1)
		s.join(a, room, 2)
		rooms = append(rooms, room)
	}
	empty := s.create(5, b)
	s.join(a, empty, 0)
	a.End()
	for _, room := range rooms {
		clients, host, err := b.Connected(t.Context(), room.ID)
		if err != nil || host != 1 || len(clients) != 1 {
			t.Errorf("when the node has ended, connected are %d, host is %d (%v)", clients, host, err)
		}
		v := s.agree(room, b)
		if all := eventsOf(b, room.ID); len(v.Seats) != 1 || strings.Count(fmt.Sprint(kinds(all)), "l") == 0 {
			t.Errorf("heard %s", kinds(all))
		}
	}
	if clients, host, err := b.Connected(t.Context(), empty.ID); err != nil || host != relay.NoHost || len(clients) != 0 {
		t.Errorf("connected are %d, host is %d (%v)", clients, host, err)
	}
}

// kinds are the kinds of events, as they are written.
func kinds(all []relay.RoomEvent) string {
	var text []byte
	for _, e := range all {
		text = append(text, byte(e.Kind))
	}
	return string(text)
}
