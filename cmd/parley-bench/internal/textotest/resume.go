package textotest

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// session is what is kept of a client whether it is connected or not.
type session struct {
	kept []kept
	lost int // messages that were kept and are not any more
}

type kept struct {
	id    string
	frame []byte
}

// Keep has the server keep what it is given for each client, so that clients can
// resume. It is called before the first client comes.
func (s *Server) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = map[string]*session{}
}

// Forget loses all messages that are kept. Clients that resume afterwards are
// told of a gap, unless the server lies.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sessions {
		k.lost += len(k.kept)
		k.kept = nil
	}
}

// Disown forgets the clients themselves: their tokens are refused.
func (s *Server) Disown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = map[string]*session{}
}

// Lie has the server tell all clients that resume that they have missed nothing.
func (s *Server) Lie() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lying = true
}

// TellGap tells all connected clients of a gap.
func (s *Server) TellGap() {
	s.mu.Lock()
	clients := make([]*client, 0, len(s.clients))
	for _, c := range s.clients {
		clients = append(clients, c)
	}
	s.mu.Unlock()
	for _, c := range clients {
		c.write(context.Background(), encode(c.id, uuid.NewString(), "connection", s.details(c.id, false)))
	}
}

func (s *Server) keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions != nil
}

// keep keeps a message for a client, if the server does so.
func (s *Server) keep(receiver, id, from, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.sessions[receiver]; k != nil {
		k.kept = append(k.kept, kept{id, encode(receiver, id, "receive", map[string]string{"sender_id": from, "text": text})})
	}
}

// details are the data of a connection message. A token is the client's id and
// how many messages there were for it.
func (s *Server) details(id string, recovered ...bool) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := map[string]any{"client_id": id, "node": "test"}
	if k := s.sessions[id]; k != nil {
		data["resume"] = id + "." + strconv.Itoa(k.lost+len(k.kept))
	}
	for _, r := range recovered {
		data["recovered"] = r
	}
	return data
}

// serveKept serves a client that may resume.
func (s *Server) serveKept(ctx context.Context, c *client, query url.Values) {
	id, place, _ := strings.Cut(query.Get("resume"), ".")
	at, _ := strconv.Atoi(place)
	c.mu.Lock() // nothing newer goes out before what was missed
	s.mu.Lock()
	k := s.sessions[id]
	resumed := k != nil
	if resumed {
		c.id = id
	} else {
		k = &session{}
		s.sessions[c.id] = k
	}
	recovered := s.lying || at >= k.lost
	missed := k.kept[min(max(at-k.lost, 0), len(k.kept)):]
	for i, m := range k.kept {
		if m.id == query.Get("last") {
			missed = k.kept[i+1:]
		}
	}
	s.clients[c.id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.clients[c.id] == c {
			delete(s.clients, c.id)
		}
	}()
	var out [][]byte
	switch {
	case resumed:
		out = append(out, encode(c.id, uuid.NewString(), "connection", s.details(c.id, recovered)))
		for _, m := range missed {
			out = append(out, m.frame)
		}
	case query.Get("resume") != "":
		out = append(out, encode(c.id, uuid.NewString(), "error", map[string]string{"code": "ERESUME", "description": "not known"}))
		fallthrough
	default:
		out = append(out, encode(c.id, uuid.NewString(), "connection", s.details(c.id)))
	}
	c.writeLocked(ctx, out...)
	c.mu.Unlock()
	s.read(ctx, c)
}

// handleOther answers what is no message to anybody.
func (s *Server) handleOther(ctx context.Context, c *client, kind, id string) {
	if kind == "registration" {
		c.write(ctx, encode(c.id, id, "connection", s.details(c.id)))
	}
}
