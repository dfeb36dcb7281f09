// Package chattest is a tiny chat server with one room that does with each delivery
// what a test tells it to, right or wrong, and keeps count: a load generator proves
// itself by finding exactly that.
package chattest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/coder/websocket"
)

// Room is the id of the server's only room, but for one that nobody writes to.
const Room = "beast"

// Fate is what happens to a message, or to its delivery to the last member.
type Fate int

// The fates. All but Deliver are wrong or a refusal.
const (
	Deliver   Fate = iota
	Drop           // not delivered to the last member
	DropAll        // delivered to nobody
	Duplicate      // delivered twice to the last member
	Swap           // delivered to the last member after the next one
	Misplace       // delivered to the last member with the id of another place
	Alter          // delivered to the last member with another content
	Forge          // delivered to the last member as if from somebody else
	Malformed      // delivered, and something that is no JSON to the last member
	Refuse         // answered with RATE_LIMITED, delivered to nobody
	Hangup         // delivered, and the last member's connection is closed with 1012
	Forget         // delivered, and not in the history
	fates
)

// Server is a running server. Its URL is in the embedded httptest.Server.
type Server struct {
	*httptest.Server
	fate    func(n int) Fate
	closing sync.WaitGroup // connections that are being closed

	mu       sync.Mutex
	users    map[string]int64 // by cookie
	members  []*member        // in the order in which they came
	messages int
	counts   [fates]int
	history  []kept // oldest first
	refusal  int    // what to answer who wants an account; 0: an account
}

// kept is a message of the history: its place and its JSON.
type kept struct {
	place int
	json  []byte
}

// pageLength is the most that a page of history has.
const pageLength = 100

type member struct {
	ws   *websocket.Conn
	user int64
	held []byte // a message that waits for the next one
}

// Start runs a server. fate decides about the n-th message, from 0; nil: all is well.
// The caller closes the server.
func Start(fate func(n int) Fate) *Server {
	s := &Server{fate: fate, users: map[string]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/create-account", s.signUp)
	mux.HandleFunc("/api/ws", s.serve)
	s.Server = httptest.NewServer(mux)
	return s
}

// Close ends the server, and what it has begun.
func (s *Server) Close() {
	s.Server.Close()
	s.closing.Wait()
}

// Count returns how many messages had this fate.
func (s *Server) Count(f Fate) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.counts[f])
}

// HangUp ends all connections at once, without a close frame.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		_ = m.ws.CloseNow()
	}
	s.members = nil
}

// Accounts returns how many there are.
func (s *Server) Accounts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.users)
}

// RefuseAccounts has the server answer so who wants an account.
func (s *Server) RefuseAccounts(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = status
}

