package rooms

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// notSeated is session.at of one that is in no room.
const notSeated = -1

// session is one client. It is a conn.Handler (on the reader) and a relay.Acker (on
// the bus).
type session struct {
	// Fixed after Server.ServeHTTP.
	server *Server
	conn   *conn.Conn

	inFlight conn.InFlight              // of what it relays; each is answered within two seconds
	fence    atomic.Int64               // of its hosting, at its place in the room's stream; 0: it is not host
	going    atomic.Pointer[relay.Seat] // to be given up when nothing is in flight

	// Owned by the reader.
	sends  conn.Bucket // what is to be relayed
	others conn.Bucket // everything else, mistakes included
	shard  *shard      // nil: in no room
	own    relay.Seat
	from   string // the client's id, as the sender of messages

	// Owned by the loop.
	client int32
	at     int // in shard.seated
	seat   relay.Seat
}

func (s *session) log(event string, attrs ...slog.Attr) {
	s.server.log.LogAttrs(context.Background(), slog.LevelInfo, event, append(attrs, slog.String("protocol", Protocol),
		slog.Uint64("conn", s.conn.ID), slog.Any("client", s.conn.Remote))...)
}

// Open implements conn.Handler. A client is in no room at first.
func (s *session) Open() error {
	s.log("session opened")
	return nil
}

// Closed implements conn.Handler: the client leaves its room, after all that it has said.
func (s *session) Closed(r conn.Reason) {
	if s.shard != nil {
		s.inFlight.Settle()
		s.leave(s.shard, s.own)
	}
	s.log("session closed", slog.String("reason", r.String()))
}

// Closing implements conn.Closer: the seat is given up as soon as nothing reaches the
// client any more, though its connection may take seconds to end.
func (s *session) Closing() {
	if s.at != notSeated {
		seat := s.seat
		s.going.Store(&seat)
		s.depart()
	}
}

// depart gives the seat of one that goes up when all that it has said is in the stream.
func (s *session) depart() {
	if s.inFlight.Len() > 0 {
		return // Published comes here again
	}
	if seat := s.going.Swap(nil); seat != nil {
		s.server.deps.Seats.Leave(*seat)
	}
}

// leave gives a seat up.
func (s *session) leave(sh *shard, seat relay.Seat) {
	s.server.deps.Seats.Leave(seat)
	sh.loop.Do(func() { sh.forget(s, seat.Name) })
	sh.loop.Flush()
	s.server.leave(sh)
}

// Unanswered implements conn.Answerer.
func (s *session) Unanswered() int { return s.inFlight.Len() }

// queue queues a frame. Only on the loop.
func (s *session) queue(frame []byte) { s.conn.Queue(frame) }

// Message handles one frame.
func (s *session) Message(frame []byte) {
	s.server.metrics.Received.Inc()
	flag, data, ok := decodePayload(frame)
	var p *problem
	switch {
	case s.conn.MessageKind() != conn.OpBinary:
		p = errText
	case !ok:
		p = errPayload
	case flag == roomspb.FlagType_REQUEST_RELAY_MESSAGE:
		if p = s.say(data); p == nil {
			return
		}
	}
	cost := 1
	if p == nil {
		cost = askCost
	}
	if !s.others.TakeUpTo(s.conn.Now(), cost) {
		p = errTooFast
	}
	if p == nil {
		p = s.handle(flag, data)
	}
	if p != nil {
		s.server.metrics.Refused[p.code()].Inc()
		s.conn.Send(appendError(nil, p))
	}
}

