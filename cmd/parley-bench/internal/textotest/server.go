// Package textotest is a tiny Texto server that does with each message what a
// test tells it to, right or wrong, and keeps count: a load generator proves
// itself by finding exactly that.
package textotest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

// Fate is what happens to a message.
type Fate int

// The fates. All but Deliver are wrong or a refusal.
const (
	Deliver      Fate = iota // acknowledged, delivered
	Drop                     // acknowledged, not delivered
	Duplicate                // acknowledged, delivered twice
	Swap                     // acknowledged, delivered after the next one to this receiver
	Refuse                   // answered with ERATE
	RefuseBroker             // answered with EBROKER
	RefuseAll                // answered with EBROKER, delivered all the same
	Silence                  // not answered, delivered
	Vanish                   // neither answered nor delivered
	AnswerTwice              // acknowledged twice, delivered
	Alter                    // acknowledged, delivered with another text
	Misdirect                // acknowledged, delivered to its own sender
	Forge                    // acknowledged, delivered as if from somebody else
	AckUnknown               // acknowledged and delivered, and an unknown message acknowledged too
	Malformed                // acknowledged and delivered, and something that is no JSON
	Hangup                   // the receiver's connection is closed with 1012
	fates
)

// Server is a running server. Its URL is in the embedded httptest.Server.
type Server struct {
	*httptest.Server

	fate  func(n int) Fate
	admit func(n int) int

	mu       sync.Mutex
	sessions map[string]*session // what is kept of clients; nil: nothing, see Keep
	lying    bool
	clients  map[string]*client
	messages int
	visits   int
	counts   [fates]int
	pending  int // swapped messages that no next one has released
}

// client is one connection; writes are in the order in which mu is taken.
type client struct {
	id   string
	ws   *websocket.Conn
	mu   sync.Mutex
	held [][]byte
}

// Start runs a server. fate decides about the n-th message of all, from 0, and
// admit about the n-th connection: 0 takes it, a code from 100 on is the HTTP
// status of a refusal, and 1 greets it with the error EBROKER and closes it
// with 1013. Both may be nil: everything is well. The caller closes the server.
func Start(fate func(n int) Fate, admit func(n int) int) *Server {
	s := &Server{fate: fate, admit: admit, clients: map[string]*client{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Count returns how many messages had this fate.
func (s *Server) Count(f Fate) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.counts[f])
}

// Pending returns how many swapped messages still wait for the next one.
func (s *Server) Pending() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.pending)
}

// HangUp ends all connections at once, without a close frame.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		_ = c.ws.CloseNow()
	}
}

// envelope is every message of the protocol.
type envelope struct {
	ClientID string `json:"client_id"`
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	Data     any    `json:"data"`
}

func encode(clientID, id, kind string, data any) []byte {
	b, err := json.Marshal(envelope{clientID, id, kind, data})
	if err != nil {
		panic(err) // maps of strings always encode
	}
	return b
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	verdict := 0
	if s.admit != nil {
		verdict = s.admit(s.visits)
	}
	s.visits++
	s.mu.Unlock()
	if verdict >= 100 {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "not now", verdict)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := r.Context()
	c := &client{id: uuid.NewString(), ws: ws}
	if s.keeps() {
		s.serveKept(ctx, c, r.URL.Query())
		return
	}
	if verdict == 1 {
		c.write(ctx, encode(c.id, uuid.NewString(), "error", map[string]string{"code": "EBROKER", "description": "no Redis"}))
		_ = ws.Close(1013, "try again later")
		return
	}
	s.mu.Lock()
	s.clients[c.id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.clients, c.id)
		s.mu.Unlock()
	}()
	c.write(ctx, encode(c.id, uuid.NewString(), "connection", map[string]string{"client_id": c.id, "node": "test"}))
	s.read(ctx, c)
}

func (s *Server) read(ctx context.Context, c *client) {
	for {
		_, frame, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		s.handle(ctx, c, frame)
	}
}

// write sends frames one right after the other. A failure shows to the
// connection's own reader.
func (c *client) write(ctx context.Context, frames ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked(ctx, frames...)
}

func (c *client) writeLocked(ctx context.Context, frames ...[]byte) {
	for _, f := range frames {
		_ = c.ws.Write(ctx, websocket.MessageText, f)
	}
}

func (s *Server) handle(ctx context.Context, sender *client, frame []byte) {
	var m struct {
		ID, Kind string
		Data     struct {
			ReceiverID string `json:"receiver_id"`
			Text       string
		}
	}
	err := json.Unmarshal(frame, &m)
	if err == nil && (m.Kind == "ack" || m.Kind == "registration") {
		s.handleOther(ctx, sender, m.Kind, m.ID)
		return
	}
	if err != nil || m.Kind != "send" {
		sender.write(ctx, encode(sender.id, m.ID, "error", map[string]string{"code": "ESYNTAX", "description": "not a send"}))
		return
	}
	s.mu.Lock()
	fate := Deliver
	if s.fate != nil {
		fate = s.fate(s.messages)
	}
	s.messages++
	s.counts[fate]++
	receiver := s.clients[m.Data.ReceiverID]
	s.mu.Unlock()

	ack := encode(sender.id, m.ID, "ack", nil)
	refusal := func(code string) []byte {
		return encode(sender.id, m.ID, "error", map[string]string{"code": code, "description": "refused"})
	}
	switch fate {
	case Refuse:
		sender.write(ctx, refusal("ERATE"))
		return
	case RefuseBroker:
		sender.write(ctx, refusal("EBROKER"))
		return
	case RefuseAll:
		sender.write(ctx, refusal("EBROKER"))
	case Silence:
	case Vanish:
		return
	case AnswerTwice:
		sender.write(ctx, ack, ack)
	case AckUnknown:
		sender.write(ctx, ack, encode(sender.id, uuid.NewString(), "ack", nil))
	default:
		sender.write(ctx, ack)
	}
	if fate == Drop {
		return
	}
	if receiver == nil {
		s.keep(m.Data.ReceiverID, uuid.NewString(), sender.id, m.Data.Text)
		return
	}
	if fate == Hangup {
		_ = receiver.ws.Close(1012, "restart")
		return
	}
	from, text := sender.id, m.Data.Text
	switch fate {
	case Alter:
		text = text[:len(text)-1] + "?"
	case Misdirect:
		receiver = sender
	case Forge:
		from = uuid.NewString()
	}
	id := uuid.NewString()
	s.keep(receiver.id, id, from, text)
	s.deliver(ctx, receiver, fate, encode(receiver.id, id, "receive", map[string]string{"sender_id": from, "text": text}))
}

func (s *Server) deliver(ctx context.Context, receiver *client, fate Fate, message []byte) {
	receiver.mu.Lock()
	if fate == Swap {
		receiver.held = append(receiver.held, message)
		receiver.mu.Unlock()
		s.release(-1)
		return
	}
	out := append([][]byte{message}, receiver.held...)
	released := len(receiver.held)
	receiver.held = nil
	receiver.mu.Unlock()
	switch fate {
	case Duplicate:
		out = append(out, message)
	case Malformed:
		out = append(out, []byte(`{"kind":`))
	}
	receiver.write(ctx, out...)
	s.release(released)
}

func (s *Server) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending -= n
}
