// Package pulltest is a tiny REST server that does with each message what a test tells it
// to, right or wrong, and keeps count: a load generator proves itself by finding exactly
// that.
package pulltest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fate is what happens to a message.
type Fate int

// The fates. Deliver, Break and Refuse are what may happen in a good fleet.
const (
	Deliver      Fate = iota
	Drop              // acknowledged and notified, and in no conversation
	DropNotice        // no notification
	Duplicate         // pulled twice
	RepeatNotice      // its notification comes twice with one id
	AgainNotice       // its notification comes twice with two ids
	Swap              // pulled after the next message
	Alter             // pulled with another text
	Gap               // a gap is told instead of the notification
	Refuse            // answered with 429
	Break             // the connection ends in the answer of the pull that has it
	fates
)

// Server is a running server. Its URL is in the embedded httptest.Server.
type Server struct {
	*httptest.Server
	fate func(n int) Fate

	mu       sync.Mutex
	users    map[string]*user // by token
	messages int
	parked   int
	counts   [fates]int
	away     bool // polls are answered with 503
}

type user struct {
	id      int64
	name    string
	place   int           // of who names none: notices up to here have come
	notices []notice      // in the order of their numbers
	more    chan struct{} // closed when there is another one
	from    map[int64]*conversation
}

type notice struct {
	number int
	kind   string
	from   string
}

// conversation is what one user has written to another one.
type conversation struct {
	all    []message
	queue  []message // to be pulled
	breaks bool      // the next pull ends before its answer
	held   *message
	key    string    // of the last pull that had messages
	last   []message // what it had
}

type message struct {
	ID        string `json:"id"`
	Sender    int64  `json:"senderId"`
	Text      string `json:"message"`
	Timestamp int64  `json:"timestamp"`
}

// Start runs a server. fate decides about the n-th message, from 0; nil: all is well. The
// caller closes the server.
func Start(fate func(n int) Fate) *Server {
	s := &Server{fate: fate, users: map[string]*user{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Users", s.signUp)
	mux.HandleFunc("POST /auth/token", s.signIn)
	mux.HandleFunc("POST /Users/{id}", s.write)
	mux.HandleFunc("GET /Users/{id}/conversation", s.pull)
	mux.HandleFunc("GET /me", s.poll)
	mux.HandleFunc("GET /metrics", s.metrics)
	s.Server = httptest.NewServer(mux)
	return s
}

// Count returns how many messages had this fate.
func (s *Server) Count(f Fate) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.counts[f])
}

// SetAway has polls answered with 503, or no longer.
func (s *Server) SetAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

func refuse(w http.ResponseWriter, status int, code string) {
	answer(w, status, map[string]any{"error": map[string]string{"code": code, "message": "no"}})
}

