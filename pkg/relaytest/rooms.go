package relaytest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// RoomRetention is for what clients of a room say in its topic: events and they are
// kept alike, and longer than any part of the suite lasts.
var RoomRetention = relay.Retention{Length: 1 << 16, Age: time.Hour}

// Unbounded is a maximum of clients that no part of the suite comes near.
const Unbounded = int64(1) << 40

// RoomsSettings are those of a node.
type RoomsSettings struct {
	Max int64         // the most clients that may be committed
	TTL time.Duration // that a room lasts with nobody in it
	// Mortal nodes are soon taken for dead: their leases last for some seconds. Those of
	// others last longer than any part of the suite, however busy the machine is.
	Mortal bool
}

// RoomsNode is a node that runs: its part in rooms, a broker, and what that has
// received.
type RoomsNode struct {
	relay.Rooms
	relay.Seats
	relay.Broker
	*Recorder
	*RoomLosses
	Die func()         // ends it without a word, and waits
	End func()         // ends it as a node that is stopped, and waits
	Cut func(off bool) // cuts it off from Redis, or lets it back
}

// RoomLosses are what a node was told of seats that it does not have any more, beside
// what events tell.
type RoomLosses struct {
	mu   sync.Mutex
	all  int
	gone map[int32]bool
}

// NewRoomLosses makes one.
func NewRoomLosses() *RoomLosses { return &RoomLosses{gone: map[int32]bool{}} }

// LoseAll is called when the node may be taken for dead: all its seats are lost.
func (l *RoomLosses) LoseAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all++
}

// LoseRoom is called when a room in which the node has seats is no more.
func (l *RoomLosses) LoseRoom(id int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone[id] = true
}

// AllLost is how often all seats were lost.
func (l *RoomLosses) AllLost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// RoomLost tells whether a room was.
func (l *RoomLosses) RoomLost(id int32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone[id]
}

// RoomsBackend is a Redis, empty at first, and the nodes on it. Looks for the dead should
// be so far apart that who lives has told of its losses by the second one.
type RoomsBackend struct {
	// Open makes one more node and runs it until the test ends.
	Open func(tb testing.TB, o RoomsSettings) *RoomsNode
	// Flush has Redis lose all its data.
	Flush func(tb testing.TB)
	// Rounds is how often races are run.
	Rounds int
}

// Rooms checks what relay.Rooms and relay.Seats promise. The parts share the backend:
// first those that count all rooms, then the others, of which those that mostly wait
// run at the same time, and at last Redis loses everything.
func Rooms(t *testing.T, b RoomsBackend) {
	type part struct {
		name string
		test func(*testing.T, *roomsSuite)
	}
	run := func(t *testing.T, parts ...part) {
		for _, part := range parts {
			t.Run(part.name, func(t *testing.T) { part.test(t, &roomsSuite{b, t}) })
		}
	}
	run(t,
		part{"Manage", testRoomsManage},
		part{"Maximum", testRoomsMaximum},
		part{"CreateRace", testRoomsCreateRace},
		part{"Totals", testRoomsTotals},
	)
	t.Run("Shared", func(t *testing.T) {
		var wg sync.WaitGroup
		defer wg.Wait()
		for _, waits := range []part{
			{"CutOffForLong", testRoomsCutOffForLong},
			{"Death", testRoomsDeath},
			{"DeathOfMany", testRoomsDeathOfMany},
			{"Expiry", testRoomsExpiry},
			{"Storm", testRoomsStorm},
			{"Model", testRoomsModel},
			{"MoveOfTheDead", testRoomsMoveOfTheDead},
			{"Back", testRoomsBack},
			{"BackRace", testRoomsBackRace},
			{"BackFromCutOff", testRoomsBackFromCutOff},
		} {
			wg.Go(func() { run(t, waits) })
		}
		run(t,
			part{"Join", testRoomsJoin},
			part{"Rejoin", testRoomsRejoin},
			part{"Leave", testRoomsLeave},
			part{"Kick", testRoomsKick},
			part{"Grant", testRoomsGrant},
			part{"Move", testRoomsMove},
			part{"Tell", testRoomsTell},
			part{"Close", testRoomsClose},
			part{"Order", testRoomsOrder},
			part{"LastSeat", testRoomsLastSeat},
			part{"RejoinRace", testRoomsRejoinRace},
			part{"HostRace", testRoomsHostRace},
			part{"Hole", testRoomsHole},
			part{"CutOff", testRoomsCutOff},
			part{"End", testRoomsEnd},
		)
	})
	run(t, part{"Flush", testRoomsFlush})
}

