package texto

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

const (
	// maxInFlight bounds the messages of one client that wait for Redis. A
	// client with more is not read until some have been answered.
	maxInFlight = 256
	// idLength is the length of the id that goes before the text in the body
	// of a relayed message.
	idLength = 16
)

// session is one client. It is a conn.Handler (on the reader), a hub.Subscriber
// (on the loop) and a relay.Acker (on the bus).
type session struct {
	// Fixed after Server.ServeHTTP, but for topic, which Open may clear.
	server *Server
	conn   *conn.Conn
	id     uuid.UUID
	topic  relay.Topic // ends in the id's text
	greet  bool

	inFlight atomic.Int32
	waiting  atomic.Pointer[chan struct{}] // the reader, when too much is in flight

	// Owned by the reader.
	sends  conn.Bucket // messages to be relayed
	others conn.Bucket // everything else, mistakes included: ten times as much
}

const topicPrefix = "client/"

func (s *session) idText() string { return string(s.topic[len(topicPrefix):]) }

func (s *session) log(level slog.Level, event string, a slog.Attr) {
	s.server.log.LogAttrs(context.Background(), level, event, slog.String("protocol", Protocol),
		slog.Uint64("conn", s.conn.ID), slog.Any("client", s.conn.Remote), slog.String("session", s.idText()), a)
}

// Open subscribes to the session's topic and greets.
func (s *session) Open() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if _, err := s.server.hub.SubscribeNew(ctx, s.topic, s); err != nil {
		s.log(slog.LevelWarn, "session refused", slog.Any("error", err))
		s.conn.Send(appendError(nil, s.id, newID(), notConnected))
		s.conn.Close(conn.CodeTryLater, "redis is not available", conn.ReasonBroker)
		s.topic = ""
		return err
	}
	s.log(slog.LevelInfo, "session opened", slog.Attr{})
	if s.greet {
		s.conn.Send(appendConnection(nil, s.id, newID(), s.server.node))
		s.conn.Flush()
	}
	return nil
}

// Closed ends the subscription.
func (s *session) Closed(r conn.Reason) {
	if s.topic == "" {
		return
	}
	s.server.hub.Unsubscribe(s.topic, s)
	s.log(slog.LevelInfo, "session closed", slog.String("reason", r.String()))
}

// Message handles one frame.
func (s *session) Message(frame []byte) {
	s.server.metrics.Received.Inc()
	r, p := decode(frame)
	if r.kind == kindSend && r.clientID != s.id {
		p = wrongClient
	}
	if p == nil && r.kind == kindSend {
		if p = s.send(&r); p == nil {
			return
		}
	}
	if !s.others.Take(s.conn.Now()) {
		p = tooFast
		if r.kind == kindAck || r.kind == kindError {
			return // which are never answered
		}
	}
	switch {
	case p != nil:
		s.server.metrics.Refused[p.code].Inc()
		s.refuse(&r, p)
	case r.kind == kindRegistration:
		s.conn.Send(appendConnection(nil, s.id, r.id, s.server.node))
	}
}

func (s *session) refuse(r *request, p *problem) {
	id := r.id
	if !r.hasID {
		id = newID()
	}
	s.conn.Send(appendError(nil, s.id, id, p))
}

// send passes a message on. The sender hears the outcome from Published.
func (s *session) send(r *request) *problem {
	if limit := s.server.cfg.MaxMessageBytes; limit > 0 && len(r.text)-2 > limit {
		return tooBig
	}
	if !s.sends.Take(s.conn.Now()) {
		return tooFast
	}
	id := newID()
	scratch := bodies.Get().(*[]byte)
	body := append(append((*scratch)[:0], id[:]...), r.text...)
	s.begin()
	s.server.publisher.Enqueue(relay.Message{
		Topic: topicOf(r.receiver),
		From:  s.idText(),
		Time:  time.Now(),
		Body:  body,
	}, relay.Retention{}, s, relay.Token(r.id))
	*scratch = body
	bodies.Put(scratch)
	return nil
}

// bodies hold the body of a message until it has been enqueued.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// begin counts a message in flight and waits while there are too many. Each is
// answered within two seconds, so that the wait is no longer.
func (s *session) begin() {
	if s.inFlight.Add(1) <= maxInFlight {
		return
	}
	room := make(chan struct{}, 1)
	s.waiting.Store(&room)
	if s.inFlight.Load() <= maxInFlight && s.waiting.CompareAndSwap(&room, nil) {
		return
	}
	<-room
}

// Published implements relay.Acker: it answers a send.
func (s *session) Published(t relay.Token, _ relay.ID, err error) {
	var b [256]byte
	if err == nil {
		s.conn.Send(appendAck(b[:0], s.id, uuid.UUID(t)))
	} else {
		s.server.metrics.Refused[codeBroker].Inc()
		s.conn.Send(appendError(b[:0], s.id, uuid.UUID(t), notAccepted))
	}
	left := s.inFlight.Add(-1)
	s.conn.Answered()
	if left <= maxInFlight {
		if room := s.waiting.Swap(nil); room != nil {
			*room <- struct{}{}
		}
	}
}

// Unanswered implements conn.Answerer.
func (s *session) Unanswered() int { return int(s.inFlight.Load()) }

// Loop implements hub.Subscriber.
func (s *session) Loop() *conn.Loop { return s.conn.Loop() }

// Deliver writes a receive into the connection's queue.
func (s *session) Deliver(m *relay.Message) {
	if len(m.Body) < idLength || len(m.From) != uuidLength {
		return // not from a node of this fleet
	}
	text := m.Body[idLength:]
	b, ok := s.conn.Begin(conn.OpText, receiveSize+len(text))
	if !ok {
		return
	}
	s.conn.Commit(appendReceive(b, s.id, uuid.UUID(m.Body[:idLength]), m.From, text))
	s.server.metrics.Delivered.Inc()
}

func topicOf(id uuid.UUID) relay.Topic {
	var b [len(topicPrefix) + uuidLength]byte
	return relay.Topic(appendID(append(b[:0], topicPrefix...), id))
}

// newID returns a random UUID (version 4) to tell messages apart. It need not be
// hard to guess; the runtime's generator, ChaCha8 with a seed from the system,
// makes it so anyway, without a system call.
func newID() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
