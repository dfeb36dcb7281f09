package conn

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"parley/pkg/web"
)

func TestAdmitAtItsEdges(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	f := newFixture(t, Config{MaxConnections: 3, MaxConnectionsPerIP: 2}, funcs{})
	g := f.group
	step := func(ip netip.Addr, want Refusal) {
		t.Helper()
		if got := g.Admit(ip); got != want {
			t.Errorf("%v: %q, want %q", ip, got, want)
		}
	}
	step(a, Admitted)
	step(a, Admitted)
	step(a, AddressFull)
	step(b, Admitted)
	step(b, NodeFull)
	step(a, NodeFull) // both limits: the node's comes first
	if g.Len() != 3 {
		t.Errorf("%d connections, want 3", g.Len())
	}
	g.Leave(a)
	step(b, Admitted)
	g.Leave(b)
	step(a, Admitted)
	step(a, NodeFull)
	g.Leave(b)
	step(a, AddressFull)
	g.Refuse()
	step(b, Draining)
	g.Leave(a)
	g.Leave(a)
	if g.Len() != 0 || len(g.perIP) != 0 {
		t.Errorf("all have left: %d connections, %v", g.Len(), g.perIP)
	}
	step(a, Draining)
	if g.Len() != 0 {
		t.Errorf("%d connections: one that was refused is counted", g.Len())
	}
}

func TestAdmitAllAtOnce(t *testing.T) {
	const limit = 10
	f := newFixture(t, Config{MaxConnectionsPerIP: limit, MaxConnections: 2 * limit}, funcs{})
	var admitted [4]atomic.Int32
	var wg sync.WaitGroup
	for i := range 40 * limit {
		wg.Go(func() {
			if f.group.Admit(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 2)})) == Admitted {
				admitted[i%2].Add(1)
			}
		})
	}
	wg.Wait()
	if a, b := admitted[0].Load(), admitted[1].Load(); a > limit || b > limit || int(a+b) != f.group.Len() {
		t.Errorf("%d and %d admitted, %d counted; the limit is %d each", a, b, f.group.Len(), limit)
	}
	for i := range admitted[:2] {
		for range admitted[i].Load() {
			f.group.Leave(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		}
	}
}

// Whatever way a connection goes, its place is free again.
func TestEveryEndFreesThePlace(t *testing.T) {
	closed := clientFrame(bitFin, opClose, []byte(closePayload(1000, "")))
	f := newFixture(t, Config{MaxConnections: 1, MaxConnectionsPerIP: 1, MaxFrameBytes: testFrameLimit, MaxQueueBytes: 1 << 10},
		funcs{message: func(c *Conn, data []byte) {
			switch string(data) {
			case "panic":
				panic(string(data))
			case "close":
				c.Close(CodePolicy, "", ReasonFlood)
			case "cut":
				c.cut(ReasonDrain)
			}
		}}).listen()
	message := func(s string) func(*peer, *Conn) { return func(p *peer, _ *Conn) { p.send(OpText, s) } }
	for name, end := range map[string]func(*peer, *Conn){
		"peer closes":   func(p *peer, _ *Conn) { p.write(closed) },
		"peer vanishes": func(p *peer, _ *Conn) { _ = p.nc.Close() },
		"peer resets": func(p *peer, _ *Conn) {
			_ = p.nc.(*net.TCPConn).SetLinger(0)
			_ = p.nc.Close()
		},
		"protocol error":    func(p *peer, _ *Conn) { p.write(violations["unmasked"]) },
		"too big":           func(p *peer, _ *Conn) { p.send(OpText, string(make([]byte, testFrameLimit+1))) },
		"handler panics":    message("panic"),
		"handler closes":    message("close"),
		"cut":               message("cut"),
		"slow":              func(_ *peer, c *Conn) { deliver(c, make([]byte, 32<<20)) },
		"closed from aside": func(_ *peer, c *Conn) { c.Close(CodeRestart, "", ReasonDrain) },
	} {
		t.Run(name, func(t *testing.T) {
			p := f.connect(t)
			c := <-f.opened
			if got := f.group.Admit(netip.MustParseAddr("192.0.2.9")); got != NodeFull {
				t.Fatalf("a second connection: %q", got)
			}
			end(p, c)
			p.leave()
			<-f.ended
			waitFor(func() bool { return f.group.Len() == 0 })
			f.group.mu.Lock()
			defer f.group.mu.Unlock()
			if len(f.group.perIP) != 0 {
				t.Errorf("addresses that are still counted: %v", f.group.perIP)
			}
		})
	}
}