func (s *Server) signUp(w http.ResponseWriter, r *http.Request) {
	var wish struct{ Username, Email, Password string }
	if json.NewDecoder(r.Body).Decode(&wish) != nil || wish.Username == "" || wish.Email == "" || wish.Password == "" {
		refuse(w, http.StatusBadRequest, "bad_request")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := int64(len(s.users) + 1)
	s.users["token of "+wish.Email] = &user{id: id, name: wish.Username, more: make(chan struct{}), from: map[int64]*conversation{}}
	answer(w, http.StatusCreated, map[string]any{"id": id, "username": wish.Username, "email": wish.Email})
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	var wish struct{ Email, Password string }
	_ = json.NewDecoder(r.Body).Decode(&wish) // nobody is found by nothing
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users["token of "+wish.Email]
	if u == nil {
		refuse(w, http.StatusUnauthorized, "login_failed")
		return
	}
	answer(w, http.StatusOK, map[string]any{"token": "token of " + wish.Email, "expires_in": 60, "user": map[string]any{"id": u.id, "username": u.name, "email": wish.Email}})
}

// caller is called with mu held. Without one the request has been answered.
func (s *Server) caller(w http.ResponseWriter, r *http.Request) *user {
	u := s.users[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if u == nil {
		refuse(w, http.StatusUnauthorized, "unauthorized")
	}
	return u
}

func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	var wish struct{ Name, Message string }
	err := json.NewDecoder(r.Body).Decode(&wish)
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.caller(w, r)
	if from == nil {
		return
	}
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	var to *user
	for _, u := range s.users {
		if u.id == id {
			to = u
		}
	}
	if err != nil || wish.Name != from.name || to == nil {
		refuse(w, http.StatusBadRequest, "bad_request")
		return
	}
	fate := Deliver
	if s.fate != nil {
		fate = s.fate(s.messages)
	}
	s.messages++
	s.counts[fate]++
	if fate == Refuse {
		refuse(w, http.StatusTooManyRequests, "too_many_requests")
		return
	}
	m := message{ID: fmt.Sprint("m", s.messages), Sender: from.id, Text: wish.Message, Timestamp: 1700000000000}
	to.take(from, m, fate)
	answer(w, http.StatusCreated, map[string]any{"id": m.ID, "timestamp": m.Timestamp})
}

// take puts a message into its conversation.
func (u *user) take(from *user, m message, fate Fate) {
	c := u.from[from.id]
	if c == nil {
		c = &conversation{}
		u.from[from.id] = c
	}
	add := func(m message) { c.all, c.queue = append(c.all, m), append(c.queue, m) }
	switch fate {
	case Drop:
	case Duplicate:
		add(m)
		c.queue = append(c.queue, m)
	case Swap:
		if c.held == nil {
			c.held = &m
			u.tell(notice{kind: "new_private_message", from: from.name})
			return
		}
		add(m)
	case Alter:
		m.Text = m.Text[:len(m.Text)-1] + "?"
		add(m)
	case Break:
		c.breaks = true
		add(m)
	default:
		add(m)
	}
	if c.held != nil {
		add(*c.held)
		c.held = nil
	}
	n := notice{kind: "new_private_message", from: from.name}
	switch fate {
	case DropNotice:
	case Gap:
		u.tell(notice{kind: "gap"})
	case AgainNotice:
		u.tell(n)
		u.tell(n)
	case RepeatNotice:
		u.tell(n)
		n.number = u.notices[len(u.notices)-1].number
		u.tell(n)
	default:
		u.tell(n)
	}
}

// tell adds a notice, with the next number if it has none.
func (u *user) tell(n notice) {
	if n.number == 0 {
		n.number = 1
		if len(u.notices) > 0 {
			n.number = u.notices[len(u.notices)-1].number + 1
		}
	}
	u.notices = append(u.notices, n)
	close(u.more)
	u.more = make(chan struct{})
}

func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.caller(w, r)
	if u == nil {
		return
	}
	sender, _ := strconv.ParseInt(r.URL.Query().Get("sender"), 10, 64)
	c := u.from[sender]
	if c == nil {
		c = &conversation{}
	}
	if r.URL.Query().Has("Index") {
		index, _ := strconv.Atoi(r.URL.Query().Get("Index"))
		newest := slices.Clone(c.all)
		slices.Reverse(newest)
		const size = 20
		from, to := min(index*size, len(newest)), min((index+1)*size, len(newest))
		answer(w, http.StatusOK, map[string]any{"messages": newest[from:to], "hasMore": to < len(newest)})
		return
	}
	taken, key := c.queue, r.Header.Get("Idempotency-Key")
	if key != "" && key == c.key {
		taken = c.last
	} else {
		if c.queue = nil; len(taken) > 0 {
			c.key, c.last = key, taken
		}
	}
	if c.breaks {
		c.breaks = false
		panic(http.ErrAbortHandler)
	}
	answer(w, http.StatusOK, map[string]any{"messages": append([]message{}, taken...)})
}

func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	seconds, _ := strconv.ParseFloat(r.URL.Query().Get("timeout"), 64)
	end := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer end.Stop()
	place := -1
	for {
		s.mu.Lock()
		u := s.caller(w, r)
		if u == nil || s.away {
			if u != nil {
				refuse(w, http.StatusServiceUnavailable, "unavailable")
			}
			s.mu.Unlock()
			return
		}
		if place < 0 {
			if place = u.place; r.URL.Query().Has("after") {
				_, _ = fmt.Sscanf(r.URL.Query().Get("after"), "1700000000000-%d", &place)
			}
		}
		waiting := slices.Clone(u.notices)
		waiting = slices.DeleteFunc(waiting, func(n notice) bool { return n.number <= place })
		more := u.more
		if len(waiting) > 0 {
			u.place = waiting[len(waiting)-1].number
			s.mu.Unlock()
			s.tell(w, r, waiting)
			return
		}
		s.parked++
		s.mu.Unlock()
		var late, gone bool
		select {
		case <-more:
		case <-end.C:
			late = true
		case <-r.Context().Done():
			gone = true
		}
		s.mu.Lock()
		s.parked--
		s.mu.Unlock()
		if late {
			answer(w, http.StatusOK, map[string]any{})
		}
		if late || gone {
			return
		}
	}
}

func (s *Server) tell(w http.ResponseWriter, r *http.Request, waiting []notice) {
	var all []map[string]string
	for _, n := range waiting {
		told := map[string]string{"notification": n.kind, "id": fmt.Sprintf("1700000000000-%d", n.number)}
		if n.from != "" {
			told["from"] = n.from
		}
		all = append(all, told)
	}
	if r.URL.Query().Has("max") {
		answer(w, http.StatusOK, map[string]any{"notifications": all})
	} else {
		answer(w, http.StatusOK, all[0])
	}
}

// metrics is the page that a node has on its internal port.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(w, "parley_polls_parked %d\ngo_goroutines 1\nprocess_resident_memory_bytes %d\nprocess_cpu_seconds_total 1\n", s.parked, 1000*s.parked)
}
