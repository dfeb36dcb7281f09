package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	clientjs "parley/client-js"
	"parley/pkg/conn"
	"parley/pkg/embedded"
	"parley/pkg/hub"
	"parley/pkg/protocol/chat"
	"parley/pkg/protocol/texto"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// handshakeTimeout bounds the time that a client has to send the header of
	// a request, and maxHeaderBytes its size.
	handshakeTimeout = 10 * time.Second
	maxHeaderBytes   = 16 << 10
	// keepAliveTimeout is how long a plain HTTP connection may wait for its
	// next request; it is above the 60 s for which nginx keeps one by default.
	keepAliveTimeout = 75 * time.Second
	// drainGrace is what a drain may take beyond its window, for clients that
	// do not answer the close; those are cut then.
	drainGrace = 3 * time.Second
	// frameOverhead is what a frame may have beyond twice the longest text; see
	// frameLimit.
	frameOverhead = 4096
	// frameFactor is how many times the rate of relayed messages a client may
	// send frames of any kind before it is taken for a flood.
	frameFactor = 20
	// directTopics starts the topics of single clients.
	directTopics = "client/"
)

// Node is one relay node. Use New, then Run once.
type Node struct {
	// Fixed after New.
	cfg      Config
	id       string // unique to this start
	log      *slog.Logger
	redis    *embedded.Redis // nil with an external Redis
	bus      *redisbus.Bus
	fleet    *redisbus.Fleet
	chat     *chatPart // nil: there is no database
	rooms    *roomsPart
	rest     *restPart
	group    *conn.Group
	hub      *hub.Hub
	public   net.Listener
	internal net.Listener // nil: none
	metrics  *metrics
	handler  http.Handler

	draining atomic.Bool
}

// New opens the listeners and makes everything that Run starts. On an error
// nothing stays open.
func New(cfg Config, log *slog.Logger) (*Node, error) {
	n := &Node{cfg: cfg, id: uuid.NewString(), log: log}
	if cfg.NodeName == "" {
		host, _ := os.Hostname() // without one, the rest still tells nodes apart
		n.cfg.NodeName = host + "-" + n.id[:4]
	}
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *Node) open() (err error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: false}} // pings do that
	if n.public, err = lc.Listen(context.Background(), "tcp", n.cfg.Listen); err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if n.cfg.InternalAddr != "" {
		if n.internal, err = lc.Listen(context.Background(), "tcp", n.cfg.InternalAddr); err != nil {
			return fmt.Errorf("--internal-addr: %w", err)
		}
	}
	options := n.cfg.redisOptions()
	if options.URL == "" {
		if n.redis, err = embedded.StartRedis(); err != nil {
			return err
		}
		options.URL = n.redis.URL()
	}
	options.Node, options.Keeps, options.Log = n.id, n.keeps, n.log
	if n.bus, err = redisbus.New(options); err != nil {
		return fmt.Errorf("--redis-url: %w", err)
	}
	connMetrics := conn.NewMetrics()
	n.group = conn.NewGroup(conn.Config{
		MaxFrameBytes:       frameLimit(n.cfg.MaxMessageBytes),
		MaxQueueBytes:       n.cfg.MaxQueueBytes,
		PingInterval:        n.cfg.PingInterval,
		IdleTimeout:         n.cfg.IdleTimeout,
		MaxConnections:      n.cfg.MaxConnections,
		MaxConnectionsPerIP: n.cfg.MaxConnectionsPerIP,
		FrameRate:           n.cfg.Rate * frameFactor,
		Log:                 n.log,
	}, connMetrics)
	n.hub = hub.New(n.bus, n.group)
	if n.fleet, err = n.newFleet(); err != nil {
		return err
	}
	sockets := &conn.Sockets{Group: n.group, Metrics: connMetrics, Proxies: n.cfg.TrustedProxies, Origins: n.cfg.AllowedOrigins, Log: n.log}
	if n.chat, err = n.newChat(sockets); err != nil {
		return err
	}
	n.rooms = n.newRooms(sockets)
	if n.rest, err = n.newREST(); err != nil {
		return err
	}
	parts := slices.Concat(n.bus.Metrics().Collectors(), n.fleet.Metrics().Collectors(), n.rooms.collectors(), n.rest.collectors())
	if n.chat != nil {
		parts = append(parts, n.chat.collectors()...)
	}
	n.metrics = newMetrics(n, connMetrics.Collectors(), parts)
	n.handler, err = n.publicMux(texto.New(texto.Config{
		Node:            n.cfg.NodeName,
		MaxMessageBytes: n.cfg.MaxMessageBytes,
		MaxQueueBytes:   n.cfg.MaxQueueBytes,
		Rate:            n.cfg.Rate,
		Retention:       n.retention(),
		Secrets:         n.cfg.FleetSecrets,
		Log:             n.log,
	}, sockets, n.hub, n.bus, n.bus))
	return err
}

