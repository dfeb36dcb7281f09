package relaytest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"parley/pkg/relay"
)

// modelRoom is a room as it should be, and what should be heard of it.
type modelRoom struct {
	relay.Room
	host      int32
	granter   int32          // while the host is on the move who was host, else relay.NoHost
	target    int32          // and to whom it is granted
	clients   []*modelClient // by their ids
	connected int
	events    []relay.RoomEvent // as plainEvent has them
}

// modelClient is a client that has joined once.
type modelClient struct {
	player
	seated bool
	before []relay.Seat // that it has no more
}

func (m *modelRoom) ids() (all []int32) {
	for id, c := range m.clients {
		if c.seated {
			all = append(all, int32(id))
		}
	}
	return all
}

func (m *modelRoom) seats() (all []relay.Seat) {
	for _, id := range m.ids() {
		all = append(all, m.clients[id].Seat)
	}
	return all
}

// client is the one with an id, or nil.
func (m *modelRoom) client(id int32) *modelClient {
	if id < 0 || int(id) >= len(m.clients) {
		return nil
	}
	return m.clients[id]
}

// sit seats a client, and notes the event.
func (m *modelRoom) sit(c *modelClient, all bool) {
	c.seated = true
	m.connected++
	if m.connected == 1 {
		m.host = c.Client
	}
	e := joinedEvent(m.host, &c.player)
	if all {
		e.Full, e.All = true, m.seats()
	}
	m.events = append(m.events, e)
}

// unseat takes clients' seats, and elects a host.
func (m *modelRoom) unseat(ids ...int32) {
	for _, id := range ids {
		c := m.clients[id]
		c.seated = false
		c.before = append(c.before, c.Seat)
		m.connected--
	}
	if slices.Contains(ids, m.host) || slices.Contains(ids, m.granter) {
		m.elect()
	}
}

// elect makes the target of a grant host, or else the first one.
func (m *modelRoom) elect() {
	target := m.client(m.target)
	switch left := m.ids(); {
	case target != nil && target.seated:
		m.host = target.Client
	case len(left) > 0:
		m.host = left[0]
	default:
		m.host = relay.NoHost
	}
	m.granter, m.target = relay.NoHost, relay.NoHost
}

// model runs transitions at random, one after the other, and knows what comes of them.
type model struct {
	*roomsSuite
	r     *rand.Rand
	nodes []*RoomsNode // the first one hears everything and never dies
	rooms []*modelRoom
	done  map[string]int // transitions, by their kinds
}

// Whatever is done, in whatever order and from whichever node, rooms are as they should
// be, and what is heard of them is just that.
func testRoomsModel(t *testing.T, s *roomsSuite) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &model{s, rand.New(rand.NewPCG(seed, 0)), []*RoomsNode{s.open(), s.openMortal(), s.openMortal()}, nil, map[string]int{}}
	for _, max := range []int32{1, 2, 5, 9} {
		m.rooms = append(m.rooms, &modelRoom{Room: s.create(max, m.nodes[0]), host: relay.NoHost, granter: relay.NoHost, target: relay.NoHost})
	}
	const deaths = 2
	for range deaths {
		for range 100 + 5*s.Rounds {
			m.step()
		}
		m.death()
	}
	for range s.Rounds {
		m.step()
	}
	for _, room := range m.rooms {
		m.compare(room)
	}
	t.Logf("transitions: %v", m.done)
}

