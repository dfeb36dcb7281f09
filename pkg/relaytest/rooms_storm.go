package relaytest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

const (
	// stormers is how many come and go from each node at the same time, and stormPause
	// the time between two things that one does.
	stormers   = 2
	stormPause = 500 * time.Microsecond
	stormMax   = 7                    // clients of each room
	stormMove  = 2 * time.Millisecond // how long some hosts are on the move
)

// RoomStorm is clients of a few rooms that join, leave, come back, kick and grant at
// random, from several nodes at the same time.
type RoomStorm struct {
	// Fixed after StartRoomStorm.
	tb    testing.TB
	nodes []*RoomsNode // that hear all rooms
	rooms []relay.Room
	halt  chan struct{}
	wg    sync.WaitGroup
	steps atomic.Int64
	lossy atomic.Bool

	mu      sync.Mutex
	dead    map[*RoomsNode]bool
	held    map[string]stormSeat // that were given and not given up, by name
	clients []stormSeat          // some of all times
	done    map[relay.RoomEventKind]int
	maybe   map[relay.RoomEventKind]int // calls of which it is not known whether they were done
}

// stormSeat is a seat that somebody was given.
type stormSeat struct {
	player
	room   relay.Room
	losses int // AllLost of the node before
}

// StartRoomStorm has clients storm some new rooms until Stop.
func StartRoomStorm(tb testing.TB, rooms int, nodes ...*RoomsNode) *RoomStorm {
	tb.Helper()
	seed := rand.Uint64()
	tb.Logf("seed %d", seed)
	s := &RoomStorm{tb: tb, nodes: nodes, halt: make(chan struct{}), dead: map[*RoomsNode]bool{}, held: map[string]stormSeat{},
		done: map[relay.RoomEventKind]int{}, maybe: map[relay.RoomEventKind]int{}}
	for range rooms {
		room, err := nodes[0].Create(tb.Context(), stormMax)
		if err != nil {
			tb.Fatalf("Create: %v", err)
		}
		for _, n := range nodes {
			if _, err := n.Subscribe(tb.Context(), relay.RoomTopic(room.ID)); err != nil {
				tb.Fatalf("Subscribe: %v", err)
			}
		}
		s.rooms = append(s.rooms, room)
	}
	for i := range stormers * len(nodes) {
		s.wg.Go(func() { s.storm(nodes[i%len(nodes)], rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	tb.Cleanup(s.Stop)
	return s
}

// Lossy has it bear that Redis loses the last of what was done, but none of the rooms.
func (s *RoomStorm) Lossy() { s.lossy.Store(true) }

// Steps is how many things were done or refused so far.
func (s *RoomStorm) Steps() int { return int(s.steps.Load()) }

// Await waits until so many more are, and some of each kind were done.
func (s *RoomStorm) Await(steps int) {
	s.tb.Helper()
	until := s.Steps() + steps
	Eventually(s.tb, fmt.Sprint(steps, " more steps"), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.Steps() >= until && s.done[relay.RoomJoined] > 0 && s.done[relay.RoomKicked] > 0 && s.done[relay.RoomMoving] > 0
	})
}

// Dead has the storm do no more on a node that is about to die, and not wait for it.
func (s *RoomStorm) Dead(n *RoomsNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead[n] = true
}

// Stop ends the storm, as soon as what is under way has an answer. Seats that are held
// stay so.
func (s *RoomStorm) Stop() {
	s.mu.Lock()
	select {
	case <-s.halt:
	default:
		close(s.halt)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *RoomStorm) isDead(n *RoomsNode) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[n]
}

func (s *RoomStorm) storm(n *RoomsNode, r *rand.Rand) {
	pause := time.NewTicker(stormPause)
	defer pause.Stop()
	for !s.isDead(n) {
		select {
		case <-s.halt:
			return
		case <-pause.C:
		}
		s.step(n, r)
		s.steps.Add(1)
	}
}

// step does something in a room.
func (s *RoomStorm) step(n *RoomsNode, r *rand.Rand) {
	room := s.rooms[r.IntN(len(s.rooms))]
	ctx := context.Background() // calls end by themselves
	switch r.IntN(8) {
	case 0, 1, 2:
		name, secret := newSeatName(), r.Int32()
		s.sit(n, room, secret, func() (relay.Seat, error) {
			return n.Join(ctx, room.ID, room.Secret, name, secret, r.IntN(4) == 0)
		}, relay.ErrRoomFull)
	case 3:
		if p, ok := s.pick(r); ok {
			s.sit(n, p.room, p.secret, func() (relay.Seat, error) {
				return n.Rejoin(ctx, p.room.ID, p.room.Secret, newSeatName(), p.Client, p.secret, r.IntN(4) == 0)
			}, relay.ErrRoomFull, relay.ErrConnected)
		}
	case 4, 5:
		if p, ok := s.take(n, r); ok {
			n.Leave(p.Seat)
		}
	case 6:
		s.command(n, r, relay.RoomKicked, func(host relay.Seat, target int32) error { return n.Kick(ctx, host, target) })
	case 7:
		s.command(n, r, relay.RoomMoving, func(host relay.Seat, target int32) error {
			err := n.Grant(ctx, host, target)
			if unsure := errors.Is(err, relay.ErrUnavailable); err == nil || unsure {
				if !unsure && r.IntN(2) == 0 {
					time.Sleep(stormMove) // others do something meanwhile
				}
				s.assign(n, host, unsure)
			}
			return err
		})
	}
}

// assign ends a move, or else gives the seat up: that ends it, too.
func (s *RoomStorm) assign(n *RoomsNode, host relay.Seat, unsure bool) {
	err := n.Assign(context.Background(), host)
	switch {
	case !unsure && (err == nil || errors.Is(err, relay.ErrNoSeat)):
	case unsure, errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed):
		s.mu.Lock()
		delete(s.held, host.Name)
		s.mu.Unlock()
		n.Leave(host)
	default:
		s.tb.Errorf("Assign: %v", err)
	}
}

// note counts how something ended, and tells whether it was done.
func (s *RoomStorm) note(kind relay.RoomEventKind, err error, may ...error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.done[kind]++
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed):
		s.maybe[kind]++
	case s.lossy.Load() && errors.Is(err, relay.ErrNoClient):
	case !slices.ContainsFunc(may, func(m error) bool { return errors.Is(err, m) }):
		s.tb.Errorf("a transition of kind %q: %v", kind, err)
	}
	return err == nil
}