// retention is that of direct messages.
func (n *Node) retention() relay.Retention {
	if n.cfg.DirectRetention == 0 {
		return relay.Retention{}
	}
	return relay.Retention{Length: int64(n.cfg.DirectRetentionMessages), Age: n.cfg.DirectRetention}
}

// keeps tells which topics have all their messages kept.
func (n *Node) keeps(t relay.Topic) bool {
	return n.cfg.DirectRetention > 0 && strings.HasPrefix(string(t), directTopics) || chat.Keeps(t) || keepsNotices(t) || strings.HasPrefix(string(t), relay.RoomTopics)
}

// tellSecret tells the log when tokens hold for this node alone.
func (n *Node) tellSecret() {
	if len(n.cfg.FleetSecrets) > 0 {
		return
	}
	level := slog.LevelWarn
	if n.redis != nil {
		level = slog.LevelInfo // there is no other node
	}
	n.log.Log(context.Background(), level, "no secret is set: clients can come back under their address to this node alone, and only until it ends", "setting", "--fleet-secret")
}

// frameLimit is the most bytes of an incoming message. It is well above that of
// the longest text and what stands around it, so that a text that is somewhat too
// long gets an error and not the end of the connection.
func frameLimit(maxMessage int) int {
	if maxMessage == 0 {
		return 0
	}
	return 2*maxMessage + frameOverhead
}

func (n *Node) close() {
	for _, l := range []net.Listener{n.public, n.internal} {
		if l != nil {
			_ = l.Close() // closed already by its server
		}
	}
	if n.rest != nil {
		n.rest.end()
	}
	if n.group != nil {
		n.group.Close()
	}
	if n.rooms != nil {
		n.rooms.end()
	}
	if n.chat != nil {
		n.chat.close(n.log)
	}
	if n.redis != nil {
		n.redis.Close()
	}
}

// publicMux is what clients see.
func (n *Node) publicMux(textoV1 http.Handler) (http.Handler, error) {
	app, err := web.Static(clientjs.Files)
	if err != nil {
		return nil, fmt.Errorf("sample client: %w", err)
	}
	mux := newRoutes()
	mux.ending = n.draining.Load
	mux.Handle("/v1/texto", textoV1)
	n.rooms.mount(mux)
	n.mountChat(mux)
	n.rest.mount(mux)
	mux.HandleFunc("/healthz", n.serveHealth)
	mux.HandleFunc("/openapi.yaml", serveOpenAPI)
	mux.Handle("/", app)
	return mux, nil
}

// Addr is where clients connect to.
func (n *Node) Addr() net.Addr { return n.public.Addr() }

// InternalAddr is where health and metrics are, nil if nowhere.
func (n *Node) InternalAddr() net.Addr {
	if n.internal == nil {
		return nil
	}
	return n.internal.Addr()
}

