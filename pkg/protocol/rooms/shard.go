package rooms

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// shard is a room as one loop sees it: the sessions of the loop that are in the room, and
// the room's state at the place of the stream that it has come to. It is a
// hub.Subscriber.
type shard struct {
	// Fixed after newShard.
	server *Server
	place
	topic  relay.Topic
	opened chan struct{} // closed when the topic is heard, or failure is set

	failure error // fixed when opened is closed

	following atomic.Bool // known, for those who join

	// Guarded by Server.mu.
	users      int // sessions that have entered
	subscribed bool

	// Owned by the loop.
	known    bool // the state below is right; if not, it may be behind
	ever     bool // it was right once
	gaps     int  // times that something may have been missed
	telling  bool // somebody asks Redis for the state
	host     int32
	fence    int64            // of the host's hosting
	moving   bool             // clients were told that the host moves, and not yet whereto
	clients  map[int32]string // who is connected, and the name of its seat
	seated   []*session
	byClient map[int32]*session // the same
	expected map[string]*attempt
	news     []news          // for the next host
	held     []relay.Message // what clients said that cannot be judged yet
	bytes    int             // of held
	frame    []byte          // room for one that is being made
}

// attempt is a session that is about to be in the room, as soon as the event comes that
// it has its seat.
type attempt struct {
	session *session
	secret  int32
	seated  chan bool // has room; false: the room is no more
}

// news is that a client has come or gone.
type news struct {
	flag   roomspb.FlagType
	client int32
}

func newShard(s *Server, p place) *shard {
	return &shard{server: s, place: p, topic: relay.RoomTopic(p.room), opened: make(chan struct{}), host: relay.NoHost,
		clients: map[int32]string{}, byClient: map[int32]*session{}, expected: map[string]*attempt{}}
}

// open subscribes.
func (sh *shard) open() {
	s := sh.server
	ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
	defer cancel()
	_, err := s.deps.Hub.Subscribe(ctx, sh.topic, sh)
	s.mu.Lock()
	sh.failure, sh.subscribed = err, err == nil
	if err != nil || sh.users == 0 {
		s.drop(sh)
	}
	s.mu.Unlock()
	close(sh.opened)
}

// wanted tells whether any session has entered.
func (sh *shard) wanted() bool {
	sh.server.mu.Lock()
	defer sh.server.mu.Unlock()
	return sh.users > 0
}

// Loop implements hub.Subscriber.
func (sh *shard) Loop() *conn.Loop { return sh.loop }

// The rest of this file runs on the loop.

// Deliver implements hub.Subscriber.
func (sh *shard) Deliver(m *relay.Message) {
	if said, ok := saidOf(m); ok {
		switch {
		case !sh.known, sh.moving && said.kind == roomspb.RelayType_HOST:
			sh.hold(m, &said)
		default:
			sh.relay(&said)
		}
		return
	}
	if e, ok := relay.RoomEventOf(m); ok {
		sh.event(&e)
	}
}

// Gap implements hub.GapTaker: what was missed may have been anything.
func (sh *shard) Gap(relay.Position) {
	sh.gaps++
	sh.setKnown(false)
	if len(sh.seated) == 0 && len(sh.expected) == 0 {
		return // who joins asks for the state
	}
	var space [128]byte
	missing := appendError(space[:0], errGap)
	for _, s := range sh.seated {
		s.queue(missing)
	}
	sh.server.metrics.Refused[errGap.code()].Add(float64(len(sh.seated)))
	sh.ask()
}

// ask has the state told, if nobody is at it already.
func (sh *shard) ask() {
	if sh.telling {
		return
	}
	sh.telling = true
	gaps := sh.gaps
	sh.server.own.Go(func() {
		sh.server.tell(sh)
		sh.loop.Do(func() {
			if sh.telling = false; sh.gaps != gaps {
				sh.ask() // the answer may have been missed, too
			}
		})
		sh.loop.Flush()
	})
}

func (sh *shard) setKnown(known bool) {
	sh.known, sh.ever = known, sh.ever || known
	sh.following.Store(known)
}