// handle does what a client asks for, but for relaying.
func (s *session) handle(flag roomspb.FlagType, data []byte) *problem {
	switch flag {
	case roomspb.FlagType_REQUEST_CONNECT:
		var r roomspb.JoinRoomRequest
		if proto.Unmarshal(data, &r) != nil {
			return errPayload
		}
		secret := newSecret()
		return s.enter(r.RoomID, secret, func(ctx context.Context, name string, all bool) (relay.Seat, error) {
			return s.server.deps.Seats.Join(ctx, r.RoomID, r.RoomSecret, name, secret, all)
		})
	case roomspb.FlagType_REQUEST_RECONNECT:
		var r roomspb.RejoinRoomRequest
		if proto.Unmarshal(data, &r) != nil {
			return errPayload
		}
		return s.enter(r.RoomID, r.ClientSecret, func(ctx context.Context, name string, all bool) (relay.Seat, error) {
			return s.server.deps.Seats.Rejoin(ctx, r.RoomID, r.RoomSecret, name, r.ClientID, r.ClientSecret, all)
		})
	case roomspb.FlagType_REQUEST_LIST:
		return s.list()
	case roomspb.FlagType_REQUEST_KICK:
		var r roomspb.KickRequest
		if proto.Unmarshal(data, &r) != nil {
			return errPayload
		}
		return s.asHost(r.ClientID, s.server.deps.Seats.Kick)
	case roomspb.FlagType_REQUEST_GRANT_HOST:
		var r roomspb.GrantHostRequest
		if proto.Unmarshal(data, &r) != nil {
			return errPayload
		}
		return s.asHost(r.HostID, s.server.deps.Seats.Grant)
	}
	return errFlag
}

// enter has the client be in a room. When it returns nil the client has been told.
func (s *session) enter(room, secret int32, join func(ctx context.Context, name string, all bool) (relay.Seat, error)) *problem {
	if s.shard != nil {
		return errInRoom
	}
	if room <= 0 { // there are none
		return errRoom
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	sh, err := s.server.enter(ctx, s.conn.Loop(), room)
	if err != nil {
		return s.failed(err)
	}
	a := &attempt{session: s, secret: secret, seated: make(chan bool, 1)}
	name := rand.Text()
	all := !sh.following.Load()
	sh.loop.Do(func() {
		sh.expected[name] = a
		if !all && !sh.known { // any more: a gap came in between
			sh.ask()
		}
	})
	seat, err := join(ctx, name, all)
	if err != nil {
		seated := make(chan bool, 1)
		sh.loop.Do(func() {
			seated <- s.at != notSeated
			sh.forget(s, name)
		})
		sh.loop.Flush()
		s.server.leave(sh)
		if wasSeated(seated) {
			// Redis has done it and given it back: the client was told that it is in
			// the room.
			s.conn.Close(conn.CodeTryLater, "the place in the room is lost: reconnect", conn.ReasonSeat)
		}
		return s.failed(err)
	}
	seat.Room, seat.Name = room, name
	select {
	case ok := <-a.seated:
		if !ok {
			s.leave(sh, seat)
			return errRoom
		}
	case <-ctx.Done(): // this node does not hear what Redis has published
		s.leave(sh, seat)
		s.conn.Close(conn.CodeTryLater, "the room cannot be heard: reconnect", conn.ReasonBroker)
		return errAway
	}
	s.shard, s.own, s.from = sh, seat, strconv.Itoa(int(seat.Client))
	s.log("joined", slog.Int("room", int(room)), slog.Int("id", int(seat.Client)))
	return nil
}

// wasSeated waits for an answer from the loop, as long as there is one.
func wasSeated(answer <-chan bool) bool {
	select {
	case seated := <-answer:
		return seated
	case <-time.After(askTimeout): // the loop has ended, or is hopelessly behind
		return true
	}
}

// failed is how a client is told of an error of Redis.
func (s *session) failed(err error) *problem {
	p := problemOf(err)
	if p == errAway && !errors.Is(err, relay.ErrUnavailable) {
		s.server.log.Warn("a room cannot be served", "conn", s.conn.ID, "error", err)
	}
	return p
}

// list tells the client who is in its room.
func (s *session) list() *problem {
	if s.shard == nil {
		return errNoRoom
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	clients, host, err := s.server.deps.Seats.Connected(ctx, s.own.Room)
	if errors.Is(err, relay.ErrNoRoom) {
		return errSeat
	}
	if err != nil {
		return s.failed(err)
	}
	list := &roomspb.ClientList{List: make([]*roomspb.SanitisedClient, 0, len(clients))}
	for _, id := range clients {
		list.List = append(list.List, &roomspb.SanitisedClient{ID: id, Host: id == host})
	}
	s.conn.Send(appendMessage(nil, roomspb.FlagType_RESPONSE_LIST, list))
	return nil
}

// asHost does what only the host may do, after all that it has said. It is told of that
// by what happens in the room.
func (s *session) asHost(target int32, do func(ctx context.Context, host relay.Seat, target int32) error) *problem {
	if s.shard == nil {
		return errNoRoom
	}
	s.inFlight.Settle()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	err := do(ctx, s.own, target)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relay.ErrNoClient):
		return errTarget
	case errors.Is(err, relay.ErrNoRoom):
		return errSeat
	}
	return s.failed(err)
}

