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

// History is what a session needs to read what its client has missed.
type History interface {
	Since(ctx context.Context, t relay.Topic, after relay.Position, n int) (relay.Page, error)
}

// Config holds what can be set. A limit of 0 is off.
type Config struct {
	Node            string  // shown to clients
	MaxMessageBytes int     // of a text as written in JSON, escapes included
	MaxQueueBytes   int     // of messages that wait for a client, and of those that wait while it catches up; 0: 1 MiB of the latter
	Rate            float64 // relayed messages a second and connection
	// Retention is how long messages are kept for clients that come back. The
	// zero value: they get their address back and nothing else.
	Retention relay.Retention
	// Secrets sign the tokens by which sessions are resumed: the first one signs,
	// all verify. None: one is made up, and tokens hold for this server alone.
	Secrets [][]byte
	Log     *slog.Logger
}

// Server is the endpoint of Texto v1. Use New.
type Server struct {
	cfg       Config
	log       *slog.Logger
	node      []byte // quoted
	sockets   *conn.Sockets
	hub       Hub
	publisher relay.Publisher
	history   History
	keys      keys
	piece     int           // bytes of what was missed that are queued at once
	resuming  chan struct{} // an element for each session that asks Redis for its state
	metrics   *conn.ProtocolMetrics
}

var _ http.Handler = (*Server)(nil)

// New makes an endpoint, to be mounted at /v1/texto.
func New(cfg Config, sockets *conn.Sockets, h Hub, p relay.Publisher, history History) *Server {
	node, _ := json.Marshal(cfg.Node) // a string never fails
	if cfg.MaxQueueBytes == 0 {
		cfg.MaxQueueBytes = defaultHeldBytes
	}
	return &Server{cfg: cfg, log: cfg.Log, node: node, sockets: sockets, hub: h, publisher: p, history: history,
		keys: newKeys(cfg.Secrets), piece: max(1, min(pieceBytes, cfg.MaxQueueBytes/2)), resuming: make(chan struct{}, maxResuming),
		metrics: sockets.Metrics.For(Protocol, codeSyntax, codeKind, codeInval, codeClient, codeBroker, codeRate, codeTooBig, codeResume)}
}

// ServeHTTP upgrades the connection and returns.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	greet := true
	var back *ticket
	valid := true
	if r.URL.RawQuery != "" {
		q := r.URL.Query()
		greet = q.Get("nogreet") == ""
		back, valid = s.readTicket(q)
	}
	s.sockets.Serve(w, r, Protocol, func(c *conn.Conn) conn.Handler {
		session := &session{
			server: s,
			conn:   c,
			greet:  greet,
			forged: !valid,
			sends:  conn.NewBucket(s.cfg.Rate, s.cfg.Rate*burstSeconds),
			others: conn.NewBucket(s.cfg.Rate*othersFactor, s.cfg.Rate*othersFactor*burstSeconds),
		}
		if back == nil {
			session.id, session.own = uuid.New(), true
		} else {
			session.id, session.nonce, session.from = back.client, uuid.New(), &back.from
			session.catching = &catchUp{limit: s.cfg.MaxQueueBytes, heard: make(chan struct{})}
		}
		session.topic = topicOf(session.id)
		return session
	})
}
