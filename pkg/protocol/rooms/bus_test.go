package rooms

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// bus is a fleet's Redis in memory: what is published is heard at once, and the state
// of rooms is as relay.Seats has it. It can be made to fail.
type bus struct {
	mu          sync.Mutex
	receivers   []relay.Receiver // the hubs of the nodes
	heard       map[relay.Topic]int
	rooms       map[int32]*memRoom
	last        uint64
	away        bool         // everything fails
	deaf        bool         // nothing is heard, and nobody is told of it
	answers     func() error // of Join and Rejoin, after they have happened; nil: none fails
	onAssign    func()       // called before Assign
	assignFails bool         // Assign does
	grantLost   bool         // Grant and Assign do what they should, and nobody is answered
	onTell      func()       // called, with the lock held, before an event that tells all
	tells       int
}

// memRoom is a room's state.
type memRoom struct {
	secret, max, next int32
	host              int32
	granted           int32 // to whom, by granter; -1: the host is not on the move
	granter           int32
	fence             int64
	secrets           map[int32]int32
	seats             map[int32]string
}

var (
	_ relay.Seats     = (*bus)(nil)
	_ relay.Publisher = (*bus)(nil)
)

func newBus() *bus {
	return &bus{heard: map[relay.Topic]int{}, rooms: map[int32]*memRoom{}}
}

// with calls f with the lock held.
func (b *bus) with(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// room makes a room.
func (b *bus) room(id, secret, most int32) {
	b.with(func() {
		b.rooms[id] = &memRoom{secret: secret, max: most, host: relay.NoHost, granted: -1, secrets: map[int32]int32{}, seats: map[int32]string{}}
	})
}

// close ends a room.
func (b *bus) close(t testing.TB, id int32) {
	t.Helper()
	b.with(func() {
		r := b.rooms[id]
		if r == nil {
			t.Fatalf("there is no room %d", id)
		}
		gone := slices.Sorted(maps.Keys(r.seats))
		delete(b.rooms, id)
		b.tell(id, &relay.RoomEvent{Kind: relay.RoomClosed, Host: relay.NoHost, Fence: r.fence + 1, Client: -1, Gone: gone})
	})
}

func (b *bus) publish(m relay.Message) relay.ID {
	b.last++
	m.ID = relay.ID{Millis: 1, Seq: b.last}
	if !b.deaf {
		for _, r := range b.receivers {
			r.Dispatch(m)
			r.Flush()
		}
	}
	return m.ID
}

func (b *bus) tell(room int32, e *relay.RoomEvent) {
	b.publish(relay.Message{Topic: relay.RoomTopic(room), Body: relay.AppendRoomEvent(nil, e)})
}

// gap has all nodes miss what comes until it is called again with lost false.
func (b *bus) gap(room int32, lost bool) {
	b.with(func() {
		b.deaf = lost
		if !lost {
			for _, r := range b.receivers {
				r.Gap(relay.RoomTopic(room), relay.Position{})
				r.Flush()
			}
		}
	})
}

func (b *bus) Enqueue(m relay.Message, _ relay.Retention, a relay.Acker, t relay.Token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		a.Published(t, relay.ID{}, relay.ErrUnavailable)
		return
	}
	m.Body = slices.Clone(m.Body)
	a.Published(t, b.publish(m), nil)
}

func (b *bus) Publish(_ context.Context, m relay.Message, _ relay.Retention) (relay.ID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.publish(m), nil
}

func (b *bus) Subscribe(_ context.Context, topics ...relay.Topic) ([]relay.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return nil, relay.ErrUnavailable
	}
	for _, t := range topics {
		b.heard[t]++
	}
	return make([]relay.Position, len(topics)), nil
}

func (b *bus) SubscribeNew(ctx context.Context, t relay.Topic) (relay.Position, error) {
	_, err := b.Subscribe(ctx, t)
	return relay.Position{}, err
}

func (b *bus) Unsubscribe(topics ...relay.Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		if b.heard[t]--; b.heard[t] == 0 {
			delete(b.heard, t)
		}
	}
}

func (b *bus) subscribed() (n int) {
	b.with(func() { n = len(b.heard) })
	return n
}

// begin finds the room, with the lock held; end lets go of that.
func (b *bus) begin(room int32) (*memRoom, error) {
	b.mu.Lock()
	if b.away {
		return nil, relay.ErrUnavailable
	}
	r := b.rooms[room]
	if r == nil {
		return nil, relay.ErrNoRoom
	}
	return r, nil
}

func (r *memRoom) all(room int32) (all []relay.Seat) {
	for _, id := range slices.Sorted(maps.Keys(r.seats)) {
		all = append(all, relay.Seat{Room: room, Client: id, Name: r.seats[id]})
	}
	return all
}

func (b *bus) seat(room int32, r *memRoom, id int32, name string, all bool) (relay.Seat, error) {
	r.seats[id] = name
	if len(r.seats) == 1 {
		r.host = id
		r.fence++
	}
	e := &relay.RoomEvent{Kind: relay.RoomJoined, Host: r.host, Fence: r.fence, Client: id, Name: name, Full: all}
	if all {
		e.All = r.all(room)
	}
	b.tell(room, e)
	if b.answers != nil {
		if err := b.answers(); err != nil {
			b.unseat(room, id)
			return relay.Seat{}, err
		}
	}
	return relay.Seat{Room: room, Client: id, Name: name}, nil
}