// assign is the second step of a grant by this client, after it has been told of the
// first: so never two believe to be host. If it fails, and the room does not hear of it
// all the same, the end of the seat does what it should have done.
func (s *session) assign(sh *shard, seat relay.Seat) {
	if errors.Is(s.conn.FlushedWithin(tellTimeout), conn.ErrClosing) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := s.server.deps.Seats.Assign(ctx, seat); !errors.Is(err, relay.ErrUnavailable) {
		return
	}
	sh.loop.Do(func() {
		if sh.moving && s.at != notSeated {
			s.conn.CloseHere(conn.CodeTryLater, "the host could not be moved: reconnect", conn.ReasonBroker)
		}
	})
	sh.loop.Flush()
}

// bodies hold the body of a message until it has been enqueued.
var bodies = sync.Pool{New: func() any {
	b := make([]byte, 0, 512)
	return &b
}}

// relayRoom is more than a Relay needs besides its data: its type, its target, and tags
// and sizes.
const relayRoom = 32

// say has something relayed. The client hears of it only if it is not.
func (s *session) say(data []byte) *problem {
	u, ok := decodeRelay(data)
	if !ok {
		return errPayload
	}
	if s.shard == nil {
		return errNoRoom
	}
	said := said{kind: u.kind, target: u.target, fence: s.fence.Load(), encoded: data}
	switch u.kind {
	case roomspb.RelayType_BROADCAST, roomspb.RelayType_TARGET:
		if said.fence == 0 {
			return errNotHost
		}
		if u.kind == roomspb.RelayType_TARGET && !u.hasTarget {
			return errNoTarget
		}
	case roomspb.RelayType_HOST:
		if said.fence != 0 {
			return errHost
		}
	default:
		return errRelayType
	}
	if limit := s.server.cfg.MaxMessageBytes; limit > 0 && (u.size > limit || len(data) > limit+relayRoom) {
		return errTooLong
	}
	if !s.sends.Take(s.conn.Now()) {
		return errTooFast
	}
	scratch := bodies.Get().(*[]byte)
	body := appendSaid((*scratch)[:0], &said)
	s.inFlight.Begin()
	s.server.deps.Publisher.Enqueue(relay.Message{Topic: s.shard.topic, From: s.from, Time: time.Now(), Body: body}, Retention(), s, relay.Token{})
	*scratch = body
	bodies.Put(scratch)
	return nil
}

// Published implements relay.Acker.
func (s *session) Published(_ relay.Token, _ relay.ID, err error) {
	if err != nil {
		s.server.metrics.Refused[errUnsent.code()].Inc()
		s.conn.Send(appendError(nil, errUnsent))
	}
	s.inFlight.End()
	s.depart()
	s.conn.Answered()
}

// newSecret makes up the secret of a client: random and positive.
func newSecret() int32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if n := int32(binary.BigEndian.Uint32(b[:]) & math.MaxInt32); n > 0 {
			return n
		}
	}
}
