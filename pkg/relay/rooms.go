package relay

import (
	"context"
	"errors"
	"strconv"
	"strings"
)

// RoomTopics starts the topics of rooms: what happens in a room and what its clients
// say to each other are messages of one topic, so that all see both in one order.
const RoomTopics = "room/"

// RoomTopic is the topic of a room.
func RoomTopic(id int32) Topic {
	return Topic(strconv.AppendInt([]byte(RoomTopics), int64(id), 10))
}

// NoHost is the host of a room in which nobody is connected, or whose host is on the
// move. Ids of clients start at 0.
const NoHost int32 = -1

// MaxRoomClients bounds the MaxClients of a room. Each transition is one step of Redis,
// which does nothing else meanwhile, and some look at all clients of the room.
const MaxRoomClients = 10_000

var (
	// ErrNoRoom means that no room has this id, or that its secret is another.
	ErrNoRoom = errors.New("no such room")
	// ErrNoClient means that no client of the room has this id, or that its secret is
	// another, or, of a target, that it is not connected.
	ErrNoClient = errors.New("no such client")
	// ErrConnected means that the client that would come back has not gone.
	ErrConnected = errors.New("the client is connected")
	// ErrRoomFull means that all places of a room are taken.
	ErrRoomFull = errors.New("the room is full")
	// ErrRoomsFull means that a new room would commit more clients than the fleet's
	// maximum.
	ErrRoomsFull = errors.New("all places of the fleet's rooms are committed")
	// ErrNotHost means that the client is not the room's host, at the moment at which
	// that counts.
	ErrNotHost = errors.New("not the host")
	// ErrNoSeat means that a connection does not have its seat in the room any more.
	ErrNoSeat = errors.New("not in the room any more")
)

// Room is a room as those see it who manage rooms.
type Room struct {
	ID         int32 // random, positive
	Secret     int32 // the same; who knows it may join
	MaxClients int32
	Clients    int32 // that are connected now
}

// RoomTotals are sums over all rooms of the fleet.
type RoomTotals struct {
	Rooms     int64
	Max       int64 // the most clients that may be committed
	Clients   int64 // that are connected now
	Committed int64 // see Committed
}

// Committed is what a room counts for against the fleet's maximum: its MaxClients,
// rounded up to the next multiple of 5.
func Committed(maxClients int32) int64 { return (int64(maxClients) + 4) / 5 * 5 }

// Rooms manages the rooms of the fleet. Every call answers within two seconds; errors
// wrap ErrUnavailable when Redis has not confirmed it, and then it may have happened
// all the same.
type Rooms interface {
	// Create makes a room for 1 to MaxRoomClients clients, with nobody in it.
	// ErrRoomsFull. A room that was made but not confirmed is closed again.
	Create(ctx context.Context, maxClients int32) (Room, error)
	// Room returns a room; ErrNoRoom.
	Room(ctx context.Context, id int32) (Room, error)
	// List returns all rooms, ordered by their ids. Rooms that come or go meanwhile
	// may be in it or not.
	List(ctx context.Context) ([]Room, error)
	// Close ends a room at once: nobody has a seat in it any more, and those who hear
	// its topic are told. ErrNoRoom.
	Close(ctx context.Context, id int32) error
	// Totals returns the sums over all rooms, of one moment.
	Totals(ctx context.Context) (RoomTotals, error)
}

// Seat is the place of one connection in a room. A client that comes back has the same
// id and another seat.
type Seat struct {
	Room   int32
	Client int32
	Name   string // made up by the node, unique to the connection: 1 to 64 visible ASCII characters
}

// Seats is what connections do in rooms. Each call is one transition of the room's
// state, which happens wholly or not at all, and which everybody who subscribes to the
// room's topic hears of as a RoomEvent, in its place between the messages of the topic.
// Every call answers within two seconds; errors wrap ErrUnavailable when Redis has not
// confirmed it, and then it may have happened all the same, but for Join and Rejoin:
// the seat is given back then.
//
// The seats of a node stand as long as its lease. When a node dies, the others give up
// its seats, within 15 s; a node that may be taken for dead is told before that.
type Seats interface {
	// Join seats a new client of the room under the next id (ids are not given again: they
	// leap where Redis may have lost the last ones); clientSecret is its secret
	// from now on. The first one becomes host. With all set the event lists everybody.
	// ErrNoRoom (also of a wrong secret), ErrRoomFull.
	Join(ctx context.Context, room, secret int32, name string, clientSecret int32, all bool) (Seat, error)
	// Rejoin seats a client of the room that is not connected now, or whose node does not
	// hear Redis any more: its former seat is given up in the same step. ErrNoRoom,
	// ErrRoomFull, ErrNoClient (also of a wrong secret), ErrConnected.
	Rejoin(ctx context.Context, room, secret int32, name string, client, clientSecret int32, all bool) (Seat, error)
	// Leave gives a seat up, as soon as Redis answers. It returns at once. If the
	// client was host and others are connected, the one with the lowest id becomes it.
	Leave(s Seat)
	// Kick has the room's host, who must have the seat, take another client's seat.
	// ErrNoRoom, ErrNoSeat, ErrNotHost, ErrNoClient (of the target, also when it is
	// the host itself).
	Kick(ctx context.Context, host Seat, target int32) error
	// Grant has the room's host, who must have the seat, be host no more, so that another
	// client can be. Nobody is until Assign, which is to be called when the host has been
	// told. Errors are those of Kick.
	Grant(ctx context.Context, host Seat, target int32) error
	// Assign makes the client host to which the seat has granted it, or, if that has gone,
	// the one with the lowest id. So does the end of the seat. Nothing happens when the
	// room has a host. ErrNoRoom, ErrNoSeat.
	Assign(ctx context.Context, s Seat) error
	// Connected returns the ids of the clients that are connected, in ascending order,
	// and which one is host. ErrNoRoom.
	Connected(ctx context.Context, room int32) (clients []int32, host int32, err error)
	// Tell has everybody told who is connected: an event that changes nothing, for
	// those who may have missed others. ErrNoRoom.
	Tell(ctx context.Context, room int32) error
}

