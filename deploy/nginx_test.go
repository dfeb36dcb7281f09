package deploy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/deploy/nginxtest"
)

// patience bounds what a test waits for; nothing is expected to take long.
const patience = 20 * time.Second

// backend answers as a relay node does in the respects that concern nginx: it
// upgrades /v1/texto and echoes, and refuses while it drains.
type backend struct {
	name     string
	addr     string
	draining atomic.Bool
	asked    atomic.Int32
	header   chan http.Header // of each request, in order
}

func startNode(t *testing.T, name string) *backend {
	t.Helper()
	n := &backend{name: name, header: make(chan http.Header, 100)}
	s := httptest.NewServer(n)
	t.Cleanup(s.Close)
	n.addr = s.Listener.Addr().String()
	return n
}

func (n *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.asked.Add(1)
	h := r.Header.Clone()
	h.Set("Host", r.Host)
	n.header <- h
	switch {
	case n.draining.Load():
		w.Header().Set("Retry-After", "7")
		http.Error(w, n.name, http.StatusServiceUnavailable)
	case r.URL.Path == "/too-many":
		w.Header().Set("Retry-After", "9")
		http.Error(w, n.name, http.StatusTooManyRequests)
	case r.Header.Get("Upgrade") != "":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte(n.name+" "), text...)); err != nil {
				return
			}
		}
	default:
		io.WriteString(w, n.name)
	}
}

// dial opens a WebSocket through nginx and returns the name of the node at the
// other end, which it has heard from.
func dial(t *testing.T, nginx string) (*websocket.Conn, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+nginx+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	_, text, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	name, rest, _ := strings.Cut(string(text), " ")
	if rest != "hello" {
		t.Fatalf("sent hello, got %q", text)
	}
	return c, name
}

// get asks nginx for a path with the given headers and returns the answer and
// its body.
func get(t *testing.T, nginx, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+nginx+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, "" // the body is the open connection
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// refusing returns an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNginxSpreadsWebSocketsByOpenConnections(t *testing.T) {
	a, b, c := startNode(t, "a"), startNode(t, "b"), startNode(t, "c")
	nginx := nginxtest.Start(t, a.addr, b.addr, c.addr)

	held := map[string]int{}
	for range 30 {
		_, name := dial(t, nginx)
		held[name]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if held[name] != 10 {
			t.Errorf("node %s holds %d of 30 connections, want 10 (%v)", name, held[name], held)
		}
	}
}

func TestNginxTellsNodesWhoTheClientIs(t *testing.T) {
	a := startNode(t, "a")
	nginx := nginxtest.Start(t, a.addr)

	get(t, nginx, "/healthz", http.Header{
		"X-Forwarded-For":   {"203.0.113.9"},
		"X-Real-Ip":         {"203.0.113.9"},
		"X-Forwarded-Proto": {"https"},
		"Forwarded":         {"for=203.0.113.9"},
	})
	h := <-a.header
	for name, want := range map[string]string{
		"Host": nginx, // with the port, as in a browser's Origin
		// The real address comes last, whatever was claimed before it.
		"X-Forwarded-For":   "203.0.113.9, 127.0.0.1",
		"X-Real-Ip":         "127.0.0.1",
		"X-Forwarded-Proto": "http",
		"Forwarded":         "",
	} {
		if got := strings.Join(h.Values(name), "|"); got != want {
			t.Errorf("%s: %q reached the node, want %q", name, got, want)
		}
	}
}