type roomsSuite struct {
	RoomsBackend
	t *testing.T
}

// open makes a node with room for all.
func (s *roomsSuite) open() *RoomsNode {
	s.t.Helper()
	return s.Open(s.t, RoomsSettings{Max: Unbounded, TTL: time.Hour})
}

// openMortal makes one that will be cut off for long, or die.
func (s *roomsSuite) openMortal() *RoomsNode {
	s.t.Helper()
	return s.Open(s.t, RoomsSettings{Max: Unbounded, TTL: time.Hour, Mortal: true})
}

// create makes a room whose topic some nodes hear.
func (s *roomsSuite) create(max int32, nodes ...*RoomsNode) relay.Room {
	s.t.Helper()
	room, err := nodes[0].Create(s.t.Context(), max)
	if err != nil {
		s.t.Fatalf("Create: %v", err)
	}
	for _, n := range nodes {
		s.hear(n, room.ID)
	}
	return room
}

func (s *roomsSuite) hear(n *RoomsNode, room int32) {
	s.t.Helper()
	if _, err := n.Subscribe(s.t.Context(), relay.RoomTopic(room)); err != nil {
		s.t.Fatalf("Subscribe: %v", err)
	}
}

// player is a client of a room, with its latest seat.
type player struct {
	relay.Seat
	node   *RoomsNode
	secret int32
}

var seatNumbers atomic.Int64

// newSeatName is one that nobody has had.
func newSeatName() string { return fmt.Sprint("seat-", seatNumbers.Add(1)) }

// secretOf is a secret for a client with that seat.
func secretOf(name string) int32 {
	var n int32 = 1
	for _, c := range name {
		n = (n*31 + int32(c)) & math.MaxInt32
	}
	return n
}

// join seats a new client, whose id must be the given one.
func (s *roomsSuite) join(n *RoomsNode, room relay.Room, id int32) *player {
	s.t.Helper()
	name := newSeatName()
	seat, err := n.Join(s.t.Context(), room.ID, room.Secret, name, secretOf(name), false)
	if want := (relay.Seat{Room: room.ID, Client: id, Name: name}); err != nil || seat != want {
		s.t.Fatalf("Join: %+v (%v), want %+v", seat, err, want)
	}
	return &player{seat, n, secretOf(name)}
}

// rejoin seats a client again, through any node.
func (s *roomsSuite) rejoin(n *RoomsNode, room relay.Room, p *player) {
	s.t.Helper()
	name := newSeatName()
	seat, err := n.Rejoin(s.t.Context(), room.ID, room.Secret, name, p.Client, p.secret, false)
	if want := (relay.Seat{Room: room.ID, Client: p.Client, Name: name}); err != nil || seat != want {
		s.t.Fatalf("Rejoin: %+v (%v), want %+v", seat, err, want)
	}
	p.Seat, p.node = seat, n
}

// grant has a host make another client host, and returns the events of that.
func (s *roomsSuite) grant(host *player, target int32) []relay.RoomEvent {
	s.t.Helper()
	s.done("Grant", host.node.Grant(s.t.Context(), host.Seat, target))
	s.done("Assign", host.node.Assign(s.t.Context(), host.Seat))
	return []relay.RoomEvent{movingEvent(host.Client), grantedEvent(target, host.Client)}
}

// refused checks the error of a call.
func (s *roomsSuite) refused(what string, err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("%s: error = %v, want %v", what, err, want)
	}
}

