package chat

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/jsonscan"
	"parley/pkg/relay"
)

// session is one client. It is a conn.Handler (on the reader) and a relay.Acker (on
// the bus).
type session struct {
	// Fixed after Server.ServeHTTP.
	server   *Server
	conn     *conn.Conn
	token    string
	presence bool // the client wants to hear of presence and typing

	// Fixed after authenticate.
	account account.Session
	member  string // the user, see memberOf
	user    []byte // the user as JSON
	from    string // the user's id, as the sender of messages
	nonce   string // tells the client's typing from others'

	inFlight conn.InFlight // of its frames; each is answered within two seconds

	// Owned by the reader.
	since    map[string]string // the last message that the client has of each room; only until it has joined
	sends    conn.Bucket       // messages
	others   conn.Bucket       // everything else, mistakes included
	answered bool              // with a page at least; see takeTurn
	typed    int64             // when the last typing event went out, Conn.Now
	shard    *shard            // nil: not entered
	arrived  bool

	// Owned by the loop.
	at       int // in shard.members; -1: not there
	watching int // in live.watchers
	gone     bool
}

func (s *session) log(level slog.Level, event string, a slog.Attr) {
	s.server.log.LogAttrs(context.Background(), level, event, slog.String("protocol", Protocol),
		slog.Uint64("conn", s.conn.ID), slog.Any("client", s.conn.Remote), slog.Int64("user", s.account.User.ID), a)
}

var errUnsigned = errors.New("not signed in")

// Open finds out who the client is and greets it.
func (s *session) Open() error {
	s.at = -1
	if s.token == "" {
		return s.unsigned()
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	shard, err := s.server.enter(ctx, s.conn.Loop())
	if err != nil {
		return s.unserved(err)
	}
	s.shard = shard // before the session is looked up: its end is heard of from now on
	if err := s.authenticate(ctx); err != nil {
		return err
	}
	exists, err := s.lookUp(ctx, s.since)
	if err != nil { // then nobody knows whether the client has missed something
		s.log(slog.LevelDebug, "messages cannot be looked up", slog.Any("error", err))
	}
	joined := make(chan bool, 1)
	s.conn.Do(func() {
		shard.whenLoaded(s, func() { joined <- s.join(exists) })
	})
	s.conn.Flush()
	select {
	case ok := <-joined:
		if !ok {
			return s.unsigned()
		}
	case <-ctx.Done():
		return s.unserved(relay.ErrUnavailable)
	}
	s.since = nil
	s.server.arrive(s.member)
	s.arrived = true
	s.log(slog.LevelInfo, "session opened", slog.Attr{})
	return nil
}

// authenticate finds out who the client is.
func (s *session) authenticate(ctx context.Context) error {
	a, err := s.server.deps.Accounts.Session(ctx, s.token)
	switch {
	case errors.Is(err, account.ErrNoSession):
		return s.unsigned()
	case err != nil:
		return s.unserved(err)
	}
	s.token = ""
	s.account, s.member = a, memberOf(a.User)
	s.user = appendUser(nil, a.User.ID, quote(a.User.Username))
	s.from = strconv.FormatInt(a.User.ID, 10)
	if s.presence {
		s.nonce = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, rand.Uint64()))
	}
	return nil
}

func (s *session) unsigned() error {
	s.conn.Close(conn.CodePolicy, "sign in first", conn.ReasonAuth)
	return errUnsigned
}

// unserved ends a session that Redis or the database cannot serve. It returns err.
func (s *session) unserved(err error) error {
	s.log(slog.LevelWarn, "session refused", slog.Any("error", err))
	s.conn.Close(conn.CodeTryLater, "not available, try again", conn.ReasonBroker)
	return err
}

