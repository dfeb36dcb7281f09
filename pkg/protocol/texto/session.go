package texto

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// standing is how a session came to be, as its client is told.
type standing uint8

const (
	fresh        standing = iota
	wasRecovered          // resumed, and nothing was missed
	notRecovered          // resumed, and something may be missing
)

// session is one client. It is a conn.Handler (on the reader), a hub.Subscriber
// (on the loop) and a relay.Acker (on the bus).
type session struct {
	// Fixed after Server.ServeHTTP.
	server *Server
	conn   *conn.Conn
	id     uuid.UUID
	topic  relay.Topic    // ends in the id's text
	nonce  [idLength]byte // of a resumed session: tells its takeover from others
	greet  bool
	forged bool // the client came with a token that does not count

	inFlight conn.InFlight // of its messages; each is answered within two seconds

	// Owned by the reader.
	sends      conn.Bucket     // messages to be relayed
	others     conn.Bucket     // everything else, mistakes included: ten times as much
	from       *relay.Position // where a resumed session goes on; nil: a fresh one
	subscribed bool

	// Owned by the loop.
	place    relay.ID // of the last kept message that was shown
	epoch    uint64   // of its history
	catching *catchUp // nil: messages are shown as they come
	open     bool     // the fields above are right
	own      bool     // the topic is this session's: a takeover that comes now is another's
	standing standing
}

const topicPrefix = "client/"

func (s *session) idText() string { return string(s.topic[len(topicPrefix):]) }

func (s *session) log(level slog.Level, event string, a slog.Attr) {
	s.server.log.LogAttrs(context.Background(), level, event, slog.String("protocol", Protocol),
		slog.Uint64("conn", s.conn.ID), slog.Any("client", s.conn.Remote), slog.String("session", s.idText()), a)
}

// Open subscribes to the session's topic and greets.
func (s *session) Open() error {
	if from := s.from; from != nil {
		s.from = nil
		return s.resume(*from)
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	p, err := s.server.hub.SubscribeNew(ctx, s.topic, s)
	if err != nil {
		return s.unserved(err)
	}
	s.subscribed = true
	s.log(slog.LevelInfo, "session opened", slog.Attr{})
	if s.forged {
		s.server.metrics.Refused[codeResume].Inc()
		s.conn.Send(appendError(nil, s.id, newID(), badToken))
	}
	s.conn.Do(func() { s.begin(p) })
	s.conn.Flush()
	return nil
}

// unserved ends a session that Redis cannot serve. It returns err.
func (s *session) unserved(err error) error {
	s.log(slog.LevelWarn, "session refused", slog.Any("error", err))
	s.conn.Send(appendError(nil, s.id, newID(), notConnected))
	s.conn.Close(conn.CodeTryLater, "redis is not available", conn.ReasonBroker)
	return err
}

// Closed ends the subscription.
func (s *session) Closed(r conn.Reason) {
	if !s.subscribed {
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
		s.register(r.id)
	}
}

// register answers a registration, at its place among the messages that the token
// tells of.
func (s *session) register(id uuid.UUID) {
	s.conn.Do(func() { s.tell(id, s.position(), s.standing) })
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
	scratch := bodies.Get().(*[]byte)
	body := appendText((*scratch)[:0], s.server.cfg.Retention.Kept(), r.text)
	s.inFlight.Begin()
	s.server.publisher.Enqueue(relay.Message{
		Topic: topicOf(r.receiver),
		From:  s.idText(),
		Time:  time.Now(),
		Body:  body,
	}, s.server.cfg.Retention, s, relay.Token(r.id))
	*scratch = body
	bodies.Put(scratch)
	return nil
}

// bodies hold the body of a message until it has been enqueued.
var bodies = sync.Pool{New: func() any {
	b := make([]byte, 0, 256)
	return &b
}}

// Published implements relay.Acker: it answers a send.
func (s *session) Published(t relay.Token, _ relay.ID, err error) {
	var b [256]byte
	if err == nil {
		s.conn.Send(appendAck(b[:0], s.id, uuid.UUID(t)))
	} else {
		s.server.metrics.Refused[codeBroker].Inc()
		s.conn.Send(appendError(b[:0], s.id, uuid.UUID(t), notAccepted))
	}
	s.inFlight.End()
	s.conn.Answered()
}

// Unanswered implements conn.Answerer.
func (s *session) Unanswered() int { return s.inFlight.Len() }

// Loop implements hub.Subscriber.
func (s *session) Loop() *conn.Loop { return s.conn.Loop() }

// The methods below run on the loop.

// begin greets the client of a fresh session, whose topic has the position p.
func (s *session) begin(p relay.Position) {
	if s.epoch == 0 { // else a gap has come that is newer
		s.epoch, s.place = p.Epoch, p.ID
	}
	s.open = true
	if s.greet {
		s.tell(newID(), s.position(), fresh)
	}
}

// Deliver implements hub.Subscriber.
func (s *session) Deliver(m *relay.Message) {
	if s.catching == nil || !s.detain(m) {
		s.show(m)
	}
}

// show passes a message of the topic on: a text goes into the connection's queue
// as a receive.
func (s *session) show(m *relay.Message) {
	if id, text, ok := textOf(m); ok {
		b, ok := s.conn.Begin(conn.OpText, receiveSize+len(text))
		if !ok {
			return
		}
		s.conn.Commit(appendReceive(b, s.id, id, m.From, text))
		s.server.metrics.Delivered.Inc()
	} else if nonce, ok := nonceOf(m); ok {
		s.takenOver(nonce)
	}
	if !m.ID.IsZero() {
		s.place = m.ID
	}
}

// position is where the client is now.
func (s *session) position() relay.Position {
	return relay.Position{Epoch: s.epoch, ID: s.place, At: time.Now().Add(-tokenMargin)}
}

// tell sends a connection message with a token of the position.
func (s *session) tell(id uuid.UUID, p relay.Position, as standing) {
	var space [512]byte
	payload := s.server.appendConnection(space[:0], s.id, id, p, as)
	if b, ok := s.conn.Begin(conn.OpText, len(payload)); ok {
		s.conn.Commit(append(b, payload...))
	}
}

func topicOf(id uuid.UUID) relay.Topic {
	var b [len(topicPrefix) + uuidLength]byte
	return relay.Topic(appendID(append(b[:0], topicPrefix...), id))
}