// done checks that there is none.
func (s *roomsSuite) done(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// connected waits until these are connected, and who is host, by what a node says.
func (s *roomsSuite) connected(n *RoomsNode, room, host int32, want ...int32) {
	s.t.Helper()
	Eventually(s.t, fmt.Sprintf("connected are %d, of whom %d is host", want, host), func() bool {
		clients, is, err := n.Connected(s.t.Context(), room)
		if err != nil && !errors.Is(err, relay.ErrUnavailable) {
			s.t.Fatalf("Connected: %v", err)
		}
		return err == nil && is == host && slices.Equal(clients, want)
	})
}

// eventsOf are the events of a room that a node has heard.
func eventsOf(n *RoomsNode, room int32) (all []relay.RoomEvent) {
	for _, m := range n.Messages(relay.RoomTopic(room)) {
		if e, ok := relay.RoomEventOf(&m); ok {
			all = append(all, e)
		}
	}
	return all
}

// heard waits until a node has heard just these events of a room, whose fences only
// need to be right; that and lists of all a view checks.
func (s *roomsSuite) heard(n *RoomsNode, room relay.Room, want ...relay.RoomEvent) {
	s.t.Helper()
	Eventually(s.t, fmt.Sprintf("%d events are heard", len(want)), func() bool { return len(eventsOf(n, room.ID)) >= len(want) })
	got := eventsOf(n, room.ID)
	for i := range got {
		got[i] = plainEvent(got[i])
	}
	if !reflect.DeepEqual(got, want) {
		s.t.Errorf("heard\n%+v, want\n%+v", got, want)
	}
	if _, err := ReplayRoom(room.ID, room.MaxClients, n.Events(relay.RoomTopic(room.ID))); err != nil {
		s.t.Error(err)
	}
}

// plainEvent is an event without what only a view can check, or may be left out.
func plainEvent(e relay.RoomEvent) relay.RoomEvent {
	e.Fence = 0
	if e.Kind != relay.RoomJoined && e.Kind != relay.RoomTold {
		e.Full, e.All = false, nil
	}
	if e.Kind == relay.RoomClosed {
		e.Gone = nil
	}
	return e
}

// The events that heard wants.
func joinedEvent(host int32, p *player) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomJoined, Host: host, Client: p.Client, Name: p.Name}
}

func leftEvent(host int32, gone ...int32) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomLeft, Host: host, Client: -1, Gone: gone}
}

func kickedEvent(host, client int32) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomKicked, Host: host, Client: client}
}

func movingEvent(from int32) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomMoving, Host: relay.NoHost, Client: from}
}

func grantedEvent(host, from int32) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomGranted, Host: host, Client: from}
}

func toldEvent(host int32, all ...relay.Seat) relay.RoomEvent {
	return relay.RoomEvent{Kind: relay.RoomTold, Host: host, Client: -1, Full: true, All: all}
}

var closedEvent = relay.RoomEvent{Kind: relay.RoomClosed, Host: relay.NoHost, Client: -1}

// say publishes what a client says in a room, and waits until it is in its order.
func (s *roomsSuite) say(n *RoomsNode, room int32, body string) {
	s.t.Helper()
	if err := say(s.t.Context(), n, room, body); err != nil {
		s.t.Fatalf("Publish: %v", err)
	}
}

func say(ctx context.Context, n *RoomsNode, room int32, body string) error {
	_, err := n.Publish(ctx, relay.Message{Topic: relay.RoomTopic(room), From: "0", Body: []byte(body)}, RoomRetention)
	return err
}

// agree waits until nodes that heard a room from its beginning have heard all of it,
// checks that they heard the same, without a gap, and returns what they know; it must
// be what Redis says.
func (s *roomsSuite) agree(room relay.Room, nodes ...*RoomsNode) *RoomView {
	s.t.Helper()
	mark := newSeatName()
	s.say(nodes[0], room.ID, mark)
	topic := relay.RoomTopic(room.ID)
	var first []Event
	for i, n := range nodes {
		var all []Event
		Eventually(s.t, "all is heard", func() bool {
			all = n.Events(topic)
			return len(all) > 0 && string(all[len(all)-1].Message.Body) == mark
		})
		if i == 0 {
			first = all
		}
		for j, e := range all {
			if e.Gap {
				s.t.Fatalf("node %d was told of a gap before message %d", i, j)
			}
			if len(all) != len(first) || e.Message.ID != first[j].Message.ID || string(e.Message.Body) != string(first[j].Message.Body) {
				s.t.Fatalf("of %s node %d has heard %d messages, another one %d; or message %d is another", topic, i, len(all), len(first), j)
			}
		}
	}
	v, err := ReplayRoom(room.ID, room.MaxClients, first)
	if err != nil {
		s.t.Fatal(err)
	}
	clients, host, err := nodes[0].Connected(s.t.Context(), room.ID)
	if v.Closed {
		s.refused("Connected of a room that is closed", err, relay.ErrNoRoom)
	} else if err != nil || host != v.Host || !slices.Equal(clients, v.Clients()) {
		s.t.Errorf("connected are %d, of whom %d is host (%v); by the events %d, of whom %d is", clients, host, err, v.Clients(), v.Host)
	}
	return v
}