// event takes the room's state on.
func (sh *shard) event(e *relay.RoomEvent) {
	if e.Kind == relay.RoomClosed {
		sh.gone()
		return
	}
	if e.Kind == relay.RoomTold || !sh.known {
		if !e.Full {
			return
		}
		sh.restore(e)
		return
	}
	switch e.Kind {
	case relay.RoomJoined:
		if e.Host == e.Client { // nobody else is there
			sh.setHost(e.Host, e.Fence)
		}
		sh.joined(e.Client, e.Name)
	case relay.RoomLeft:
		for _, id := range e.Gone {
			sh.left(id)
		}
		sh.move(e.Host, e.Fence)
		for _, id := range e.Gone {
			sh.tellHost(roomspb.FlagType_RESPONSE_CLIENT_DISCONNECT, id)
		}
	case relay.RoomKicked:
		delete(sh.clients, e.Client)
		if s := sh.byClient[e.Client]; s != nil {
			sh.unseat(s)
			s.conn.CloseHere(conn.CodeKicked, "kicked", conn.ReasonKicked)
		}
		sh.tellHost(roomspb.FlagType_RESPONSE_CLIENT_DISCONNECT, e.Client)
		if host := sh.byClient[sh.host]; host != nil {
			host.queue(appendMessage(nil, roomspb.FlagType_RESPONSE_KICK, &roomspb.KickResponse{ClientID: e.Client}))
		}
	case relay.RoomMoving, relay.RoomGranted:
		sh.move(e.Host, e.Fence)
	}
}

// joined has a client be in the room, and the host told. If it is one of the loop's, it
// hears of the room from here on.
func (sh *shard) joined(id int32, name string) {
	sh.clients[id] = name
	if a := sh.expected[name]; a != nil {
		delete(sh.expected, name)
		sh.seat(a, id)
	}
	sh.tellHost(roomspb.FlagType_RESPONSE_CLIENT_CONNECT, id)
}

// seat has a session be in the room.
func (sh *shard) seat(a *attempt, id int32) {
	s := a.session
	if old := sh.byClient[id]; old != nil { // whose seat was lost, which was missed
		sh.lose(old)
	}
	s.client, s.at, s.seat = id, len(sh.seated), relay.Seat{Room: sh.room, Client: id, Name: sh.clients[id]}
	sh.seated = append(sh.seated, s)
	sh.byClient[id] = s
	s.queue(appendMessage(nil, roomspb.FlagType_RESPONSE_CONNECT, &roomspb.Client{ID: id, Secret: a.secret}))
	switch {
	case sh.host == id:
		s.fence.Store(sh.fence)
		s.queue(appendFrame(nil, roomspb.FlagType_RESPONSE_ASSIGN_HOST, nil))
	case sh.moving:
		s.queue(appendFrame(nil, roomspb.FlagType_RESPONSE_BEGIN_HOST_MIGRATE, nil))
	}
	a.seated <- true
}

// unseat has a session be in the room no more.
func (sh *shard) unseat(s *session) {
	if s.at == notSeated {
		return
	}
	last := sh.seated[len(sh.seated)-1]
	sh.seated[s.at], last.at = last, s.at
	sh.seated[len(sh.seated)-1] = nil
	sh.seated = sh.seated[:len(sh.seated)-1]
	delete(sh.byClient, s.client)
	s.at = notSeated
	s.fence.Store(0)
}

// left has a client be in the room no more. If its connection is still there, its seat
// was given up without it: this node was taken for dead.
func (sh *shard) left(id int32) {
	delete(sh.clients, id)
	if s := sh.byClient[id]; s != nil {
		sh.lose(s)
	}
}

// lose closes the connection of a session that has lost its seat.
func (sh *shard) lose(s *session) {
	sh.unseat(s)
	s.conn.CloseHere(conn.CodeTryLater, "the place in the room is lost: reconnect", conn.ReasonSeat)
}

// seatsLost closes the connections of all.
func (sh *shard) seatsLost() {
	for len(sh.seated) > 0 {
		sh.lose(sh.seated[len(sh.seated)-1])
	}
	sh.held, sh.bytes = nil, 0
}

// gone is the end of the room.
func (sh *shard) gone() {
	for len(sh.seated) > 0 {
		s := sh.seated[len(sh.seated)-1]
		sh.unseat(s)
		s.conn.CloseHere(conn.CodeRoomClosed, "room closed", conn.ReasonRoomGone)
	}
	for name, a := range sh.expected {
		delete(sh.expected, name)
		a.seated <- false
	}
	clear(sh.clients)
	sh.host, sh.fence, sh.held, sh.bytes = relay.NoHost, 0, nil, 0
	sh.ever, sh.moving, sh.news = false, false, nil
	sh.setKnown(false)
}

// setHost notes who is host.
func (sh *shard) setHost(host int32, fence int64) {
	if s := sh.byClient[sh.host]; s != nil {
		s.fence.Store(0)
	}
	sh.host, sh.fence = host, fence
	if sh.moving = host == relay.NoHost && len(sh.clients) > 0; len(sh.clients) == 0 {
		sh.news = nil
	}
	if s := sh.byClient[host]; s != nil {
		s.fence.Store(fence)
	}
}