// ask sends a request with headers and returns the answer.
func (f *fixture) ask(t *testing.T, request, headers string) *http.Response {
	t.Helper()
	p := f.dial(t)
	p.write([]byte(request + headers + "\r\n"))
	return p.response()
}

func TestRefusals(t *testing.T) {
	const plain = "GET / HTTP/1.1\r\nHost: relay.example\r\n"
	const from = "X-Forwarded-For: "
	proxies, err := web.ParseProxies("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, Config{MaxConnections: 3, MaxConnectionsPerIP: 2}, funcs{})
	f.sockets.Proxies = proxies
	f.sockets.Origins = web.Origins{"app.example"}
	f.listen()
	check := func(res *http.Response, status int, retry string, reason Refusal) {
		t.Helper()
		if res.StatusCode != status || res.Header.Get("Retry-After") != retry {
			t.Errorf("got %s, Retry-After %q, want %d, %q", res.Status, res.Header.Get("Retry-After"), status, retry)
		}
		if reason != "" && figure(t, f.metrics.refused.WithLabelValues(string(reason))) == 0 {
			t.Errorf("no refusal is counted for %s", reason)
		}
	}
	check(f.ask(t, plain, ""), http.StatusUpgradeRequired, "", "handshake")
	for range 2 {
		check(f.ask(t, handshake, from+"192.0.2.1\r\n"), http.StatusSwitchingProtocols, "", "")
	}
	check(f.ask(t, handshake, from+"192.0.2.1\r\n"), http.StatusTooManyRequests, "5", AddressFull)
	// A browser cannot see why a handshake was refused, but it can ask.
	check(f.ask(t, plain, from+"192.0.2.1\r\n"), http.StatusTooManyRequests, "5", AddressFull)
	// What a client says itself does not help it.
	check(f.ask(t, handshake, from+"192.0.2.77, 192.0.2.1\r\n"), http.StatusTooManyRequests, "5", AddressFull)
	check(f.ask(t, handshake, from+"192.0.2.2\r\n"), http.StatusSwitchingProtocols, "", "")
	check(f.ask(t, handshake, from+"192.0.2.3\r\n"), http.StatusServiceUnavailable, "5", NodeFull)
	check(f.ask(t, plain, ""), http.StatusServiceUnavailable, "5", NodeFull)
	f.group.Refuse()
	check(f.ask(t, handshake, ""), http.StatusServiceUnavailable, "1", Draining)
	check(f.ask(t, plain, ""), http.StatusServiceUnavailable, "1", Draining)
	// A page of an allowed origin may read it all; another one may not.
	res := f.ask(t, plain, "Origin: https://app.example\r\n")
	check(res, http.StatusServiceUnavailable, "1", Draining)
	if res.Header.Get("Access-Control-Allow-Origin") != "https://app.example" || res.Header.Get("Access-Control-Expose-Headers") != "ETag, Location, Retry-After" {
		t.Errorf("the page cannot read Retry-After: %v", res.Header)
	}
	res = f.ask(t, handshake, "Origin: https://elsewhere.example\r\n")
	check(res, http.StatusForbidden, "", "origin")
	if got := res.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("Access-Control-Allow-Origin is %q for a foreign page", got)
	}
}

// The address of a connection is the client's, not the proxy's.
func TestRemoteBehindProxy(t *testing.T) {
	f := newFixture(t, Config{}, funcs{})
	f.sockets.Proxies = web.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	f.listen()
	f.ask(t, handshake, "X-Forwarded-For: 2001:db8::7\r\n")
	if c := <-f.opened; c.Remote != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("the address is %v", c.Remote)
	}
}