func TestNginxUpgradesToWebSocketOnly(t *testing.T) {
	a := startNode(t, "a")
	nginx := nginxtest.Start(t, a.addr)

	resp, body := get(t, nginx, "/", http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"}})
	if resp.StatusCode != http.StatusOK || body != "a" {
		t.Errorf("a request for h2c was answered %d %q", resp.StatusCode, body)
	}
	h := <-a.header
	if h.Get("Upgrade") != "" || h.Get("Connection") != "" {
		t.Errorf("Upgrade %q and Connection %q reached the node", h.Get("Upgrade"), h.Get("Connection"))
	}

	if resp, _ := get(t, nginx, "/v1/texto", http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("an upgrade as Firefox writes it was answered %d", resp.StatusCode)
	}
}

func TestNginxPassesOverANodeThatIsGone(t *testing.T) {
	a := startNode(t, "a")
	nginx := nginxtest.Start(t, refusing(t), a.addr, refusing(t))

	for range 10 {
		if _, name := dial(t, nginx); name != "a" {
			t.Fatalf("reached %q", name)
		}
	}
}

func TestNginxTurnsToABackupLast(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr+" backup")

	for range 10 {
		if _, name := dial(t, nginx); name != "a" {
			t.Fatalf("reached %q while a is there", name)
		}
	}
	a.draining.Store(true)
	if _, name := dial(t, nginx); name != "b" {
		t.Errorf("reached %q while a drains", name)
	}
}

func TestNginxPassesOverADrainingNode(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr)

	stays, name := dial(t, nginx)
	drains, other := a, b
	if name == "b" {
		drains, other = b, a
	}
	drains.draining.Store(true)
	for range 10 {
		if _, name := dial(t, nginx); name != other.name {
			t.Fatalf("a new connection went to %q, which drains", name)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := stays.Write(ctx, websocket.MessageText, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := stays.Read(ctx); err != nil || string(text) != drains.name+" still here" {
		t.Fatalf("a connection of the draining node got %q, %v", text, err)
	}

	// A node that is back is used at once, and catches up with the other.
	drains.draining.Store(false)
	for i := range 9 {
		if _, name := dial(t, nginx); name != drains.name {
			t.Fatalf("connection %d went to the fuller node %q", i, name)
		}
	}
}

func TestNginxPassesOnTheRefusalOfAWholeFleet(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr)
	a.draining.Store(true)
	b.draining.Store(true)

	resp, body := get(t, nginx, "/v1/texto", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("got %d, Retry-After %q, %q; want a node's own answer", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
	if a.asked.Load() != 1 || b.asked.Load() != 1 {
		t.Errorf("a was asked %d times, b %d times, want once each", a.asked.Load(), b.asked.Load())
	}
}

func TestNginxDoesNotTakeALimitOnTheClientToTheNextNode(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr)

	resp, _ := get(t, nginx, "/too-many", nil)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "9" {
		t.Errorf("got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if asked := a.asked.Load() + b.asked.Load(); asked != 1 {
		t.Errorf("%d nodes were asked", asked)
	}
}

func TestNginxAsksClientsToWaitWhenNoNodeIsInReach(t *testing.T) {
	nginx := nginxtest.Start(t, refusing(t), refusing(t))

	resp, body := get(t, nginx, "/v1/texto", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, %q", resp.StatusCode, resp.Header.Get("Retry-After"), body)
	}
}

func TestNginxDoesNotSendAPostTwice(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr)
	a.draining.Store(true)
	b.draining.Store(true)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+nginx+"/", strings.NewReader("once"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if asked := a.asked.Load() + b.asked.Load(); asked != 1 {
		t.Errorf("the request was sent %d times", asked)
	}
}

// A request that is sent to a second node has the same key there: the client's own, or one
// that no other request has.
func TestNginxGivesARequestOneKey(t *testing.T) {
	a, b := startNode(t, "a"), startNode(t, "b")
	nginx := nginxtest.Start(t, a.addr, b.addr)
	a.draining.Store(true)
	b.draining.Store(true)
	seen := map[string]bool{}
	for _, own := range []string{"", "", "the client's own"} {
		header := http.Header{}
		if own != "" {
			header.Set("Idempotency-Key", own)
		}
		get(t, nginx, "/Users/1/conversation?sender=2", header)
		first, second := (<-a.header).Get("Idempotency-Key"), (<-b.header).Get("Idempotency-Key")
		if first != second || first == "" || seen[first] || own != "" && first != own {
			t.Errorf("asked with the key %q, the nodes got %q and %q", own, first, second)
		}
		seen[first] = true
	}
}
