package rest

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/park"
	"parley/pkg/relay"
	"parley/pkg/web"
)

// Protocol is the name of this protocol in metrics and logs.
const Protocol = "rest"

// NoticeRetention is for how long notifications wait for their user, and how many.
var NoticeRetention = relay.Retention{Length: 1000, Age: 7 * 24 * time.Hour}

// Accounts are what is needed of them; see account.Accounts.
type Accounts interface {
	Create(ctx context.Context, username, email, password string) (relay.User, error)
	Login(ctx context.Context, address netip.Addr, email, password string) (relay.User, error)
	Open(ctx context.Context, u relay.User) (token string, s account.Session, err error)
	Session(ctx context.Context, token string) (account.Session, error)
	Standing(ctx context.Context, keys ...string) ([]bool, error)
	End(ctx context.Context, token string) error
}

// Hub is what a node needs to hear of users' notifications.
type Hub interface {
	Subscribe(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error)
	Unsubscribe(t relay.Topic, s hub.Subscriber)
}

// Publisher passes notices on; see relay.Publisher.
type Publisher interface {
	Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token)
}

// Loops are where notifications are delivered; see conn.Group.
type Loops interface {
	LoopFor(key uint64) *conn.Loop
}

// Admission counts the connections that wait; see conn.Group.
type Admission interface {
	Admit(ip netip.Addr) conn.Refusal
	Leave(ip netip.Addr)
}

// Config holds what can be set. A limit of 0 is off.
type Config struct {
	MaxMessageBytes int     // of the text of a message
	Rate            float64 // messages a second that a user may send through this node; ten times as many other requests
	OpenID          string  // the issuer with which users may sign in, as they are told; "": none
	Proxies         web.Proxies
	Origins         web.Origins
	Log             *slog.Logger
}

// Deps are what the endpoints stand on.
type Deps struct {
	Accounts  Accounts
	Directory relay.Directory
	Friends   relay.Friends
	Groups    relay.Groups
	Posts     relay.Posts
	Outbox    relay.Outbox
	Inbox     relay.Inbox
	Meter     relay.Meter
	Publisher Publisher
	Hub       Hub
	Loops     Loops
	Admission Admission
	Lot       *park.Lot
}

// Server answers the requests of the protocol; see Routes. Use New, and in the end Drain
// and Close. It may be used by any number of goroutines.
type Server struct {
	// Fixed after New.
	cfg     Config
	deps    Deps
	log     *slog.Logger
	pace    *pacer
	readers *readers
	metrics *Metrics
	sent    chan int64 // notices that Redis has
	ctx     context.Context
	stop    context.CancelFunc
	own     sync.WaitGroup

	passing atomic.Int64 // notices, counted by receivers, of which it is not known whether Redis has them

	retryMu sync.Mutex
	retries []*passing // that failed

	mu      sync.Mutex
	centers map[int64]*center // by user
	closed  bool
}

var _ http.Handler = (*Server)(nil)

// New makes a Server and starts what passes notices on.
func New(cfg Config, deps Deps) *Server {
	s := &Server{cfg: cfg, deps: deps, log: cfg.Log, pace: newPacer(cfg.Rate), readers: &readers{by: map[int64]int{}}, centers: map[int64]*center{}, sent: make(chan int64, sentQueue)}
	s.metrics = newMetrics(deps.Lot.Len)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.own.Go(s.tidy)
	s.own.Go(s.dropSent)
	s.own.Go(s.sweep)
	s.own.Go(s.hearRevocations)
	return s
}

// Metrics are the figures of the protocol, to be registered once.
func (s *Server) Metrics() *Metrics { return s.metrics }

// Close ends what New has started, and waits for it. No request may be under way any more.
// A second call does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	left := slices.Collect(maps.Values(s.centers))
	s.mu.Unlock()
	if was {
		return
	}
	for began := time.Now(); s.passing.Load() > 0 && time.Since(began) < lastWords; {
		time.Sleep(dropEvery / 10)
	}
	s.stop()
	s.own.Wait()
	for _, c := range left {
		s.forget(c)
	}
}

// tidyEvery is the time between two looks at who is not waited for any more.
const tidyEvery = time.Second

// tidy forgets users for whom nobody has polled for a while, and those who are far from
// their limits, and tries again to pass on notices that failed.
func (s *Server) tidy() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			s.pace.tidy(now)
			s.tidyCenters(now)
			s.retry()
		}
	}
}