// lookUp tells in which rooms there is a message at the given place.
func (s *session) lookUp(ctx context.Context, since map[string]string) (exists map[*room]bool, err error) {
	if len(since) == 0 {
		return nil, nil
	}
	known := make(chan map[*room]bool, 1) // by the shard's pages
	sh := s.shard
	s.conn.Do(func() {
		sh.whenLoaded(s, func() {
			shown := map[*room]bool{}
			for _, st := range sh.rooms {
				if id, ok := placeOf(since[st.room.ID]); ok {
					_, shown[st.room] = st.after(id)
				}
			}
			known <- shown
		})
	})
	s.conn.Flush()
	select {
	case exists = <-known:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
	}
	for r, shown := range exists {
		id, _ := placeOf(since[r.ID])
		if shown || id.IsZero() { // everything comes after the beginning
			exists[r] = true
			continue
		}
		if err = s.server.read(ctx, func() (err error) {
			exists[r], err = s.server.deps.History.Has(ctx, r.topic, id)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return exists, nil
}

// Closed ends the session's part in the rooms.
func (s *session) Closed(r conn.Reason) {
	sh := s.shard
	if sh == nil {
		return
	}
	sh.do(func() { sh.part(s) })
	if s.arrived {
		s.server.depart(s.member)
		s.log(slog.LevelInfo, "session closed", slog.String("reason", r.String()))
	}
	s.server.leave(sh)
}

// Message handles one frame.
func (s *session) Message(frame []byte) {
	s.server.metrics.Received.Inc()
	r, p := decode(frame)
	var room *room
	if p == nil && r.kind != kindResume {
		if room = s.server.room(r.room); room == nil {
			p = errRoom
		}
	}
	if p == nil && r.kind == kindMessages {
		if p = s.send(room, &r); p == nil {
			return
		}
	}
	cost := 1
	if p == nil && r.kind == kindHistory {
		cost = pageCost
	} else if p == nil && r.kind == kindResume {
		cost = pageCost * max(1, min(len(r.since), len(s.server.rooms)))
	}
	if !s.others.TakeUpTo(s.conn.Now(), cost) {
		p = errTooFast
	}
	if p == nil {
		switch r.kind {
		case kindHistory:
			p = s.page(room, r.first)
		case kindResume:
			p = s.resume(r.since)
		case kindTyping:
			s.typing(room)
		}
	}
	if p != nil {
		s.refuse(p, r.quoted)
	}
}

func (s *session) refuse(p *problem, quotedRoom []byte) {
	s.server.metrics.Refused[p.code].Inc()
	s.conn.Send(appendError(nil, p, quotedRoom))
}

// send passes messages on. The sender hears them from the room, or else the outcome
// from Published.
func (s *session) send(room *room, r *request) *problem {
	switch {
	case r.tooMany:
		return errTooMany
	case len(r.contents) == 0:
		return errEmpty
	}
	size := 0
	for _, content := range r.contents {
		switch n := len(content) - len(`""`); {
		case n == 0:
			return errEmpty
		case n > s.server.longest:
			return errTooLong
		}
		size += len(content) + len(s.user) + len(`m{"content":,"user":}`)
	}
	if !s.sends.TakeUpTo(s.conn.Now(), len(r.contents)) {
		return errTooFast
	}
	now := time.Now()
	bodies := make([]byte, 0, size)
	ms := make([]relay.Message, len(r.contents))
	for i, content := range r.contents {
		jsonscan.Mend(content)
		at := len(bodies)
		bodies = appendBody(bodies, i == len(r.contents)-1, content, s.user)
		ms[i] = relay.Message{Topic: room.topic, From: s.from, Time: now, Body: bodies[at:]}
	}
	var t relay.Token
	binary.BigEndian.PutUint32(t[:], uint32(room.index))
	s.inFlight.Begin()
	s.server.deps.Journal.Append(ms, s.server.most, s, t)
	return nil
}

// Published implements relay.Acker: it tells of messages that were not accepted.
func (s *session) Published(t relay.Token, _ relay.ID, err error) {
	if err != nil {
		p := errUnavailable
		if errors.Is(err, relay.ErrFull) {
			p = errFull
		}
		s.refuse(p, s.server.rooms[binary.BigEndian.Uint32(t[:])].quoted)
	}
	s.inFlight.End()
	s.conn.Answered()
}

// Unanswered implements conn.Answerer.
func (s *session) Unanswered() int { return s.inFlight.Len() }

// page answers a requestRoomHistory.
func (s *session) page(room *room, first string) *problem {
	id, ok := placeOf(first)
	if !ok {
		return errRequest
	}
	s.takeTurn()
	var messages []relay.Message
	var more bool
	if !id.IsZero() { // else nothing is before it
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		err := s.server.read(ctx, func() (err error) {
			messages, more, err = s.server.deps.History.Before(ctx, room.topic, id, pageSize)
			return err
		})
		if err != nil {
			s.log(slog.LevelDebug, "no page of history", slog.Any("error", err))
			return errUnavailable
		}
	}
	texts, cut := appendTexts(nil, messages)
	frame := appendPage(nil, room, texts, more || cut, nil)
	s.conn.Do(func() { s.conn.QueueAnswer(frame) })
	return nil
}

// takeTurn waits until the client has taken the answer before: only one is queued at
// a time.
func (s *session) takeTurn() {
	if s.answered {
		_ = s.conn.Flushed() // an error ends the reading soon
	}
	s.answered = true
}

// resume answers a resume with a page for each room.
func (s *session) resume(since map[string]string) *problem {
	if len(since) > len(s.server.rooms) {
		return errRoom
	}
	s.takeTurn()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	exists, err := s.lookUp(ctx, since)
	if err != nil {
		return errUnavailable
	}
	for id := range since {
		if s.server.room(id) == nil {
			s.refuse(errRoom, quote(id))
		}
	}
	sh := s.shard
	answered := make(chan struct{})
	s.conn.Do(func() {
		sh.whenLoaded(s, func() {
			defer close(answered)
			for _, st := range sh.rooms {
				if _, asked := since[st.room.ID]; asked {
					c := st.sinceText(since[st.room.ID], exists[st.room])
					s.conn.QueueAnswer(appendPage(nil, st.room, c.texts, c.more, &c))
				}
			}
		})
	})
	s.conn.Flush()
	select {
	case <-answered:
	case <-ctx.Done(): // they come when the rooms are loaded
	}
	return nil
}

// typing tells others that the client types.
func (s *session) typing(room *room) {
	now := s.conn.Now()
	if s.typed != 0 && time.Duration(now-s.typed) < typingEvery {
		return
	}
	s.typed = now
	nonce := s.nonce
	if nonce == "" {
		nonce = "0000000000000000" // does not hear of it anyway
	}
	s.server.deps.Publisher.Enqueue(relay.Message{Topic: liveTopic, From: s.member, Time: time.Now(), Body: typingBody(nonce, room)}, relay.Retention{}, nil, relay.Token{})
}

// join greets the client and has it hear what is shown from now on; false when it is
// not signed in any more. On the loop.
func (s *session) join(exists map[*room]bool) bool {
	sh := s.shard
	var online []byte
	if s.presence {
		online = sh.live.onlineWith(s.member)
	}
	size := len(s.user) + len(`{"type":"hello","payload":{"me":,"rooms":[]}}`)
	for _, st := range sh.rooms {
		size += len(st.room.head) + len(st.newest()) + len(online) + len(`],"hasMoreMessages":false,"recovered":false,"complete":false,"online":},`)
	}
	b := append(make([]byte, 0, size), `{"type":"hello","payload":{"me":`...)
	b = append(b, s.user...)
	b = append(b, `,"rooms":[`...)
	for i, st := range sh.rooms {
		if i > 0 {
			b = append(b, ',')
		}
		if last, asked := s.since[st.room.ID]; asked {
			c := st.sinceText(last, exists[st.room])
			b = appendRoom(b, st.room, c.texts, c.more, &c, online)
		} else {
			b = appendRoom(b, st.room, st.newest(), st.more, nil, online)
		}
	}
	b = append(b, `]}}`...)
	if !sh.join(s) {
		return false
	}
	s.conn.QueueAnswer(conn.AppendFrame(nil, conn.OpText, b))
	return true
}
