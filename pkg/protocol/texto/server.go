package texto

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
)

// Protocol is the name of this protocol in metrics and logs.
const Protocol = "texto"

const (
	// openTimeout bounds the wait for Redis to confirm a new session.
	openTimeout = 1800 * time.Millisecond
	// burstSeconds is how many seconds' worth of messages may come at once.
	burstSeconds = 4
	// othersFactor is how many times the rate of relayed messages holds for
	// everything else that a client sends, mistakes included.
	othersFactor = 10
)

// Hub is what a session needs to hear of its messages.
type Hub interface {
	Subscribe(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error)
	SubscribeNew(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error)
	Unsubscribe(t relay.Topic, s hub.Subscriber)
}

// Publisher is what a session needs to pass messages on.
type Publisher interface {
	Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token)
}

// Config holds what can be set. A limit of 0 is off.
type Config struct {
	Node            string  // shown to clients
	MaxMessageBytes int     // of a text as written in JSON, escapes included
	Rate            float64 // relayed messages a second and connection
	Log             *slog.Logger
}

// Server is the endpoint of Texto v1. Use New.
type Server struct {
	cfg       Config
	log       *slog.Logger
	node      []byte // quoted
	sockets   *conn.Sockets
	hub       Hub
	publisher Publisher
	metrics   *conn.ProtocolMetrics
}

var _ http.Handler = (*Server)(nil)

// New makes an endpoint, to be mounted at /v1/texto.
func New(cfg Config, sockets *conn.Sockets, h Hub, p Publisher) *Server {
	node, _ := json.Marshal(cfg.Node) // a string never fails
	return &Server{cfg: cfg, log: cfg.Log, node: node, sockets: sockets, hub: h, publisher: p,
		metrics: sockets.Metrics.For(Protocol, codeSyntax, codeKind, codeInval, codeClient, codeBroker, codeRate, codeTooBig)}
}

// ServeHTTP upgrades the connection and returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	greet := r.URL.RawQuery == "" || r.URL.Query().Get("nogreet") == ""
	s.sockets.Serve(w, r, Protocol, func(c *conn.Conn) conn.Handler {
		id := uuid.New()
		return &session{
			server: s,
			conn:   c,
			id:     id,
			topic:  topicOf(id),
			greet:  greet,
			sends:  conn.NewBucket(s.cfg.Rate, s.cfg.Rate*burstSeconds),
			others: conn.NewBucket(s.cfg.Rate*othersFactor, s.cfg.Rate*othersFactor*burstSeconds),
		}
	})
}