// Run serves until ctx ends, then drains and returns. When cut ends it stops at
// once; it may be nil. An error means that the node could not go on.
func (n *Node) Run(ctx context.Context, cut <-chan struct{}) error {
	redis := "external"
	if n.redis != nil {
		redis = "embedded"
	}
	n.log.Info("node started", "node", n.cfg.NodeName, "id", n.id, "version", Version,
		"listen", n.public.Addr().String(), "internal", fmt.Sprint(n.InternalAddr()), "redis", redis)
	n.tellSecret()
	n.warnOfDatabase()
	n.warnOfRooms()
	busCtx, stopBus := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	killed := false
	defer func() {
		n.rest.end()
		n.group.Close()
		if killed {
			stopBus()
		}
		n.rooms.end()
		n.endChat(!killed && n.redis != nil)
		if !killed {
			n.leaveFleet()
		}
		stopBus()
		wg.Wait()
		n.close()
		n.log.Info("node stopped")
	}()
	wg.Go(func() {
		if err := n.bus.Run(busCtx, n.hub); err != nil {
			n.log.Warn("closing redis", "error", err)
		}
	})
	wg.Go(func() {
		if err := n.fleet.Run(busCtx); err != nil {
			n.log.Warn("leases", "error", err)
		}
	})
	n.rooms.run()
	if n.chat != nil {
		n.chat.run()
	}
	wg.Go(func() { n.watchRedis(busCtx) })
	wg.Go(func() { n.returnMemory(busCtx) })
	errorLog := slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)
	public := &http.Server{Handler: n.handler, ReadHeaderTimeout: handshakeTimeout, ReadTimeout: 2 * handshakeTimeout,
		WriteTimeout: 2 * handshakeTimeout, IdleTimeout: keepAliveTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: errorLog}
	internal := &http.Server{Handler: n.internalMux(), ReadHeaderTimeout: handshakeTimeout, MaxHeaderBytes: maxHeaderBytes, ErrorLog: errorLog}
	failed := make(chan error, 3)
	serve := func(s *http.Server, l net.Listener) {
		wg.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	serve(public, n.public)
	serve(public, n.rest.lot.Listener(n.public.Addr()))
	if n.internal != nil {
		serve(internal, n.internal)
	}
	defer internal.Close()
	defer public.Close()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-cut:
		killed = true
		return nil
	case <-ctx.Done():
	}
	n.drain(public, cut)
	select {
	case <-cut:
		killed = true
	default:
	}
	return nil
}

// drain ends the service so that the clients go elsewhere without a rush.
func (n *Node) drain(public *http.Server, cut <-chan struct{}) {
	n.draining.Store(true)
	n.rest.lot.Drain() // polls go elsewhere at once
	n.saveChat()       // should there be a second signal
	n.log.Info("draining", "connections", n.group.Len(), "delay", n.cfg.DrainDelay, "window", n.cfg.DrainWindow)
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainDelay+n.cfg.DrainWindow+drainGrace)
	defer cancel()
	delay := time.NewTimer(n.cfg.DrainDelay)
	defer delay.Stop()
	select {
	case <-cut:
		return
	case <-delay.C:
	}
	n.group.Refuse()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // closes the listener at once; WebSockets are the group's
		if err := public.Shutdown(ctx); err != nil {
			n.log.Debug("http requests cut at the end of the drain", "error", err)
		}
	})
	drained := make(chan struct{})
	wg.Go(func() {
		defer close(drained)
		n.group.Drain(ctx, n.cfg.DrainWindow)
	})
	select {
	case <-cut:
	case <-drained:
		if left := n.group.Len(); left > 0 {
			n.log.Warn("connections cut at the end of the drain", "connections", left)
		}
	}
	cancel() // for a request that does not end
}

// watchRedis tells the log when Redis comes and goes.
func (n *Node) watchRedis(ctx context.Context) {
	const step = time.Second
	tick := time.NewTicker(step)
	defer tick.Stop()
	ready, told := false, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch err := n.bus.Ready(); {
		case err == nil && !ready:
			ready = true
			n.log.Info("ready: redis answers")
		case err != nil && (ready || !told):
			ready, told = false, true
			n.log.Warn("not ready: redis does not answer; trying on", "error", err, "setting", "--redis-url")
		}
	}
}
