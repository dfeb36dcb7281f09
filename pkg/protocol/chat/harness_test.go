package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

var (
	lobby   = RoomConfig{"lobby", "The Lobby"}
	kitchen = RoomConfig{"kitchen", "Küche \"2\""}
)

// fixture is a Server over HTTP, on a bus in memory.
type fixture struct {
	*bus
	group  *conn.Group
	server *Server
	hub    *hub.Hub
	web    *httptest.Server
	dial   func() (net.Conn, error)
}

// newFixture starts a server that ends with the test: on a loopback port, or in
// memory, for tests with a clock of their own.
func newFixture(t testing.TB, memory bool, cfg Config, limits conn.Config) *fixture {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Rooms == nil {
		cfg.Rooms = []RoomConfig{lobby, kitchen}
	}
	limits.Log = cfg.Log
	metrics := conn.NewMetrics()
	f := &fixture{bus: newBus(), group: conn.NewGroup(limits, metrics)}
	f.hub = hub.New(f.bus, f.group)
	f.receiver = f.hub
	f.server = New(cfg, Deps{
		Sockets:   &conn.Sockets{Group: f.group, Metrics: metrics, Log: cfg.Log},
		Hub:       f.hub,
		Journal:   f.bus,
		History:   f.bus,
		Publisher: f.bus,
		Roster:    f.bus,
		Accounts:  f.bus,
	})
	if memory {
		l := relaytest.NewPipes()
		f.web = &httptest.Server{Listener: l, Config: &http.Server{Handler: f.server}}
		f.web.Start()
		f.dial = l.Dial
	} else {
		f.web = httptest.NewServer(f.server)
		f.dial = func() (net.Conn, error) { return net.Dial("tcp", f.web.Listener.Addr().String()) }
	}
	t.Cleanup(func() {
		f.group.Close()
		f.server.Close()
		f.web.Close()
		if n := f.subscribed(); n != 0 {
			t.Errorf("%d subscriptions are left after the end", n)
		}
		f.with(func() {
			if len(f.present) != 0 {
				t.Errorf("%v are present after the end", f.present)
			}
		})
	})
	f.signIn(1, "alice")
	f.signIn(2, "bob")
	return f
}

// intactEverywhere tells whether all shards have read that the lobby is intact from id
// on.
func (f *fixture) intactEverywhere(id relay.ID) bool {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	for _, sh := range f.server.shards {
		answer := make(chan relay.ID, 1)
		sh.do(func() { answer <- sh.rooms[0].intact })
		if <-answer != id {
			return false
		}
	}
	return true
}

// client is a WebSocket client.
type client struct {
	*websocket.Conn
	t testing.TB
}

// connect opens a connection of a user, nobody if it is empty, with a query.
func (f *fixture) connect(t testing.TB, user, query string) *client {
	t.Helper()
	h := http.Header{}
	if user != "" {
		h.Set("Cookie", "sid="+tokenOf(user))
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.dial() }}
	ws, _, err := websocket.Dial(t.Context(), "ws://relay.example/api/ws"+query, &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{ws, t}
}

// event is a message from the server.
type event struct {
	Type    string
	Payload struct {
		Me              wireUser
		Rooms           []wireRoom
		RoomID          *string
		Messages        []wireMessage
		HasMoreMessages *bool
		Recovered       *bool
		Complete        *bool
		Code, Message   string
		User            wireUser
		Online          bool
	}
}

type wireUser struct {
	ID       int64
	Username string
}

type wireMessage struct {
	ID        string
	Content   string
	User      wireUser
	Timestamp int64
}

type wireRoom struct {
	ID, Name        string
	Messages        []wireMessage
	HasMoreMessages *bool
	Recovered       *bool
	Complete        *bool
	Online          []wireUser
}

const patience = 10 * time.Second

// read returns the next message as it came, or else the close frame.
func (c *client) read() (string, *websocket.CloseError) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	typ, b, err := c.Read(ctx)
	var closed websocket.CloseError
	switch {
	case errors.As(err, &closed):
		return "", &closed
	case err != nil:
		c.t.Fatal(err)
	case typ != websocket.MessageText:
		c.t.Fatalf("a frame of type %v", typ)
	}
	return string(b), nil
}

// next returns the next message.
func (c *client) next() (e event) {
	c.t.Helper()
	text, closed := c.read()
	if closed != nil {
		c.t.Fatalf("closed with %d %q", closed.Code, closed.Reason)
	}
	return parse(c.t, text)
}

func parse(t testing.TB, text string) (e event) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return e
}

// nextBut returns the next message that is not of a type.
func (c *client) nextBut(typ string) (e event) {
	c.t.Helper()
	for e = c.next(); e.Type == typ; e = c.next() {
	}
	return e
}

// want returns the next message, which must be of a type.
func (c *client) want(typ string) event {
	c.t.Helper()
	e := c.next()
	if e.Type != typ {
		c.t.Fatalf("got %+v, want a %s", e, typ)
	}
	return e
}

// wantError reads an error about a room; "" for none.
func (c *client) wantError(p *problem, room string) {
	c.t.Helper()
	e := c.want("error")
	got := ""
	if e.Payload.RoomID != nil {
		got = *e.Payload.RoomID
	}
	if e.Payload.Code != p.code || got != room {
		c.t.Fatalf("got the error %s about room %q, want %s about %q", e.Payload.Code, got, p.code, room)
	}
}

// wantClose reads the close frame.
func (c *client) wantClose(code websocket.StatusCode, reason string) {
	c.t.Helper()
	text, closed := c.read()
	if closed == nil || closed.Code != code || closed.Reason != reason {
		c.t.Fatalf("got %q, %+v, want the close %d %q", text, closed, code, reason)
	}
}

// send sends a frame.
func (c *client) send(format string, args ...any) {
	c.t.Helper()
	if err := c.Write(context.Background(), websocket.MessageText, fmt.Appendf(nil, format, args...)); err != nil {
		_, closed := c.read()
		c.t.Fatal(err, closed)
	}
}

// say sends messages to a room.
func (c *client) say(r RoomConfig, contents ...string) {
	c.t.Helper()
	var ms []map[string]string
	for _, text := range contents {
		ms = append(ms, map[string]string{"content": text})
	}
	b, _ := json.Marshal(ms)
	c.send(`{"type":"clientMessages","payload":{"roomId":%q,"messages":%s}}`, r.ID, b)
}

// contents are those of messages, with commas between them.
func contents(ms []wireMessage) string {
	var all []string
	for _, m := range ms {
		all = append(all, m.Content)
	}
	return strings.Join(all, ",")
}

// numbered are contents: prefix and a number, from first to last.
func numbered(prefix string, first, last int) (all []string) {
	for i := first; i <= last; i++ {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// backwards is numbered in the other order, with commas between them.
func backwards(prefix string, last, first int) string {
	var all []string
	for i := last; i >= first; i-- {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return strings.Join(all, ",")
}

func isTrue(b *bool) bool { return b != nil && *b }

// wantLong is wantClose for one that comes late, by a clock of its own. Pings are
// answered meanwhile.
func (c *client) wantLong(t *testing.T, code websocket.StatusCode, reason string) {
	t.Helper()
	_, _, err := c.Read(context.Background())
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != code || closed.Reason != reason {
		t.Fatalf("got %v, want the close %d %q", err, code, reason)
	}
}
