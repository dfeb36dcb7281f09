package texto

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// fixture is a Server over HTTP, with a broker in memory.
type fixture struct {
	broker *broker
	group  *conn.Group
	server *Server
	hub    *hub.Hub
	web    *httptest.Server
	dial   func() (net.Conn, error)
	opened chan *session // each session, when it subscribes
}

// watched is a hub that shows who subscribes.
type watched struct {
	*hub.Hub
	opened chan *session
}

func (w watched) Subscribe(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error) {
	w.opened <- s.(*session)
	return w.Hub.Subscribe(ctx, t, s)
}

func (w watched) SubscribeNew(ctx context.Context, t relay.Topic, s hub.Subscriber) (relay.Position, error) {
	w.opened <- s.(*session)
	return w.Hub.SubscribeNew(ctx, t, s)
}

// newFixture starts a server that ends with the test: on a loopback port, or in
// memory, for tests with a clock of their own.
func newFixture(t testing.TB, memory bool, cfg Config, limits conn.Config) *fixture {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	limits.Log = cfg.Log
	metrics := conn.NewMetrics()
	f := &fixture{broker: newBroker(), group: conn.NewGroup(limits, metrics), opened: make(chan *session, 100)}
	f.hub = hub.New(f.broker, f.group)
	f.broker.receiver = f.hub
	sockets := &conn.Sockets{Group: f.group, Metrics: metrics, Log: cfg.Log}
	server := New(cfg, sockets, watched{f.hub, f.opened}, f.broker, f.broker)
	f.server = server
	if memory {
		l := relaytest.NewPipes()
		f.web = &httptest.Server{Listener: l, Config: &http.Server{Handler: server}}
		f.web.Start()
		f.dial = l.Dial
	} else {
		f.web = httptest.NewServer(server)
		f.dial = func() (net.Conn, error) { return net.Dial("tcp", f.web.Listener.Addr().String()) }
	}
	t.Cleanup(func() {
		f.group.Close()
		f.broker.close()
		f.web.Close()
		if n := f.broker.subscribed(); n != 0 {
			t.Errorf("%d topics are subscribed to after the end of all sessions", n)
		}
		if n := f.hub.Len(); n != 0 {
			t.Errorf("the hub has %d topics after the end of all sessions", n)
		}
	})
	return f
}

// client is a WebSocket client. The library makes its frames, but for those that
// go to nc directly.
type client struct {
	ws *websocket.Conn
	nc net.Conn
}

// connect opens a connection with the given query; it is cut with the test.
func (f *fixture) connect(t testing.TB, query string) *client {
	t.Helper()
	var c client
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		nc, err := f.dial()
		c.nc = nc
		return nc, err
	}}
	ws, _, err := websocket.Dial(t.Context(), "ws://relay.example/v1/texto"+query,
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	c.ws = ws
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &c
}

func (c *client) send(t testing.TB, typ websocket.MessageType, payload string) {
	t.Helper()
	if err := c.ws.Write(context.Background(), typ, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

// read returns the next message, or else the close frame.
func (c *client) read(t testing.TB) (string, *websocket.CloseError) {
	t.Helper()
	typ, data, err := c.ws.Read(context.Background())
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return "", &closed
	case err != nil:
		t.Fatal(err)
	case typ != websocket.MessageText:
		t.Fatalf("a binary message: %q", data)
	}
	return string(data), nil
}
