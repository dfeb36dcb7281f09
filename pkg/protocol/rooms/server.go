package rooms

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
)

// Protocol is the name of this protocol in metrics and logs.
const Protocol = "rooms"

const (
	// askTimeout bounds each wait of a client for Redis.
	askTimeout = 1800 * time.Millisecond
	// burstSeconds is how many seconds' worth of messages may come at once.
	burstSeconds = 4
	// othersFactor is how many times the rate of relayed messages holds for everything
	// else that a client sends, and askCost how much of that costs what Redis is asked for.
	othersFactor = 10
	askCost      = 10
	// tellTimeout is how long it may take until a client that was host has been told that
	// it is not any more, before another one is.
	tellTimeout = 2 * time.Second
	// tellsAtOnce bounds how many rooms Redis is asked about at the same time, after
	// this node may have missed what happened in them; tellAgain is the pause before it
	// is asked again.
	tellsAtOnce = 8
	tellAgain   = 200 * time.Millisecond
)

// settleTime is how long a client waits that events which were missed have made host,
// until every node has heard that: after a failover of Redis they follow within so long
// of each other.
const settleTime = 3 * time.Second

const (
	// retainedFor and retainedLength bound what is kept of a room's stream, for nodes
	// that have missed some of it.
	retainedFor    = 30 * time.Second
	retainedLength = 5000
)

// Retention is for how long the messages of a room's topic are kept. It must be the
// same on all nodes.
func Retention() relay.Retention {
	return relay.Retention{Length: retainedLength, Age: retainedFor}
}

// Hub is what a node needs to hear of its rooms.
type Hub interface {
	Subscribe(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error)
	Unsubscribe(t relay.Topic, s hub.Subscriber)
}

// Config holds what can be set. A limit of 0 is off.
type Config struct {
	MaxMessageBytes int     // of the data of a relay
	Rate            float64 // relayed messages a second and connection
	Log             *slog.Logger
}

// Deps are what the endpoint stands on.
type Deps struct {
	Sockets   *conn.Sockets
	Hub       Hub
	Publisher relay.Publisher
	Seats     relay.Seats
}

// Server is the WebSocket endpoint. Use New, and Close after the connections have
// ended.
type Server struct {
	// Fixed after New.
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *conn.ProtocolMetrics
	tells   chan struct{}   // an element for each question about a room that is under way
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	own     sync.WaitGroup

	mu     sync.Mutex
	shards map[place]*shard
}

// place is where a shard is: a room, on a loop.
type place struct {
	loop *conn.Loop
	room int32
}

var _ http.Handler = (*Server)(nil)

// New makes an endpoint, to be mounted at /v1/websocket.
func New(cfg Config, deps Deps) *Server {
	s := &Server{cfg: cfg, deps: deps, log: cfg.Log, tells: make(chan struct{}, tellsAtOnce), shards: map[place]*shard{},
		metrics: deps.Sockets.Metrics.For(Protocol, codes()...)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close waits for all goroutines. No connection may be served any more.
func (s *Server) Close() {
	s.stop()
	s.own.Wait()
}

// ServeHTTP upgrades the connection and returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.deps.Sockets.Serve(w, r, Protocol, func(c *conn.Conn) conn.Handler {
		return &session{
			server: s,
			conn:   c,
			at:     notSeated,
			sends:  conn.NewBucket(s.cfg.Rate, s.cfg.Rate*burstSeconds),
			others: conn.NewBucket(s.cfg.Rate*othersFactor, s.cfg.Rate*othersFactor*burstSeconds),
		}
	})
}

// Rooms is the number of rooms that have clients on this node. It may be called from any
// goroutine.
func (s *Server) Rooms() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := make(map[int32]struct{}, len(s.shards))
	for p := range s.shards {
		rooms[p.room] = struct{}{}
	}
	return len(rooms)
}

// SeatsLost is to be called when the seats of this node may have been given to others:
// all connections that have one are closed. It waits for no client, and may be called
// from any goroutine but a loop's.
func (s *Server) SeatsLost() {
	s.mu.Lock()
	shards := make([]*shard, 0, len(s.shards))
	for _, sh := range s.shards {
		shards = append(shards, sh)
	}
	s.mu.Unlock()
	for _, sh := range shards {
		sh.loop.Do(sh.seatsLost)
		sh.loop.Flush()
	}
}

// RoomGone is to be called when Redis does not know a room any more in which this node
// has seats: their connections are closed. It may be called like SeatsLost.
func (s *Server) RoomGone(room int32) {
	s.mu.Lock()
	var shards []*shard
	for p, sh := range s.shards { // rare
		if p.room == room {
			shards = append(shards, sh)
		}
	}
	s.mu.Unlock()
	for _, sh := range shards {
		sh.loop.Do(sh.gone)
		sh.loop.Flush()
	}
}

// enter returns the room's shard of a loop, which hears the room's topic; leave is due
// for it. It waits until it does, as long as ctx allows; the error wraps
// relay.ErrUnavailable.
func (s *Server) enter(ctx context.Context, loop *conn.Loop, room int32) (*shard, error) {
	p := place{loop, room}
	s.mu.Lock()
	sh := s.shards[p]
	if sh == nil {
		sh = newShard(s, p)
		s.shards[p] = sh
		s.own.Go(sh.open)
	}
	sh.users++
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

// leave takes back one enter. The last one ends the shard.
func (s *Server) leave(sh *shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh.users--; sh.users == 0 {
		s.drop(sh)
	}
}

// drop has nobody enter a shard any more. It is called with mu held.
func (s *Server) drop(sh *shard) {
	if s.shards[sh.place] == sh {
		delete(s.shards, sh.place)
	}
	if sh.users == 0 && sh.subscribed {
		sh.subscribed = false
		s.deps.Hub.Unsubscribe(sh.topic, sh)
	}
}

// tell has everybody told who is in a shard's room, as soon as Redis answers, unless
// somebody else has had that done meanwhile.
func (s *Server) tell(sh *shard) {
	select {
	case s.tells <- struct{}{}:
	case <-s.ctx.Done():
		return
	}
	defer func() { <-s.tells }()
	for !sh.following.Load() {
		ctx, cancel := context.WithTimeout(s.ctx, askTimeout)
		err := s.deps.Seats.Tell(ctx, sh.room)
		cancel()
		if err == nil || s.ctx.Err() != nil {
			return
		}
		if errors.Is(err, relay.ErrNoRoom) {
			sh.loop.Do(sh.gone)
			sh.loop.Flush()
			return
		}
		if !sh.wanted() {
			return
		}
		again := time.NewTimer(tellAgain)
		select {
		case <-s.ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}
