package rooms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// fixture is two nodes on a bus in memory.
type fixture struct {
	*bus
	nodes []*testNode
}

type testNode struct {
	server *Server
	group  *conn.Group
	hub    *hub.Hub
	web    *httptest.Server
	dial   func() (net.Conn, error)
}

// newFixture starts two nodes that end with the test: on loopback ports, or in memory,
// for tests with a clock of their own. There is a room 7 for three, with the secret 99.
func newFixture(t testing.TB, memory bool, cfg Config, limits conn.Config) *fixture {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	limits.Log = cfg.Log
	f := &fixture{bus: newBus()}
	f.room(7, 99, 3)
	for range 2 {
		metrics := conn.NewMetrics()
		n := &testNode{group: conn.NewGroup(limits, metrics)}
		n.hub = hub.New(f.bus, n.group)
		f.receivers = append(f.receivers, n.hub)
		n.server = New(cfg, Deps{
			Sockets:   &conn.Sockets{Group: n.group, Metrics: metrics, Log: cfg.Log},
			Hub:       n.hub,
			Publisher: f.bus,
			Seats:     f.bus,
		})
		if memory {
			l := relaytest.NewPipes()
			n.web = &httptest.Server{Listener: l, Config: &http.Server{Handler: n.server}}
			n.web.Start()
			n.dial = l.Dial
		} else {
			n.web = httptest.NewServer(n.server)
			n.dial = func() (net.Conn, error) { return net.Dial("tcp", n.web.Listener.Addr().String()) }
		}
		f.nodes = append(f.nodes, n)
	}
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.group.Close()
			n.server.Close()
			n.web.Close()
			if left := len(n.server.shards); left != 0 {
				t.Errorf("%d shards are left after the end", left)
			}
		}
		if n := f.subscribed(); n != 0 {
			t.Errorf("%d subscriptions are left after the end", n)
		}
		f.with(func() {
			for id, r := range f.rooms {
				if len(r.seats) != 0 {
					t.Errorf("room %d still has the seats %v after the end", id, r.seats)
				}
			}
		})
	})
	return f
}

// client is a WebSocket client.
type client struct {
	*websocket.Conn
	t testing.TB
}

// connect opens a connection to one of the nodes.
func (f *fixture) connect(t testing.TB, node int) *client {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.nodes[node].dial() }}
	ws, _, err := websocket.Dial(t.Context(), "ws://relay.example/v1/websocket", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{ws, t}
}

// messages are what the data of payloads is; nil: there is none.
var messages = map[roomspb.FlagType]func() proto.Message{
	roomspb.FlagType_REQUEST_RELAY_MESSAGE:        func() proto.Message { return &roomspb.Relay{} },
	roomspb.FlagType_REQUEST_CONNECT:              func() proto.Message { return &roomspb.JoinRoomRequest{} },
	roomspb.FlagType_REQUEST_RECONNECT:            func() proto.Message { return &roomspb.RejoinRoomRequest{} },
	roomspb.FlagType_REQUEST_KICK:                 func() proto.Message { return &roomspb.KickRequest{} },
	roomspb.FlagType_REQUEST_GRANT_HOST:           func() proto.Message { return &roomspb.GrantHostRequest{} },
	roomspb.FlagType_RESPONSE_RELAY_MESSAGE:       func() proto.Message { return &roomspb.Relay{} },
	roomspb.FlagType_RESPONSE_CONNECT:             func() proto.Message { return &roomspb.Client{} },
	roomspb.FlagType_RESPONSE_ASSIGN_HOST:         func() proto.Message { return &roomspb.FinishHostMigrationResponse{} },
	roomspb.FlagType_RESPONSE_FINISH_HOST_MIGRATE: func() proto.Message { return &roomspb.FinishHostMigrationResponse{} },
	roomspb.FlagType_RESPONSE_LIST:                func() proto.Message { return &roomspb.ClientList{} },
	roomspb.FlagType_RESPONSE_KICK:                func() proto.Message { return &roomspb.KickResponse{} },
	roomspb.FlagType_RESPONSE_ERROR:               func() proto.Message { return &roomspb.Error{} },
	roomspb.FlagType_RESPONSE_CLIENT_CONNECT:      func() proto.Message { return &roomspb.SanitisedClient{} },
	roomspb.FlagType_RESPONSE_CLIENT_DISCONNECT:   func() proto.Message { return &roomspb.SanitisedClient{} },
}