// RoomEventKind is what has happened in a room.
type RoomEventKind byte

// The kinds of events, as they are written.
const (
	RoomJoined  RoomEventKind = 'j' // Client, who has the seat Name, is connected; Join and Rejoin
	RoomLeft    RoomEventKind = 'l' // Gone have left, or were reaped
	RoomKicked  RoomEventKind = 'k' // Client was kicked, by who was host and still is
	RoomMoving  RoomEventKind = 'm' // Client, who was host, makes another one host: nobody is for a moment
	RoomGranted RoomEventKind = 'g' // then there is a host again
	RoomTold    RoomEventKind = 't' // nothing; All are connected
	RoomClosed  RoomEventKind = 'c' // the room is no more
)

// RoomEvent is a transition of a room's state. It is the body of a message without a
// sender.
type RoomEvent struct {
	Kind RoomEventKind
	// Host is who is host after the event, or NoHost (nobody is connected, or the host is
	// on the move: it was granted, and is assigned next), and Fence the number of that
	// hosting: it rises whenever the host changes. What a host says bears its fence, and
	// is not from a host when it comes in its topic where that is not the current one.
	Host  int32
	Fence int64
	// Client is who has joined, was kicked, or was host before a grant; else -1. An event
	// in which somebody leaves may end a grant, too.
	Client int32
	Name   string  // of the seat of who has joined
	Gone   []int32 // who left, in ascending order
	// Full tells that All are all who are connected after the event, in ascending order.
	Full bool
	All  []Seat
}

// roomEventMark begins the body of an event, which is text: fields that spaces
// separate. They are: the mark and the kind, as one; Host; Fence; Client; Name or "-";
// the number of Gone, and these; then, if Full, the number of All, and for each its
// client and its name.
const roomEventMark = '!'

// AppendRoomEvent appends the body of a message that RoomEventOf reads.
func AppendRoomEvent(b []byte, e *RoomEvent) []byte {
	number := func(n int64) { b = strconv.AppendInt(append(b, ' '), n, 10) }
	text := func(s string) { b = append(append(b, ' '), s...) }
	b = append(b, roomEventMark, byte(e.Kind))
	number(int64(e.Host))
	number(e.Fence)
	number(int64(e.Client))
	if e.Name == "" {
		text("-")
	} else {
		text(e.Name)
	}
	number(int64(len(e.Gone)))
	for _, client := range e.Gone {
		number(int64(client))
	}
	if e.Full {
		number(int64(len(e.All)))
		for _, s := range e.All {
			number(int64(s.Client))
			text(s.Name)
		}
	}
	return b
}

// RoomEventOf reads the event that a message of a room's topic tells of; false for any
// other message.
func RoomEventOf(m *Message) (e RoomEvent, ok bool) {
	if m.From != "" || len(m.Body) < 2 || m.Body[0] != roomEventMark {
		return e, false
	}
	fields := strings.Split(string(m.Body[1:]), " ")
	ok = true
	next := func() string {
		if len(fields) == 0 {
			ok = false
			return ""
		}
		field := fields[0]
		fields = fields[1:]
		return field
	}
	number := func(bits int) int64 {
		n, err := strconv.ParseInt(next(), 10, bits)
		ok = ok && err == nil
		return n
	}
	count := func(each int) int {
		n := number(32)
		ok = ok && n >= 0 && n <= int64(len(fields)/each)
		return int(n)
	}
	kind := next()
	if len(kind) != 1 || !strings.Contains("jlkmgtc", kind) {
		return RoomEvent{}, false
	}
	e.Kind = RoomEventKind(kind[0])
	e.Host, e.Fence, e.Client = int32(number(32)), number(64), int32(number(32))
	if e.Name = next(); e.Name == "-" {
		e.Name = ""
	}
	for n := count(1); ok && n > 0; n-- {
		e.Gone = append(e.Gone, int32(number(32)))
	}
	if e.Full = ok && len(fields) > 0; e.Full {
		id, _ := strconv.ParseInt(strings.TrimPrefix(string(m.Topic), RoomTopics), 10, 32)
		for n := count(2); ok && n > 0; n-- {
			e.All = append(e.All, Seat{Room: int32(id), Client: int32(number(32)), Name: next()})
		}
	}
	if !ok || len(fields) > 0 {
		return RoomEvent{}, false
	}
	return e, true
}
