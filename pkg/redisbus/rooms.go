package redisbus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/pkg/relay"
)

const (
	// roomsTimeout bounds a call, with all attempts, below two seconds.
	roomsTimeout = valuesTimeout
	// roomIDs is how many ids are made up for a new room, of which it gets the first
	// that is free, and roomTries how often when none is.
	roomIDs   = 8
	roomTries = 4
	// roomMemory is how many of a room's clients that have left, the latest ones, may
	// come back, or as many as it is for, if those are more: each costs Redis memory as
	// long as the room is there.
	roomMemory = 1024
	// maxLeaving and maxUnmade bound the seats that wait to be given up, and the rooms
	// that were perhaps made, when others are asked for: while Redis does not answer,
	// each attempt leaves one behind.
	maxLeaving = 1 << 13
	maxUnmade  = 1 << 10
	// roomsOverdue is at how many rooms whose time is over sums are looked after.
	roomsOverdue = 256
	// maxSeatName bounds the name of a seat, in bytes; see relay.Seat.
	maxSeatName = 64
	// roomsWaits bounds the calls that wait for replicas at once, and roomsDetours those
	// that connect to the master to which the rooms are being moved: others need the
	// link's connections, too.
	roomsWaits   = readConns / 4
	roomsDetours = 2
)

// roomsRetention is for who does not say how long what happens in rooms is kept.
var roomsRetention = relay.Retention{Length: 1000, Age: time.Minute}

// RoomsOptions configure Rooms. They are not changed after NewRooms.
type RoomsOptions struct {
	Max int64         // the most clients that all rooms may be committed to, see relay.Committed
	TTL time.Duration // how long a room stays with nobody in it
	// Retention is how long events are kept in a room's topic; zero: a minute. What
	// clients say there needs the same one, and Options.Keeps has to name the topic.
	Retention relay.Retention
	Log       *slog.Logger // nil: none
}

// Rooms are the rooms of the fleet, and this node's seats in them. It implements
// relay.Rooms and relay.Seats: each transition is one script, of which everything is
// on one master, in a Cluster too. All methods may be called from any goroutine,
// before Run and during it. A call that is repeated within, since the answer was lost,
// does not act twice, but for Kick and Grant, which are not repeated. When
// replicas are to have messages (see Options.WaitReplicas) they have each transition,
// too, but for Tell, and for seats that are left or given up for the dead; if too few
// have it the call fails.
//
// A node takes a claim before its first seat, so that the others give its seats up
// when it dies. For every seat that Join and Rejoin return there has to be a Leave,
// also when the seat was taken away.
type Rooms struct {
	// Fixed after NewRooms.
	link    *link
	store   *store
	fleet   *Fleet
	node    string
	options RoomsOptions
	kept    *kept
	log     *slog.Logger
	metrics *RoomsMetrics
	wake    chan struct{} // something is to be given up
	calls   atomic.Uint64 // for seats, so far

	// Fixed before Run.
	onLost []func()
	onGone []func(room int32)

	// Owned by tend.
	audited  regime               // under which all seats were last compared with Redis
	differed bool                 // Redis had not as many at the last look
	missed   map[place]bool       // seats that Redis did not have when they were last compared
	doubtful map[string]time.Time // nodes that have seats without a claim, since when

	mu      sync.Mutex
	seats   map[place]seat // that this node has, or has asked for
	leaving map[place]struct{}
	asking  int    // for how many seats Redis is being asked
	claimed bool   // the others give the seats up when this node dies
	losses  uint64 // times that all seats were given up
	ended   bool

	unmade   []*unmade
	creating int // rooms for which Redis is being asked
}

var (
	_ relay.Rooms = (*Rooms)(nil)
	_ relay.Seats = (*Rooms)(nil)
)

// NewRooms makes one for the node of the fleet; Run makes it work. Call it once, and
// before the fleet's Run.
func NewRooms(b *Bus, f *Fleet, o RoomsOptions) *Rooms {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if !o.Retention.Kept() {
		o.Retention = roomsRetention
	}
	l := b.link(relay.RoomTopics)
	r := &Rooms{link: l, fleet: f, node: f.options.Node, options: o, kept: b.keep.get(o.Retention), log: o.Log,
		store: &store{link: l, client: l.ask.WithTimeout(publishTimeout),
			waits: make(chan struct{}, roomsWaits), detours: make(chan struct{}, roomsDetours)},
		metrics: newRoomsMetrics(), wake: make(chan struct{}, 1), doubtful: map[string]time.Time{},
		seats: map[place]seat{}, leaving: map[place]struct{}{}}
	f.OnRelease(roomsClaim, func(ctx context.Context, c relay.Claim) error { return r.reap(ctx, c.Holder) })
	f.OnLost(r.lost)
	return r
}

// OnLost has lost called when all seats of this node are given up, since others may
// take it for dead, or have: before any of them does so. It must end what the
// connections do in their rooms, and wait for no client. Call it before Run, and before
// that of the fleet.
func (r *Rooms) OnLost(lost func()) { r.onLost = append(r.onLost, lost) }

// OnGone has gone called with a room in which this node has seats and of which Redis
// knows nothing: it has lost its data, and no event tells of that. It may be called
// again until the seats were left, and must wait for no client. Call it before Run.
func (r *Rooms) OnGone(gone func(room int32)) { r.onGone = append(r.onGone, gone) }

