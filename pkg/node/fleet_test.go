package node

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/deploy/nginxtest"
	"parley/pkg/relaytest"
)

// stream sends numbered texts from a to b, each after the one before was
// answered, until stop is closed or a's connection ends. It records the number
// of each one that was acknowledged.
func stream(a, b *client, stop <-chan struct{}, acked *[]int) {
	for i := 0; ; i++ {
		id, err := a.send(b.id, fmt.Sprint(i))
		if err != nil {
			return
		}
		for a.outcome(id) == "" {
			select {
			case <-stop:
				return
			case <-a.gone:
				if a.outcome(id) == "" {
					return
				}
			case <-time.After(time.Millisecond):
			}
		}
		if a.outcome(id) == "ack" {
			*acked = append(*acked, i)
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// Three nodes over one Redis, under traffic: one is killed, one drained. Clients
// of the third notice nothing, and the drained ones are sent away in good order.
func TestFleet(t *testing.T) {
	redis := relaytest.StartRedis(t)
	args := []string{"--redis-url=" + redis.URL(), "--drain-delay=100ms", "--drain-window=1s"}
	killed, drained, stays := startNode(t, args...), startNode(t, args...), startNode(t, args...)
	ready(t, killed, drained, stays)

	const pairs = 8
	type pair struct {
		from, to *client
		acked    []int
	}
	var safe, leaving, others []*pair
	for range pairs {
		safe = append(safe, &pair{from: dial(t, stays.addr), to: dial(t, stays.addr)})
		others = append(others,
			&pair{from: dial(t, killed.addr), to: dial(t, stays.addr)},
			&pair{from: dial(t, stays.addr), to: dial(t, drained.addr)},
			&pair{from: dial(t, drained.addr), to: dial(t, killed.addr)})
		leaving = append(leaving, &pair{from: dial(t, drained.addr), to: dial(t, stays.addr)})
	}
	others = append(others, leaving...)
	stop := make(chan struct{})
	var streams sync.WaitGroup
	for _, p := range append(append([]*pair(nil), safe...), others...) {
		streams.Go(func() { stream(p.from, p.to, stop, &p.acked) })
	}
	flowing := func(ps []*pair, more int) func() bool {
		marks := make([]int, len(ps))
		for i, p := range ps {
			marks[i] = len(p.to.from(p.from.id)) + more
		}
		return func() bool {
			for i, p := range ps {
				if len(p.to.from(p.from.id)) < marks[i] {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "everybody hears everybody", flowing(append(safe, others...), 20))

	killed.kill()
	eventually(t, "traffic goes on beside a dead node", flowing(safe, 20))

	began := time.Now()
	drained.term()
	eventually(t, "the drained node refuses", func() bool {
		r, err := http.Get("http://" + drained.addr + "/healthz")
		if err != nil {
			return true
		}
		r.Body.Close()
		return r.StatusCode == http.StatusServiceUnavailable
	})
	eventually(t, "traffic goes on beside a draining node", flowing(safe, 20))
	var first, last time.Time
	n := 0
	for _, p := range others {
		for _, c := range []*client{p.from, p.to} {
			if c.addr != drained.addr {
				continue
			}
			<-c.gone
			if c.closed != websocket.StatusServiceRestart {
				t.Errorf("a client of the drained node was closed with %d, want 1012", c.closed)
			}
			if n++; first.IsZero() || c.closedAt.Before(first) {
				first = c.closedAt
			}
			if c.closedAt.After(last) {
				last = c.closedAt
			}
		}
	}
	if n != 3*pairs {
		t.Errorf("%d clients were on the drained node, want %d", n, 3*pairs)
	}
	t.Logf("%d clients closed from %s to %s after SIGTERM", n, first.Sub(began), last.Sub(began))
	if spread := last.Sub(first); spread < 500*time.Millisecond {
		t.Errorf("closed within %s, want them spread over the window of 1s", spread)
	}
	close(stop)
	streams.Wait()

	for i, p := range safe {
		var got []string
		want := make([]string, len(p.acked))
		for j, n := range p.acked {
			want[j] = fmt.Sprint(n)
		}
		eventually(t, "the last messages", func() bool {
			got = p.to.from(p.from.id)
			return len(got) >= len(want)
		})
		if fmt.Sprint(got[:len(want)]) != fmt.Sprint(want) || len(got) > len(want)+1 {
			t.Errorf("pair %d: %d acknowledged, %d delivered, or not in order", i, len(want), len(got))
		}
	}
	for _, p := range leaving { // what a client had sent before it was sent away was answered
		if got := p.to.from(p.from.id); len(got) != len(p.acked) {
			t.Errorf("%d messages delivered from the drained node, %d acknowledged", len(got), len(p.acked))
		}
	}
	for _, p := range others { // whatever came, came once and in order
		last := -1
		for _, text := range p.to.from(p.from.id) {
			var n int
			if _, err := fmt.Sscan(text, &n); err != nil || n <= last {
				t.Fatalf("%q after %d", text, last)
			}
			last = n
		}
	}
	for _, p := range safe {
		talk(t, p.from, p.to, "and on")
	}
}

// A Redis that is not there: the node lives, is not ready, and says so; clients
// hear EBROKER within two seconds; when Redis comes, all is well by itself.
func TestRedisAwayAtStart(t *testing.T) {
	redis := relaytest.StartRedis(t)
	redis.Kill()
	n := startNode(t, "--redis-url="+redis.URL())
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		r, err := http.Get("http://" + n.InternalAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s says %d, want %d", path, r.StatusCode, want)
		}
	}
	began := time.Now()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+n.addr+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	c := &client{ws: ws}
	m, err := c.read(t.Context())
	if err != nil || m.Kind != "error" || !strings.Contains(string(m.Data), "EBROKER") {
		t.Errorf("got %v, %v, want an error EBROKER", m, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the error took %s", took)
	}
	if _, err := c.read(t.Context()); websocket.CloseStatus(err) != websocket.StatusTryAgainLater {
		t.Errorf("closed with %v, want 1013", err)
	}
	eventually(t, "the log says so", func() bool { return logged(n, "not ready") && logged(n, "--redis-url") })
	redis.Restart(t)
	ready(t, n)
	a, b := dial(t, n.addr), dial(t, n.addr)
	talk(t, a, b, "hello")
}

// Redis stops answering, and then dies and comes back empty, with clients
// connected: each send is answered, and the same connections serve on.
func TestRedisGoesAndComes(t *testing.T) {
	redis := relaytest.StartRedis(t)
	n := startNode(t, "--redis-url="+redis.URL())
	ready(t, n)
	a, b := dial(t, n.addr), dial(t, n.addr)
	talk(t, a, b, "before")
	refused := func() {
		t.Helper()
		began := time.Now()
		id, err := a.send(b.id, "into the void")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "an answer", func() bool { return a.outcome(id) != "" })
		if a.outcome(id) != "EBROKER" {
			t.Errorf("outcome %s, want EBROKER", a.outcome(id))
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("answered after %s, want 2s at most", took)
		}
	}
	back := func(what string) {
		t.Helper()
		began := time.Now()
		eventually(t, "service after "+what, func() bool {
			id, err := a.send(b.id, what)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "an answer", func() bool { return a.outcome(id) != "" })
			got := b.from(a.id)
			return len(got) > 0 && got[len(got)-1] == what
		})
		t.Logf("service was back %s after %s", time.Since(began).Round(time.Millisecond), what)
	}
	redis.Stop(t)
	refused()
	redis.Cont(t)
	back("redis was stopped")
	redis.Kill()
	refused()
	redis.Restart(t)
	back("redis was restarted")
}

// Nodes behind the nginx of the fleet: clients talk across nodes, and the log
// has their real address, whatever they claim.
func TestBehindNginx(t *testing.T) {
	redis := relaytest.StartRedis(t)
	var nodes []*testNode
	var backends []string
	for range 3 {
		n := startNode(t, "--redis-url="+redis.URL(), "--trusted-proxies=127.0.0.1", "--drain-delay=0s", "--drain-window=200ms")
		nodes, backends = append(nodes, n), append(backends, n.addr)
	}
	ready(t, nodes...)
	addr := nginxtest.Start(t, backends...)
	var clients []*client
	for range 9 {
		clients = append(clients, dial(t, addr))
	}
	var open []int
	for _, n := range nodes {
		open = append(open, n.group.Len())
	}
	if fmt.Sprint(open) != "[3 3 3]" {
		t.Errorf("connections on the nodes: %v, want them even", open)
	}
	for i, c := range clients {
		talk(t, c, clients[(i+1)%len(clients)], fmt.Sprint("hello ", i))
	}
	elsewhere := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}).DialContext}}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/v1/texto", &websocket.DialOptions{
		HTTPClient: elsewhere, HTTPHeader: http.Header{"X-Forwarded-For": {"203.0.113.9"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	eventually(t, "the client's address in a log", func() bool {
		return logged(nodes[0], "client=127.0.0.77") || logged(nodes[1], "client=127.0.0.77") || logged(nodes[2], "client=127.0.0.77")
	})
	for _, n := range nodes {
		if logged(n, "203.0.113.9") {
			t.Error("a client's own X-Forwarded-For was believed")
		}
	}
	// A node goes; who comes now is served by the others.
	nodes[0].term()
	var gone atomic.Int32
	for _, c := range clients {
		go func() { <-c.gone; gone.Add(1) }()
	}
	eventually(t, "the node's clients are sent away", func() bool { return gone.Load() == 3 && nodes[0].group.Len() == 0 })
	again := dial(t, addr)
	for _, c := range clients {
		select {
		case <-c.gone:
		default:
			talk(t, again, c, "still here")
		}
	}
}