// step does something somewhere.
func (m *model) step() {
	room := m.rooms[m.r.IntN(len(m.rooms))]
	n := m.nodes[m.r.IntN(len(m.nodes))]
	heard := len(room.events)
	switch m.r.IntN(14) {
	case 0, 1, 2:
		m.join(n, room)
	case 3, 4:
		m.rejoin(n, room)
	case 5, 6:
		m.leave(n, room)
	case 7, 8:
		m.command("kick", room, func(n *RoomsNode, host relay.Seat, target int32) error { return n.Kick(m.t.Context(), host, target) },
			func(target int32) {
				kicked := room.clients[target]
				room.unseat(target)
				kicked.node.Leave(kicked.Seat) // as its connection is closed
				room.events = append(room.events, kickedEvent(room.host, target))
			})
	case 9:
		m.command("grant", room, func(n *RoomsNode, host relay.Seat, target int32) error { return n.Grant(m.t.Context(), host, target) },
			func(target int32) {
				room.events = append(room.events, movingEvent(room.host))
				room.host, room.granter, room.target = relay.NoHost, room.host, target
			})
	case 10:
		m.end("tell", n.Tell(m.t.Context(), room.ID))
		room.events = append(room.events, toldEvent(room.host, room.seats()...))
	case 11:
		clients, host, err := n.Connected(m.t.Context(), room.ID)
		m.end("look", err)
		if host != room.host || !slices.Equal(clients, room.ids()) {
			m.t.Fatalf("connected are %d, host is %d; want %d and %d", clients, host, room.ids(), room.host)
		}
	case 12, 13:
		m.assign(room)
	}
	if len(room.events) > heard {
		m.await(room)
	}
}

// await waits until a transition is heard of: that of a seat that is given up has no
// answer.
func (m *model) await(room *modelRoom) {
	m.t.Helper()
	topic := relay.RoomTopic(room.ID)
	for deadline := time.Now().Add(Patience); m.nodes[0].Count(topic) < len(room.events); time.Sleep(20 * time.Microsecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not heard within %v: %+v", Patience, room.events[len(room.events)-1])
		}
	}
	if n := m.nodes[0].Count(topic); n > len(room.events) {
		m.t.Fatalf("heard %d events, want %d, the last one %+v", n, len(room.events), room.events[len(room.events)-1])
	}
}

// end checks how a transition ended: with one of some errors, if there are any, else
// well. It tells whether it was done.
func (m *model) end(what string, err error, want ...error) bool {
	m.t.Helper()
	if len(want) > 0 {
		if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
			m.t.Fatalf("%s: error = %v, want %v", what, err, want)
		}
		m.done[what+" refused"]++
		return false
	}
	if err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
	m.done[what]++
	return true
}

func (m *model) join(n *RoomsNode, room *modelRoom) {
	secret, name, all := room.Secret, newSeatName(), m.r.IntN(2) == 0
	var want []error
	if m.r.IntN(20) == 0 {
		secret, want = secret+1, append(want, relay.ErrNoRoom)
	} else if room.connected == int(room.MaxClients) {
		want = append(want, relay.ErrRoomFull)
	}
	own := m.r.Int32()
	seat, err := n.Join(m.t.Context(), room.ID, secret, name, own, all)
	if !m.end("join", err, want...) {
		return
	}
	c := &modelClient{player: player{relay.Seat{Room: room.ID, Client: int32(len(room.clients)), Name: name}, n, own}}
	if seat != c.Seat {
		m.t.Fatalf("joined as %+v, want %+v", seat, c.Seat)
	}
	room.clients = append(room.clients, c)
	room.sit(c, all)
}

func (m *model) rejoin(n *RoomsNode, room *modelRoom) {
	id := m.target(room)
	c := room.client(id)
	secret, name, all := int32(0), newSeatName(), m.r.IntN(2) == 0
	if c != nil {
		secret = c.secret
	}
	var want []error
	if c == nil || m.r.IntN(10) == 0 {
		secret, want = secret^1, append(want, relay.ErrNoClient)
	} else if c.seated {
		want = append(want, relay.ErrConnected)
	}
	if room.connected == int(room.MaxClients) {
		want = append(want, relay.ErrRoomFull)
	}
	seat, err := n.Rejoin(m.t.Context(), room.ID, room.Secret, name, id, secret, all)
	if !m.end("rejoin", err, want...) {
		return
	}
	if want := (relay.Seat{Room: room.ID, Client: id, Name: name}); seat != want {
		m.t.Fatalf("back as %+v, want %+v", seat, want)
	}
	c.Seat, c.node = seat, n
	room.sit(c, all)
}

// leave gives up a seat, where it is, or one that is nobody's any more.
func (m *model) leave(n *RoomsNode, room *modelRoom) {
	c := room.client(m.target(room))
	switch {
	case c != nil && c.seated && (len(c.before) == 0 || m.r.IntN(3) > 0):
		c.node.Leave(c.Seat)
		m.done["leave"]++
		room.unseat(c.Client)
		room.events = append(room.events, leftEvent(room.host, c.Client))
	case c != nil:
		if len(c.before) > 0 {
			n.Leave(c.before[m.r.IntN(len(c.before))])
		}
		m.done["leave in vain"]++
	}
}