// Metrics are the figures of rooms, to be registered once.
func (r *Rooms) Metrics() *RoomsMetrics { return r.metrics }

// Create implements relay.Rooms. A room that was made though Redis did not confirm it is
// removed again as soon as Redis answers, while Run runs, unless somebody has joined it.
// While too many are to be, it is relay.ErrOverloaded. A room for more than
// relay.MaxRoomClients is relay.ErrRoomsFull.
func (r *Rooms) Create(ctx context.Context, maxClients int32) (relay.Room, error) {
	switch {
	case maxClients < 1:
		return relay.Room{}, fmt.Errorf("a room for %d clients: want 1 or more", maxClients)
	case maxClients > relay.MaxRoomClients:
		return relay.Room{}, fmt.Errorf("%w: a room for %d clients, of at most %d", relay.ErrRoomsFull, maxClients, relay.MaxRoomClients)
	}
	ctx, cancel := context.WithTimeout(ctx, roomsTimeout)
	defer cancel()
	if !r.making(1) {
		return relay.Room{}, fmt.Errorf("%w: %w", relay.ErrOverloaded, errBacklog)
	}
	defer r.making(-1)
	args := []any{maxClients, r.options.Max, randomNumber()}
	for range roomIDs {
		args = append(args, randomNumber())
	}
	for try := 1; ; try++ {
		reply, err := r.do(ctx, roomCreate, 0, args...)
		switch {
		case err == nil:
			return parseRoom(reply)
		case errors.Is(err, relay.ErrUnavailable) || errors.Is(err, errRooms):
			r.mu.Lock()
			r.unmade = append(r.unmade, &unmade{args: args[2:]})
			r.mu.Unlock()
			r.poke()
			return relay.Room{}, err
		case !errors.Is(err, errRoomIDs):
			return relay.Room{}, err
		case try == roomTries:
			return relay.Room{}, fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
		}
		for i := range roomIDs {
			args[3+i] = randomNumber()
		}
	}
}

// randomNumber is positive.
func randomNumber() int32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if n := int32(binary.BigEndian.Uint32(b[:]) & math.MaxInt32); n > 0 {
			return n
		}
	}
}

// Room implements relay.Rooms.
func (r *Rooms) Room(ctx context.Context, id int32) (relay.Room, error) {
	reply, err := r.do(ctx, roomRead, id)
	if err != nil {
		return relay.Room{}, err
	}
	return parseRoom(append([]string{strconv.Itoa(int(id))}, reply...))
}

// List implements relay.Rooms. It reads all rooms in one step.
func (r *Rooms) List(ctx context.Context) ([]relay.Room, error) {
	reply, err := r.do(ctx, roomList, 0)
	if err != nil {
		return nil, err
	}
	rooms := make([]relay.Room, 0, len(reply)/2)
	for one := range slices.Chunk(reply, 2) {
		room, err := parseRoom(one)
		if err != nil {
			return nil, err
		}
		rooms = append(rooms, room)
	}
	slices.SortFunc(rooms, func(a, b relay.Room) int { return int(a.ID) - int(b.ID) })
	return rooms, nil
}

// parseRoom reads a room's id and its record.
func parseRoom(reply []string) (room relay.Room, err error) {
	if len(reply) != 2 {
		return room, errRooms
	}
	fields := strings.Fields(reply[1])
	if len(fields) != 9 { // see rooms.lua
		return room, errRooms
	}
	for _, field := range []struct {
		to   *int32
		text string
	}{{&room.ID, reply[0]}, {&room.Secret, fields[0]}, {&room.MaxClients, fields[1]}, {&room.Clients, fields[5]}} {
		n, err := strconv.ParseInt(field.text, 10, 32)
		if err != nil {
			return room, fmt.Errorf("%w: %w", errRooms, err)
		}
		*field.to = int32(n)
	}
	return room, nil
}

// Close implements relay.Rooms.
func (r *Rooms) Close(ctx context.Context, id int32) error {
	ctx, cancel := context.WithTimeout(ctx, roomsTimeout)
	defer cancel()
	if _, err := r.do(ctx, roomRead, id); err != nil {
		return err
	}
	// That it is not there any more may be the work of an attempt without an answer.
	if _, err := r.do(ctx, roomClose, id); !errors.Is(err, relay.ErrNoRoom) {
		return err
	}
	return nil
}

// Totals implements relay.Rooms. While more than roomsOverdue rooms whose time is over are
// still to be swept, what the others of them were committed to is in the sum.
func (r *Rooms) Totals(ctx context.Context) (relay.RoomTotals, error) {
	reply, err := r.do(ctx, roomTotals, 0, roomsOverdue)
	if err != nil {
		return relay.RoomTotals{}, err
	}
	t := relay.RoomTotals{Max: r.options.Max}
	for i, to := range []*int64{&t.Rooms, &t.Clients, &t.Committed} {
		if len(reply) != 3 {
			return relay.RoomTotals{}, errRooms
		}
		if *to, err = strconv.ParseInt(reply[i], 10, 64); err != nil {
			return relay.RoomTotals{}, fmt.Errorf("%w: %w", errRooms, err)
		}
	}
	return t, nil
}