func (s *RoomStorm) sit(n *RoomsNode, room relay.Room, secret int32, sit func() (relay.Seat, error), may ...error) {
	losses := n.AllLost()
	seat, err := sit()
	if !s.note(relay.RoomJoined, err, may...) {
		return
	}
	p := stormSeat{player{seat, n, secret}, room, losses}
	s.mu.Lock()
	s.clients = append(s.clients, p)
	if len(s.clients) > 4*stormMax*len(s.rooms) {
		s.clients = s.clients[stormMax:]
	}
	lost := n.AllLost() != losses
	if !lost {
		s.held[seat.Name] = p
	}
	s.mu.Unlock()
	if lost {
		n.Leave(seat)
	}
}

// pick is a client of any time.
func (s *RoomStorm) pick(r *rand.Rand) (p stormSeat, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.clients) == 0 {
		return p, false
	}
	return s.clients[r.IntN(len(s.clients))], true
}

// any is a seat that was given on a node.
func (s *RoomStorm) any(n *RoomsNode, r *rand.Rand) (p stormSeat, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var own []string
	for name, p := range s.held {
		if p.node == n {
			own = append(own, name)
		}
	}
	if len(own) == 0 {
		return p, false
	}
	slices.Sort(own)
	return s.held[own[r.IntN(len(own))]], true
}