// move takes on who is host, if the fence tells that this has changed, and has all told:
// that the host moves, at once, and whereto, when that is known.
func (sh *shard) move(host int32, fence int64) {
	if fence == sh.fence {
		return
	}
	former := sh.byClient[sh.host]
	sh.depart(host, fence)
	switch {
	case len(sh.clients) == 0:
	case !sh.moving:
		sh.arrive()
	case former != nil: // it has granted
		seat := former.seat
		sh.server.own.Go(func() { former.assign(sh, seat) })
	}
}

// depart begins a move: all are told that the host moves, unless they have been.
func (sh *shard) depart(host int32, fence int64) {
	told := sh.moving
	sh.setHost(host, fence)
	if told || len(sh.clients) == 0 {
		return
	}
	var space [64]byte
	begin := appendFrame(space[:0], roomspb.FlagType_RESPONSE_BEGIN_HOST_MIGRATE, nil)
	for _, s := range sh.seated {
		s.queue(begin)
	}
}

// moveLater is move when an event was missed that has made a client of this loop host.
// Other nodes may have missed it, too, and have a host that was not told yet.
func (sh *shard) moveLater(host int32, fence int64) {
	sh.depart(relay.NoHost, fence)
	sh.server.own.Go(func() {
		settled := time.NewTimer(settleTime)
		defer settled.Stop()
		select {
		case <-sh.server.ctx.Done():
			return
		case <-settled.C:
		}
		sh.loop.Do(func() {
			if _, there := sh.clients[host]; there && sh.moving && sh.fence == fence {
				sh.setHost(host, fence)
				sh.arrive()
			}
		})
		sh.loop.Flush()
	})
}

// arrive ends a move: all are told who is host, and the host what was meant for it.
func (sh *shard) arrive() {
	who := &roomspb.FinishHostMigrationResponse{HostID: sh.host}
	if s := sh.byClient[sh.host]; s != nil {
		s.queue(appendMessage(nil, roomspb.FlagType_RESPONSE_ASSIGN_HOST, who))
	}
	finish := appendMessage(nil, roomspb.FlagType_RESPONSE_FINISH_HOST_MIGRATE, who)
	for _, s := range sh.seated {
		s.queue(finish)
	}
	news := sh.news
	sh.news = nil
	for _, n := range news {
		sh.tellHost(n.flag, n.client)
	}
	if sh.known {
		sh.release()
	}
}

// tellHost tells the host, if it is here, of another client or itself; while the host
// moves, the next one.
func (sh *shard) tellHost(flag roomspb.FlagType, id int32) {
	if sh.moving && len(sh.seated) > 0 && len(sh.news) < maxHeld {
		sh.news = append(sh.news, news{flag, id})
	}
	if s := sh.byClient[sh.host]; s != nil {
		s.queue(appendClient(nil, flag, id, id == sh.host))
	}
}

// restore takes the whole state from an event, after the shard was not following the
// stream or may have missed some of it. Sessions are told what has changed.
func (sh *shard) restore(e *relay.RoomEvent) {
	now := make(map[int32]string, len(e.All))
	for _, seat := range e.All {
		now[seat.Client] = seat.Name
	}
	var gone []int32
	for id, name := range sh.clients {
		if now[id] != name {
			gone = append(gone, id)
			sh.left(id)
		}
	}
	slices.Sort(gone)
	for _, seat := range e.All { // the host's successor may be one of them
		if _, ok := sh.clients[seat.Client]; !ok {
			sh.clients[seat.Client] = unseen
		}
	}
	switch {
	case !sh.ever:
		sh.setHost(e.Host, e.Fence)
	case e.Fence != sh.fence && sh.byClient[e.Host] != nil:
		sh.moveLater(e.Host, e.Fence)
	default:
		sh.move(e.Host, e.Fence)
	}
	for _, id := range gone {
		sh.tellHost(roomspb.FlagType_RESPONSE_CLIENT_DISCONNECT, id)
	}
	for _, seat := range e.All { // in ascending order
		if sh.clients[seat.Client] == unseen {
			sh.joined(seat.Client, seat.Name)
		}
	}
	sh.setKnown(true)
	// A fence tells of what was said before, too, whether it was by the host of now. Who
	// has gone said it when it was there.
	for _, id := range gone {
		if _, back := sh.clients[id]; !back {
			sh.clients[id] = unseen
		}
	}
	sh.release()
	for _, id := range gone {
		if sh.clients[id] == unseen {
			delete(sh.clients, id)
		}
	}
}

// unseen stands in for the name of a seat; no seat has it.
const unseen = ""

// forget has a session that goes, or an attempt that has failed, hear nothing more of
// the room.
func (sh *shard) forget(s *session, name string) {
	delete(sh.expected, name)
	sh.unseat(s)
}
