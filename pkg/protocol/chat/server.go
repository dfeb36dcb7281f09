package chat

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
)

// Protocol is the name of this protocol in metrics and logs.
const Protocol = "chat"

const (
	// pageSize is how many messages a page of history has at most, and historyBytes
	// about how much text, but for a single message.
	pageSize     = 100
	historyBytes = 256 << 10
	// helloBytes is about how much text the pages of a greeting have together, and
	// roomBytes the least for each: so much may be on the way to each new client.
	helloBytes = 1 << 20
	roomBytes  = 64 << 10
	// maxContent bounds a content whatever is configured: the archive takes messages of
	// 8 MiB.
	maxContent = 4 << 20
	// readsAtOnce bounds the pages of history that are read for clients at the same
	// time, so that the database has time for those who sign in.
	readsAtOnce = 8
	// maxMessages is how many messages a client may send in one frame.
	maxMessages = 100
	// askTimeout bounds each wait of a client for Redis or the database.
	askTimeout = 1800 * time.Millisecond
	// burstSeconds is how many seconds' worth of messages may come at once.
	burstSeconds = 4
	// othersFactor is how many times the rate of messages holds for everything else
	// that a client sends, and pageCost how much of that a page of history costs.
	othersFactor = 10
	pageCost     = 10
	// typingEvery is the least time between two typing events of one client.
	typingEvery = 2 * time.Second
	// JournalFactor is how many times its length the journal of a room may hold when
	// the archive takes nothing; then the room takes no more messages.
	JournalFactor = 10
	// minJournal is the least for that.
	minJournal = 10_000
	// standingEvery is how often the sessions of all clients are looked up, in case
	// word of their end was lost, and standingBatch how many at once.
	standingEvery = 30 * time.Second
	standingBatch = 256
	// linger is how long a node hears its rooms after the last client has left.
	linger = 30 * time.Second
	// tidyEvery is the time between two looks at who lingers, who has left and which
	// sessions have expired. A user who comes back until the second look after that has
	// not been away.
	tidyEvery = time.Second
)

const (
	// roomTopics starts the topics of rooms, whose messages the journal keeps.
	roomTopics = "chat/"
	// liveTopic is that of presence and typing, nothing of which is kept.
	liveTopic relay.Topic = "chat-live"
)

// Keeps tells whether the messages of a topic are those of a room, all of which are
// kept.
func Keeps(t relay.Topic) bool { return strings.HasPrefix(string(t), roomTopics) }

// RoomConfig is a room. Rooms are fixed, and the same on all nodes.
type RoomConfig struct {
	ID   string
	Name string
}

// Topic is the one whose journal has the room's messages.
func (r RoomConfig) Topic() relay.Topic { return roomTopics + relay.Topic(r.ID) }

// Config holds what can be set. A limit of 0 is off.
type Config struct {
	Rooms           []RoomConfig
	RoomLength      int64   // messages of a room that the archive leaves in the journal
	MaxMessageBytes int     // of a content as written in JSON, escapes included
	Rate            float64 // messages a second and connection
	Log             *slog.Logger
}

// Hub is what a node needs to hear of its rooms.
type Hub interface {
	Subscribe(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error)
	Unsubscribe(t relay.Topic, s hub.Subscriber)
}

// Accounts tell who a client is.
type Accounts interface {
	// Session returns what a token stands for; account.ErrNoSession.
	Session(ctx context.Context, token string) (account.Session, error)
	// Standing tells which of the sessions with these keys still stand.
	Standing(ctx context.Context, keys ...string) ([]bool, error)
}

// Appender takes the messages of rooms; see relay.Journal.
type Appender interface {
	Append(ms []relay.Message, most int64, a relay.Acker, t relay.Token)
}

// Deps are what the endpoint stands on.
type Deps struct {
	Sockets   *conn.Sockets
	Hub       Hub
	Journal   Appender
	History   relay.Records // of the rooms, the archive included
	Publisher relay.Publisher
	Roster    relay.Roster
	Accounts  Accounts
}

// Server is the WebSocket endpoint. Use New, and Close after the connections have
// ended.
type Server struct {
	// Fixed after New.
	cfg     Config
	deps    Deps
	log     *slog.Logger
	rooms   []*room
	most    int64 // messages that the journal of a room takes
	longest int   // bytes of a content
	// pageBytes is about how much text a shard keeps of each room.
	pageBytes int
	reads     chan struct{} // an element for each page that is being read
	metrics   *conn.ProtocolMetrics
	ctx       context.Context // ends with Close
	stop      context.CancelFunc
	own       sync.WaitGroup

	mu     sync.Mutex
	shards map[*conn.Loop]*shard
	users  map[string]int  // connections of each member (see memberOf) on this node
	away   map[string]bool // members without a connection who have not left yet; true at the second look
}

// room is fixed.
type room struct {
	RoomConfig
	index  int
	topic  relay.Topic
	head   []byte // of its JSON: {"id":...,"name":...,"messages":[
	quoted []byte // its id
}

var _ http.Handler = (*Server)(nil)

