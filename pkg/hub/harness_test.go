package hub

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// fixture is a hub over a group of connections, one on each loop.
type fixture struct {
	*Hub
	bus   *fakeBus
	group *conn.Group
	loops []*conn.Loop // each of the group's
	close func()       // the group; may be called again
}

// newFixture makes one that ends with the test.
func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	relaytest.NoLeaks(tb)
	group := conn.NewGroup(conn.Config{Log: slog.New(slog.DiscardHandler)}, conn.NewMetrics())
	f := &fixture{bus: &fakeBus{subscribed: map[relay.Topic]int{}}, group: group}
	f.Hub = New(f.bus, group)

	// A loop is known by its connections only.
	opened := make(chan *conn.Conn)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ip := netip.MustParseAddr("127.0.0.1")
		if refusal := group.Admit(ip); refusal != conn.Admitted {
			tb.Errorf("refused: %s", refusal)
			return
		}
		if err := group.Upgrade(w, r, ip, "test", func(c *conn.Conn) conn.Handler { return &silent{c, opened} }); err != nil {
			tb.Error(err)
		}
	}))
	clients := make([]*websocket.Conn, 0, runtime.GOMAXPROCS(0))
	f.close = sync.OnceFunc(func() {
		group.Close()
		for _, c := range clients {
			_ = c.CloseNow() // the group has cut it
		}
		server.Close()
	})
	tb.Cleanup(f.close)
	seen := map[*conn.Loop]bool{}
	for range runtime.GOMAXPROCS(0) {
		c, _, err := websocket.Dial(tb.Context(), "ws"+strings.TrimPrefix(server.URL, "http"), nil)
		if err != nil {
			tb.Fatal(err)
		}
		clients = append(clients, c)
		if loop := (<-opened).Loop(); !seen[loop] {
			seen[loop] = true
			f.loops = append(f.loops, loop)
		}
	}
	return f
}

// silent is the handler of a connection that says nothing.
type silent struct {
	conn   *conn.Conn
	opened chan<- *conn.Conn
}

func (s *silent) Open() error {
	s.opened <- s.conn
	return nil
}
func (s *silent) Message([]byte)     {}
func (s *silent) Closed(conn.Reason) {}

// fakeBus is a bus on which every subscription is confirmed at once, or fails.
type fakeBus struct {
	mu         sync.Mutex
	subscribed map[relay.Topic]int
	place      relay.Position
	err        error
}

func (b *fakeBus) Subscribe(_ context.Context, topics ...relay.Topic) ([]relay.Position, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return nil, b.err
	}
	places := make([]relay.Position, len(topics))
	for i, t := range topics {
		b.subscribed[t]++
		places[i] = b.place
	}
	return places, nil
}

func (b *fakeBus) SubscribeNew(ctx context.Context, t relay.Topic) (relay.Position, error) {
	places, err := b.Subscribe(ctx, t)
	if err != nil {
		return relay.Position{}, err
	}
	return places[0], nil
}

func (b *fakeBus) Unsubscribe(topics ...relay.Topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range topics {
		if b.subscribed[t]--; b.subscribed[t] == 0 {
			delete(b.subscribed, t)
		}
	}
}

func (b *fakeBus) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// count is how many subscriptions of a topic the bus knows.
func (b *fakeBus) count(t relay.Topic) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribed[t]
}

// listener is a Subscriber that keeps what it is given.
type listener struct {
	loop *conn.Loop

	mu  sync.Mutex
	got []string
}

func (l *listener) Loop() *conn.Loop { return l.loop }

func (l *listener) Deliver(m *relay.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, string(m.Body))
}

func (l *listener) bodies() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.got...)
}

func (f *fixture) subscribe(tb testing.TB, t relay.Topic, s Subscriber) {
	tb.Helper()
	place, err := f.Subscribe(tb.Context(), t, s)
	if err != nil {
		tb.Errorf("Subscribe: %v", err)
	}
	if place != f.bus.place {
		tb.Errorf("place %v, want the bus's, %v", place, f.bus.place)
	}
}

func (f *fixture) send(t relay.Topic, body string) {
	f.Dispatch(relay.Message{Topic: t, Body: []byte(body)})
}

// settle returns when everything that was dispatched has been delivered.
func (f *fixture) settle() {
	var wg sync.WaitGroup
	for _, loop := range f.loops {
		wg.Add(1)
		loop.Post([]conn.Deliverer{deliverFunc(func() { wg.Done() })}, relay.Message{})
	}
	f.Flush()
	wg.Wait()
}

type deliverFunc func()

func (f deliverFunc) Deliver(*relay.Message) { f() }