func (b *bus) Join(_ context.Context, room, secret int32, name string, clientSecret int32, all bool) (relay.Seat, error) {
	r, err := b.begin(room)
	defer b.mu.Unlock()
	switch {
	case err != nil:
		return relay.Seat{}, err
	case r.secret != secret:
		return relay.Seat{}, relay.ErrNoRoom
	case len(r.seats) >= int(r.max):
		return relay.Seat{}, relay.ErrRoomFull
	}
	id := r.next
	r.next++
	r.secrets[id] = clientSecret
	return b.seat(room, r, id, name, all)
}

func (b *bus) Rejoin(_ context.Context, room, secret int32, name string, client, clientSecret int32, all bool) (relay.Seat, error) {
	r, err := b.begin(room)
	defer b.mu.Unlock()
	if err != nil {
		return relay.Seat{}, err
	}
	is, ok := r.secrets[client]
	switch {
	case r.secret != secret:
		return relay.Seat{}, relay.ErrNoRoom
	case !ok || is != clientSecret:
		return relay.Seat{}, relay.ErrNoClient
	case r.seats[client] != "":
		return relay.Seat{}, relay.ErrConnected
	case len(r.seats) >= int(r.max):
		return relay.Seat{}, relay.ErrRoomFull
	}
	return b.seat(room, r, client, name, all)
}

// elect makes another one host, or nobody.
func (r *memRoom) elect() {
	r.host = relay.NoHost
	r.fence++
	if r.seats[r.granted] != "" {
		r.host, r.granted = r.granted, -1
		return
	}
	r.granted = -1
	if ids := slices.Sorted(maps.Keys(r.seats)); len(ids) > 0 {
		r.host = ids[0]
	}
}

func (b *bus) unseat(room int32, ids ...int32) {
	r := b.rooms[room]
	for _, id := range ids {
		delete(r.seats, id)
	}
	if slices.Contains(ids, r.host) || r.granted >= 0 && slices.Contains(ids, r.granter) {
		r.elect()
	}
	b.tell(room, &relay.RoomEvent{Kind: relay.RoomLeft, Host: r.host, Fence: r.fence, Client: -1, Gone: ids})
}

func (b *bus) Leave(s relay.Seat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.rooms[s.Room]; r != nil && r.seats[s.Client] == s.Name {
		b.unseat(s.Room, s.Client)
	}
}

// reap gives up seats without asking who has them.
func (b *bus) reap(room int32, ids ...int32) {
	b.with(func() { b.unseat(room, ids...) })
}

func (b *bus) asHost(s relay.Seat, target int32) (*memRoom, error) {
	r, err := b.begin(s.Room)
	switch {
	case err != nil:
		return nil, err
	case r.seats[s.Client] != s.Name:
		return nil, relay.ErrNoSeat
	case r.host != s.Client:
		return nil, relay.ErrNotHost
	case r.seats[target] == "" || target == s.Client:
		return nil, relay.ErrNoClient
	}
	return r, nil
}

func (b *bus) Kick(_ context.Context, host relay.Seat, target int32) error {
	r, err := b.asHost(host, target)
	defer b.mu.Unlock()
	if err != nil {
		return err
	}
	delete(r.seats, target)
	b.tell(host.Room, &relay.RoomEvent{Kind: relay.RoomKicked, Host: r.host, Fence: r.fence, Client: target})
	return nil
}

func (b *bus) Grant(_ context.Context, host relay.Seat, target int32) error {
	r, err := b.asHost(host, target)
	defer b.mu.Unlock()
	if err != nil {
		return err
	}
	r.host, r.granted, r.granter = relay.NoHost, target, host.Client
	r.fence++
	b.tell(host.Room, &relay.RoomEvent{Kind: relay.RoomMoving, Host: r.host, Fence: r.fence, Client: host.Client})
	if b.grantLost {
		return relay.ErrUnavailable
	}
	return nil
}

func (b *bus) Assign(_ context.Context, s relay.Seat) error {
	var before func()
	b.with(func() { before = b.onAssign })
	if before != nil {
		before()
	}
	r, err := b.begin(s.Room)
	defer b.mu.Unlock()
	switch {
	case b.assignFails:
		return relay.ErrUnavailable
	case err != nil:
		return err
	case r.seats[s.Client] != s.Name:
		return relay.ErrNoSeat
	case r.granted < 0:
		return nil
	}
	r.elect()
	b.tell(s.Room, &relay.RoomEvent{Kind: relay.RoomGranted, Host: r.host, Fence: r.fence, Client: s.Client})
	if b.grantLost {
		return relay.ErrUnavailable
	}
	return nil
}

func (b *bus) Connected(_ context.Context, room int32) ([]int32, int32, error) {
	r, err := b.begin(room)
	defer b.mu.Unlock()
	if err != nil {
		return nil, 0, err
	}
	return slices.Sorted(maps.Keys(r.seats)), r.host, nil
}

func (b *bus) Tell(_ context.Context, room int32) error {
	r, err := b.begin(room)
	defer b.mu.Unlock()
	if err != nil {
		return err
	}
	b.tells++
	if b.onTell != nil {
		b.onTell()
	}
	b.tell(room, &relay.RoomEvent{Kind: relay.RoomTold, Host: r.host, Fence: r.fence, Client: -1, Full: true, All: r.all(room)})
	return nil
}

// say publishes what a client said, as if its node did.
func (b *bus) say(room int32, s said, from string) {
	b.with(func() {
		b.publish(relay.Message{Topic: relay.RoomTopic(room), From: from, Time: time.Unix(0, 0), Body: appendSaid(nil, &s)})
	})
}