// target is the id of a client of the room, or near them.
func (m *model) target(room *modelRoom) int32 {
	if ids := room.ids(); len(ids) > 0 && m.r.IntN(3) > 0 {
		return ids[m.r.IntN(len(ids))]
	}
	return int32(m.r.IntN(len(room.clients)+2)) - 1
}

// command has somebody do what only a host may.
func (m *model) command(what string, room *modelRoom, command func(*RoomsNode, relay.Seat, int32) error, happens func(target int32)) {
	by := room.client(m.target(room))
	if m.r.IntN(3) > 0 {
		by = room.client(room.host)
	}
	if by == nil {
		return
	}
	seat, node, target := by.Seat, by.node, m.target(room)
	if len(by.before) > 0 && m.r.IntN(10) == 0 {
		seat = by.before[m.r.IntN(len(by.before))]
	}
	if !slices.Contains(m.nodes, node) { // it has died
		node = m.nodes[0]
	}
	var want []error
	if !by.seated || seat != by.Seat {
		want = append(want, relay.ErrNoSeat)
	} else {
		if by.Client != room.host {
			want = append(want, relay.ErrNotHost)
		}
		if c := room.client(target); target == by.Client || c == nil || !c.seated {
			want = append(want, relay.ErrNoClient)
		}
	}
	if m.end(what, command(node, seat, target), want...) {
		happens(target)
	}
}

// assign ends a move, if it is one and who has granted does it.
func (m *model) assign(room *modelRoom) {
	by := room.client(m.target(room))
	if room.granter != relay.NoHost && m.r.IntN(3) > 0 {
		by = room.client(room.granter)
	}
	if by == nil {
		return
	}
	seat, node := by.Seat, by.node
	if len(by.before) > 0 && m.r.IntN(10) == 0 {
		seat = by.before[m.r.IntN(len(by.before))]
	}
	if !slices.Contains(m.nodes, node) { // it has died
		node = m.nodes[0]
	}
	var want []error
	if !by.seated || seat != by.Seat {
		want = append(want, relay.ErrNoSeat)
	}
	if m.end("assign", node.Assign(m.t.Context(), seat), want...) && by.Client == room.granter {
		room.elect()
		room.events = append(room.events, grantedEvent(room.host, by.Client))
	}
}

// death ends a node, and waits until the others have taken its seats.
func (m *model) death() {
	k := 1 + m.r.IntN(len(m.nodes)-1)
	dead := m.nodes[k]
	dead.Die()
	for _, room := range m.rooms {
		var gone []int32
		for _, id := range room.ids() {
			if room.clients[id].node == dead {
				gone = append(gone, id)
			}
		}
		if len(gone) > 0 {
			room.unseat(gone...)
			room.events = append(room.events, leftEvent(room.host, gone...))
			m.done["reaped"]++
		}
		m.await(room)
	}
	m.nodes[k] = m.openMortal()
}

// compare checks all that was heard of a room, and what Redis says in the end.
func (m *model) compare(room *modelRoom) {
	n := m.nodes[0]
	m.connected(n, room.ID, room.host, room.ids()...)
	v := m.agree(room.Room, n)
	want := map[int32]string{}
	for _, s := range room.seats() {
		want[s.Client] = s.Name
	}
	if v.Host != room.host || !maps.Equal(v.Seats, want) {
		m.t.Errorf("by the events the host of %v is %d; want %d of %v", v.Seats, v.Host, room.host, want)
	}
	got := eventsOf(n, room.ID)
	for i := range got {
		got[i] = plainEvent(got[i])
		if i < len(room.events) && !reflect.DeepEqual(got[i], room.events[i]) {
			m.t.Fatalf("event %d is %+v, want %+v", i, got[i], room.events[i])
		}
	}
	if len(got) != len(room.events) {
		m.t.Error(fmt.Sprint(len(got), " events were heard, want ", len(room.events)))
	}
	room.Room.Clients = int32(room.connected)
	m.listed(n, room.Room)
}