// encode makes a frame of its text: a flag and, after a space, fields of its message.
func encode(t testing.TB, text string) []byte {
	t.Helper()
	name, rest, _ := strings.Cut(text, " ")
	flag, ok := roomspb.FlagType_value[name]
	if !ok {
		t.Fatalf("no flag is called %q", name)
	}
	p := &roomspb.Payload{Flag: roomspb.FlagType(flag)}
	if make := messages[p.Flag]; make != nil {
		m := make()
		if err := prototext.Unmarshal([]byte(rest), m); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		p.Data, _ = proto.Marshal(m)
	}
	b, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode is the inverse of encode, for what a server sends.
func decode(t testing.TB, b []byte) string {
	t.Helper()
	var p roomspb.Payload
	if err := proto.Unmarshal(b, &p); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	make := messages[p.Flag]
	if make == nil || len(p.Data) == 0 && p.Flag == roomspb.FlagType_RESPONSE_ASSIGN_HOST {
		if len(p.Data) > 0 {
			t.Fatalf("%v has data %x", p.Flag, p.Data)
		}
		return p.Flag.String()
	}
	m := make()
	if err := proto.Unmarshal(p.Data, m); err != nil {
		t.Fatalf("%v: %x: %v", p.Flag, p.Data, err)
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%v has unknown fields: %x", p.Flag, p.Data)
	}
	return strings.TrimSpace(p.Flag.String() + " " + shown(m.ProtoReflect()))
}

// shown shows all fields of a message, those that are zero, too.
func shown(m protoreflect.Message) string {
	var parts []string
	all := m.Descriptor().Fields()
	for i := range all.Len() {
		field := all.Get(i)
		if field.HasPresence() && !m.Has(field) {
			continue
		}
		v := m.Get(field)
		switch {
		case field.IsList():
			for j := range v.List().Len() {
				parts = append(parts, fmt.Sprintf("%s:{%s}", field.Name(), shown(v.List().Get(j).Message())))
			}
		case field.Kind() == protoreflect.EnumKind:
			parts = append(parts, fmt.Sprintf("%s:%s", field.Name(), field.Enum().Values().ByNumber(v.Enum()).Name()))
		case field.Kind() == protoreflect.BytesKind:
			parts = append(parts, fmt.Sprintf("%s:%q", field.Name(), v.Bytes()))
		case field.Kind() == protoreflect.StringKind:
			parts = append(parts, fmt.Sprintf("%s:%q", field.Name(), v.String()))
		default:
			parts = append(parts, fmt.Sprintf("%s:%v", field.Name(), v.Interface()))
		}
	}
	return strings.Join(parts, " ")
}

// send sends what a text stands for, and sendBytes anything.
func (c *client) send(text string) {
	c.t.Helper()
	c.sendBytes(encode(c.t, text))
}

func (c *client) sendBytes(b []byte) {
	c.t.Helper()
	if err := c.Write(context.Background(), websocket.MessageBinary, b); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the text of the next message, or how the connection was closed.
func (c *client) read() (string, *websocket.CloseError) {
	c.t.Helper()
	b, closed := c.readFrame()
	if closed != nil {
		return "", closed
	}
	return decode(c.t, b), nil
}

func (c *client) readFrame() ([]byte, *websocket.CloseError) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kind, b, err := c.Read(ctx)
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return nil, &closed
	}
	if err != nil || kind != websocket.MessageBinary {
		c.t.Fatalf("read: %v", err)
	}
	return b, nil
}

// want reads messages, which must be these.
func (c *client) want(texts ...string) {
	c.t.Helper()
	for _, text := range texts {
		if got, closed := c.read(); got != text {
			c.t.Fatalf("got %s %v, want %s", got, closed, text)
		}
	}
}

func (c *client) wantError(p *problem) {
	c.t.Helper()
	c.want(fmt.Sprintf("RESPONSE_ERROR Code:%d message:%q", p.status, p.text))
}

func (c *client) wantClose(code int, reason string) {
	c.t.Helper()
	got, closed := c.read()
	if closed == nil || closed.Code != websocket.StatusCode(code) || closed.Reason != reason {
		c.t.Fatalf("got %s %+v, want the close %d %s", got, closed, code, reason)
	}
}

// wantNothing makes sure that nothing more has come: the answer to a mistake is next.
func (c *client) wantNothing() {
	c.t.Helper()
	if err := c.Write(context.Background(), websocket.MessageText, []byte("?")); err != nil {
		c.t.Fatal(err)
	}
	c.wantError(errText)
}

// join has a new client in room 7 of the fixture, and returns its secret. As the first
// one it is host.
func (f *fixture) join(t testing.TB, node int, id int32) (c *client, secret string) {
	t.Helper()
	first := false
	f.with(func() { first = len(f.rooms[7].seats) == 0 })
	c = f.connect(t, node)
	c.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
	got, closed := c.read()
	begin := fmt.Sprintf("RESPONSE_CONNECT ID:%d Secret:", id)
	if !strings.HasPrefix(got, begin) {
		t.Fatalf("got %s %v, want %s", got, closed, begin)
	}
	if first {
		c.want("RESPONSE_ASSIGN_HOST", fmt.Sprintf("RESPONSE_CLIENT_CONNECT ID:%d Host:true", id))
	}
	return c, strings.TrimPrefix(got, begin)
}

// members are the ids of who is in room 7.
func (f *fixture) members() (ids []int32) {
	f.with(func() {
		for id := range f.rooms[7].seats {
			ids = append(ids, id)
		}
	})
	slices.Sort(ids)
	return ids
}

func number(s string) int32 {
	n, _ := strconv.ParseInt(s, 10, 32)
	return int32(n)
}

var _ relay.Subscriptions = (*bus)(nil)