func (s *Server) signUp(w http.ResponseWriter, r *http.Request) {
	var wish struct{ Username, Email, Password string }
	err := json.NewDecoder(r.Body).Decode(&wish)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refusal != 0:
		w.WriteHeader(s.refusal)
		fmt.Fprint(w, `{"id":"UNAVAILABLE","message":"not now"}`)
	case err != nil || len(wish.Username) < 4 || len(wish.Password) < 10 || wish.Email == "":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"id":"BAD_REQUEST","message":"no"}`)
	default:
		cookie := "session-" + wish.Username
		s.users[cookie] = int64(len(s.users) + 1)
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: cookie})
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ctx := r.Context()
	m := &member{ws: ws}
	if c, err := r.Cookie("sid"); err == nil {
		s.mu.Lock()
		m.user = s.users[c.Value]
		s.mu.Unlock()
	}
	if m.user == 0 {
		_ = ws.Close(websocket.StatusPolicyViolation, "no session")
		return
	}
	s.mu.Lock()
	recovered, after := "", 0
	if since := r.URL.Query().Get("since"); since != "" {
		_, _ = fmt.Sscanf(since, Room+":1700000000000-%d", &after)
		recovered = `,"recovered":true`
	}
	page, more := s.page(after, s.messages+1)
	m.write(ctx, fmt.Appendf(nil, `{"type":"hello","payload":{"me":{"id":%d,"username":"u%d"},"rooms":[`+
		`{"id":%q,"name":"Beast","messages":[%s],"hasMoreMessages":%v%s},{"id":"empty","name":"Empty","messages":[],"hasMoreMessages":false}]}}`,
		m.user, m.user, Room, page, more || after > 0, recovered))
	s.members = append(s.members, m)
	s.mu.Unlock()
	for {
		_, frame, err := ws.Read(ctx)
		if err != nil {
			return
		}
		s.handle(ctx, m, frame)
	}
}

// page returns the newest messages between two places, newest first, and whether there
// are older ones between them. It is called with mu held.
func (s *Server) page(after, before int) (page []byte, more bool) {
	n := 0
	for i := len(s.history) - 1; i >= 0; i-- {
		k := s.history[i]
		if k.place >= before || k.place <= after {
			continue
		}
		if n == pageLength {
			return page, true
		}
		if n++; n > 1 {
			page = append(page, ',')
		}
		page = append(page, k.json...)
	}
	return page, false
}

// write sends a frame. A failure shows to the connection's own reader.
func (m *member) write(ctx context.Context, frame []byte) {
	_ = m.ws.Write(ctx, websocket.MessageText, frame)
}

// message is the frame that brings a message.
func message(place int, content string, user int64) []byte {
	return fmt.Appendf(nil, `{"type":"serverMessages","payload":{"roomId":%q,"messages":[%s]}}`, Room, plain(place, content, user))
}

// plain is a message.
func plain(place int, content string, user int64) []byte {
	quoted, err := json.Marshal(content)
	if err != nil {
		panic(err) // a string always encodes
	}
	return fmt.Appendf(nil, `{"id":"1700000000000-%d","content":%s,"user":{"id":%d,"username":"u%d"},"timestamp":1700000000000}`,
		place, quoted, user, user)
}

func (s *Server) handle(ctx context.Context, sender *member, frame []byte) {
	var wish struct {
		Type    string
		Payload struct {
			RoomID         string
			Messages       []struct{ Content string }
			FirstMessageID string
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := json.Unmarshal(frame, &wish)
	if err == nil && wish.Type == "requestRoomHistory" {
		before := 0
		_, _ = fmt.Sscanf(wish.Payload.FirstMessageID, "1700000000000-%d", &before)
		page, more := s.page(0, before)
		sender.write(ctx, fmt.Appendf(nil, `{"type":"roomHistory","payload":{"roomId":%q,"messages":[%s],"hasMoreMessages":%v}}`, Room, page, more))
		return
	}
	if err != nil || wish.Type != "clientMessages" || wish.Payload.RoomID != Room {
		sender.write(ctx, []byte(`{"type":"error","payload":{"code":"BAD_REQUEST","message":"no","roomId":null}}`))
		return
	}
	for _, w := range wish.Payload.Messages {
		fate := Deliver
		if s.fate != nil {
			fate = s.fate(s.messages)
		}
		s.messages++
		s.counts[fate]++
		s.pass(ctx, sender, fate, s.messages, w.Content)
	}
}

// pass is called with mu held, so that all members get all in one order.
func (s *Server) pass(ctx context.Context, sender *member, fate Fate, place int, content string) {
	switch fate {
	case DropAll:
		return
	case Refuse:
		sender.write(ctx, fmt.Appendf(nil, `{"type":"error","payload":{"code":"RATE_LIMITED","message":"slow down","roomId":%q}}`, Room))
		return
	}
	if fate != Forget {
		s.history = append(s.history, kept{place, plain(place, content, sender.user)})
	}
	good := message(place, content, sender.user)
	if len(s.members) == 0 {
		return
	}
	last := s.members[len(s.members)-1]
	for _, m := range s.members[:len(s.members)-1] {
		m.write(ctx, good)
	}
	out := [][]byte{good}
	switch fate {
	case Drop:
		out = nil
	case Duplicate:
		out = [][]byte{good, good}
	case Swap:
		if last.held == nil {
			last.held = good
			return
		}
	case Misplace:
		out = [][]byte{message(place-2, content, sender.user)}
	case Alter:
		out = [][]byte{message(place, content[:len(content)-1]+"?", sender.user)}
	case Forge:
		out = [][]byte{message(place, content, sender.user+1000)}
	case Malformed:
		out = append(out, []byte(`{"type":`))
	}
	if last.held != nil {
		out = append(out, last.held)
		last.held = nil
	}
	for _, frame := range out {
		last.write(ctx, frame)
	}
	if fate == Hangup {
		// It waits for the peer's answer, whose read of it does not need mu.
		s.closing.Go(func() { _ = last.ws.Close(1012, "restart") })
	}
}