// New makes an endpoint, to be mounted at /api/ws.
func New(cfg Config, deps Deps) *Server {
	s := &Server{cfg: cfg, deps: deps, log: cfg.Log, most: max(JournalFactor*cfg.RoomLength, minJournal),
		shards: map[*conn.Loop]*shard{}, users: map[string]int{}, away: map[string]bool{}, reads: make(chan struct{}, readsAtOnce),
		longest: maxContent, pageBytes: max(roomBytes, helloBytes/max(1, len(cfg.Rooms))),
		metrics: deps.Sockets.Metrics.For(Protocol, errorCodes()...)}
	if cfg.MaxMessageBytes > 0 {
		s.longest = min(s.longest, cfg.MaxMessageBytes)
	}
	for i, c := range cfg.Rooms {
		s.rooms = append(s.rooms, newRoom(c, i))
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.own.Go(s.tidy)
	return s
}

func newRoom(c RoomConfig, index int) *room {
	r := &room{RoomConfig: c, index: index, topic: c.Topic(), quoted: quote(c.ID)}
	r.head = append(append([]byte(`{"id":`), r.quoted...), `,"name":`...)
	r.head = append(append(r.head, quote(c.Name)...), `,"messages":[`...)
	return r
}

// Close unsubscribes from everything and waits for all goroutines. No connection may
// be served any more.
func (s *Server) Close() {
	s.stop()
	s.own.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveAway(true)
	for loop, sh := range s.shards {
		sh.unsubscribe()
		delete(s.shards, loop)
	}
}

// ServeHTTP upgrades the connection and returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := account.TokenOf(r)
	var since map[string]string
	presence := false
	if r.URL.RawQuery != "" {
		q := r.URL.Query()
		presence = q.Get("presence") == "1"
		since = parseSince(q.Get("since"))
	}
	s.deps.Sockets.Serve(w, r, Protocol, func(c *conn.Conn) conn.Handler {
		return &session{
			server:   s,
			conn:     c,
			token:    token,
			since:    since,
			presence: presence,
			sends:    conn.NewBucket(s.cfg.Rate, s.cfg.Rate*burstSeconds),
			others:   conn.NewBucket(s.cfg.Rate*othersFactor, s.cfg.Rate*othersFactor*burstSeconds),
		}
	})
}

// room returns the room with the given id, nil when there is none.
func (s *Server) room(id string) *room {
	for _, r := range s.rooms { // there are few
		if r.ID == id {
			return r
		}
	}
	return nil
}

// enter returns the shard of a loop, which hears the rooms; leave is due for it. It
// waits until it does, as long as ctx allows; the error wraps relay.ErrUnavailable.
func (s *Server) enter(ctx context.Context, loop *conn.Loop) (*shard, error) {
	s.mu.Lock()
	sh := s.shards[loop]
	if sh == nil {
		sh = newShard(s, loop)
		s.shards[loop] = sh
		s.own.Go(sh.open)
	}
	sh.sessions++
	s.mu.Unlock()
	select {
	case <-sh.opened:
	case <-ctx.Done():
		s.leave(sh)
		return nil, relay.ErrUnavailable
	}
	if sh.failure != nil {
		s.leave(sh)
		return nil, sh.failure
	}
	return sh, nil
}

func (s *Server) leave(sh *shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.sessions--; sh.sessions == 0 {
		sh.idleSince = time.Now()
	}
}

// arrive and depart count the connections of a user on this node.
func (s *Server) arrive(member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[member]++; s.users[member] > 1 {
		return
	}
	if _, present := s.away[member]; present {
		delete(s.away, member)
	} else {
		s.deps.Roster.Enter(liveTopic, member)
	}
}

func (s *Server) depart(member string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[member]--; s.users[member] == 0 {
		delete(s.users, member)
		s.away[member] = false
	}
}

// leaveAway has those leave who have been away for two looks; all, at the end. It is
// called with mu held.
func (s *Server) leaveAway(all bool) {
	for member, seen := range s.away {
		if s.away[member] = true; seen || all {
			delete(s.away, member)
			s.deps.Roster.Leave(liveTopic, member)
		}
	}
}

// read calls f when it is its turn to read from the history.
func (s *Server) read(ctx context.Context, f func() error) error {
	select {
	case s.reads <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%w: too many pages of history are being read: %w", relay.ErrUnavailable, ctx.Err())
	}
	defer func() { <-s.reads }()
	return f()
}

// tidy ends what is over, until Close.
func (s *Server) tidy() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	looked := time.Now()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		var idle, busy []*shard
		s.mu.Lock()
		s.leaveAway(false)
		for loop, sh := range s.shards {
			switch {
			case sh.sessions > 0:
				busy = append(busy, sh)
			case now.Sub(sh.idleSince) > linger && sh.isOpen():
				idle = append(idle, sh)
				delete(s.shards, loop)
			}
		}
		s.mu.Unlock()
		for _, sh := range idle {
			sh.unsubscribe()
		}
		all := now.Sub(looked) >= standingEvery
		if all {
			looked = now
		}
		for _, sh := range busy {
			if !sh.isOpen() {
				continue
			}
			if all || sh.doubtful.Swap(false) {
				s.own.Go(sh.checkStanding)
			}
			loop := sh.loop
			loop.Do(sh.endExpired)
			loop.Flush()
		}
	}
}