// take is any, of one that is not held any more from then on.
func (s *RoomStorm) take(n *RoomsNode, r *rand.Rand) (p stormSeat, ok bool) {
	if p, ok = s.any(n, r); !ok {
		return p, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok = s.held[p.Name]; ok {
		delete(s.held, p.Name)
	}
	return p, ok
}

func (s *RoomStorm) command(n *RoomsNode, r *rand.Rand, kind relay.RoomEventKind, command func(relay.Seat, int32) error) {
	p, ok := s.any(n, r)
	if !ok {
		return
	}
	target := int32(-1)
	if clients, host, err := n.Connected(context.Background(), p.room.ID); err == nil && len(clients) > 0 {
		target = clients[r.IntN(len(clients))]
		s.mu.Lock()
		for _, h := range s.held { // mostly by the host
			if h.node == n && h.room.ID == p.room.ID && h.Client == host {
				p = h
				break
			}
		}
		s.mu.Unlock()
	}
	s.note(kind, command(p.Seat, target), relay.ErrNoSeat, relay.ErrNotHost, relay.ErrNoClient)
}

// Check is called after Stop, when Redis is whole and the nodes that live are connected.
// It waits until rooms have just those seats which somebody believes to have, and checks
// that all nodes have heard the same, and, if Redis has lost nothing, of everything that
// was confirmed.
func (s *RoomStorm) Check() {
	s.tb.Helper()
	for _, room := range s.rooms {
		var views []*RoomView
		for _, n := range s.nodes {
			if !s.isDead(n) {
				views = append(views, s.settled(n, room))
			}
		}
		for _, v := range views[1:] {
			if v.Host != views[0].Host || v.Fence != views[0].Fence || !maps.Equal(v.Seats, views[0].Seats) {
				s.tb.Errorf("of room %d one node knows host %d (%d) of %v, another one %d (%d) of %v", room.ID,
					v.Host, v.Fence, v.Seats, views[0].Host, views[0].Fence, views[0].Seats)
			}
		}
	}
	if s.lossy.Load() {
		s.tb.Logf("%d steps", s.Steps())
		return
	}
	s.count()
}

// settled waits until a node knows of a room that those have seats who believe so, and
// nobody else.
func (s *RoomStorm) settled(n *RoomsNode, room relay.Room) (v *RoomView) {
	s.tb.Helper()
	topic := relay.RoomTopic(room.ID)
	problem := "nothing is known"
	defer func() {
		if problem != "" {
			s.tb.Logf("room %d: %s", room.ID, problem)
		}
	}()
	Eventually(s.tb, "those have seats who believe so", func() bool {
		told := n.Count(topic)
		if err := n.Tell(s.tb.Context(), room.ID); err != nil {
			problem = err.Error()
			return false
		}
		for deadline := time.Now().Add(Patience / 10); n.Count(topic) == told && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		var err error
		if v, err = ReplayRoom(room.ID, room.MaxClients, s.reliable(n.Events(topic))); err != nil {
			if problem = err.Error(); !s.lossy.Load() {
				s.tb.Fatal(err)
			}
			return false
		}
		problem = s.differs(n, room, v)
		return problem == ""
	})
	return v
}

// reliable is what was heard of a room, or, when Redis has lost something, what was
// heard since a node was last told so: two masters may have said different things
// before, each in its own order.
func (s *RoomStorm) reliable(heard []Event) []Event {
	if s.lossy.Load() {
		for i := len(heard) - 1; i >= 0; i-- {
			if heard[i].Gap {
				return heard[i:]
			}
		}
	}
	return heard
}

// differs tells what is not as it should be, in the end.
func (s *RoomStorm) differs(n *RoomsNode, room relay.Room, v *RoomView) string {
	if v.Unknown {
		return "there was a gap"
	}
	clients, host, err := n.Connected(s.tb.Context(), room.ID)
	if err != nil || host != v.Host || !slices.Equal(clients, v.Clients()) {
		return fmt.Sprintf("connected are %d, of whom %d is host (%v); by the events %d, of whom %d is", clients, host, err, v.Clients(), v.Host)
	}
	if v.Moving() {
		return "nobody is host"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, name := range v.Seats {
		p, ok := s.held[name]
		if !ok || s.dead[p.node] || p.node.AllLost() != p.losses || p.Client != client {
			return fmt.Sprintf("client %d has seat %s, of which nobody knows", client, name)
		}
	}
	for name, p := range s.held { // who does not have it has been told, by the events that were heard
		if p.room.ID == room.ID && p.node == n && !s.dead[n] && n.AllLost() == p.losses && v.Whole() && !v.Has(p.Seat) && v.Ended[name] == 0 {
			return fmt.Sprintf("client %d was given seat %s, and nobody has heard of it", p.Client, name)
		}
	}
	return ""
}

// count compares what was heard with what was confirmed, unless something was missed.
func (s *RoomStorm) count() {
	s.tb.Helper()
	heard := map[relay.RoomEventKind]int{}
	for _, room := range s.rooms {
		v, err := ReplayRoom(room.ID, room.MaxClients, s.nodes[0].Events(relay.RoomTopic(room.ID)))
		if err != nil {
			s.tb.Fatal(err)
		}
		if !v.Whole() {
			s.tb.Logf("there was a gap; not confirmed were %v", s.maybe)
			return
		}
		for kind, n := range v.Counts {
			heard[kind] += n
		}
		for name, by := range v.Ended {
			if p, ok := s.held[name]; ok && by == relay.RoomLeft && !s.dead[p.node] && p.node.AllLost() == p.losses {
				if v.Retaken[name] { // its node had no connection for a while
					s.tb.Logf("client %d was seated elsewhere", p.Client)
					continue
				}
				s.tb.Errorf("client %d has left, and nobody has left that seat", p.Client)
			}
		}
	}
	for _, kind := range []relay.RoomEventKind{relay.RoomJoined, relay.RoomKicked, relay.RoomMoving} {
		if least, most := s.done[kind], s.done[kind]+s.maybe[kind]; heard[kind] < least || heard[kind] > most {
			s.tb.Errorf("of kind %q there were %d events, but %d to %d transitions", kind, heard[kind], least, most)
		}
	}
	s.tb.Logf("%d steps; confirmed: %d joined, %d kicked, %d granted; not confirmed: %d, %d, %d", s.Steps(),
		s.done[relay.RoomJoined], s.done[relay.RoomKicked], s.done[relay.RoomMoving],
		s.maybe[relay.RoomJoined], s.maybe[relay.RoomKicked], s.maybe[relay.RoomMoving])
}

// Clients come and go from several nodes, of which one dies and one is taken for dead.
func testRoomsStorm(t *testing.T, s *roomsSuite) {
	a, b, c := s.open(), s.openMortal(), s.openMortal()
	storm := StartRoomStorm(t, 3, a, b, c)
	storm.Await(s.Rounds * 10)
	storm.Dead(c)
	b.Cut(true)
	c.Die()
	Eventually(t, "the node that is cut off has given up its seats", func() bool { return b.AllLost() > 0 })
	b.Cut(false)
	storm.Await(s.Rounds * 10)
	storm.Stop()
	storm.Check()
	if a.AllLost() > 0 {
		t.Error("a node that was never cut off has lost its seats")
	}
}
