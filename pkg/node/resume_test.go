package node

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"parley/pkg/relaytest"
)

// receiver is a client that comes back, and keeps each message once.
type receiver struct {
	t     *testing.T
	ws    *websocket.Conn
	id    string // the address; "" before the first greeting
	token string
	last  string
	seen  map[string]bool
	texts []string
	again int // messages that came more than once
	told  int // of gaps
}

// come opens a connection, under the address that the client has, if any.
func (r *receiver) come(addr string) {
	r.t.Helper()
	url := "ws://" + addr + "/v1/texto"
	if r.token != "" {
		url += "?resume=" + r.token + "&last=" + r.last
	}
	ws, _, err := websocket.Dial(r.t.Context(), url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	r.ws = ws
	resumes := r.token != ""
	if err := r.next(); err != nil {
		r.t.Fatal(err)
	}
	if resumes && r.id == "" {
		r.t.Fatal("the session was not resumed")
	}
}

// next reads a message. The error is that of the connection.
func (r *receiver) next() error {
	r.t.Helper()
	_, b, err := r.ws.Read(r.t.Context())
	if err != nil {
		return err
	}
	var m struct {
		ClientID string `json:"client_id"`
		ID       string
		Kind     string
		Data     struct {
			Text      string
			Resume    string
			Recovered *bool
			Code      string
		}
	}
	if err := json.Unmarshal(b, &m); err != nil {
		r.t.Fatal(err)
	}
	switch m.Kind {
	case "connection":
		if r.id != "" && m.ClientID != r.id {
			r.t.Fatalf("the address is %s, was %s", m.ClientID, r.id)
		}
		r.id, r.token = m.ClientID, m.Data.Resume
		if m.Data.Recovered != nil && !*m.Data.Recovered {
			r.told++
		}
	case "receive":
		r.last = m.ID
		if r.seen[m.ID] {
			r.again++
			break
		}
		r.seen[m.ID] = true
		r.texts = append(r.texts, m.Data.Text)
	default:
		r.t.Fatalf("got %s", b)
	}
	return nil
}

// until reads until so many different messages have come.
func (r *receiver) until(n int) {
	r.t.Helper()
	for len(r.texts) < n {
		if err := r.next(); err != nil {
			r.t.Fatal(err)
		}
	}
}

func newReceiver(t *testing.T, addr string) *receiver {
	t.Helper()
	r := &receiver{t: t, seen: map[string]bool{}}
	r.come(addr)
	return r
}

func startNodes(t *testing.T, n int, args ...string) (nodes []*testNode) {
	t.Helper()
	for range n {
		nodes = append(nodes, startNode(t, args...))
	}
	ready(t, nodes...)
	return nodes
}

// sendAll sends numbered texts and waits until all are acknowledged.
func sendAll(t *testing.T, from *client, to string, first, n int) {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		var err error
		if ids[i], err = from.send(to, fmt.Sprint(first+i)); err != nil {
			t.Error(err)
			return
		}
	}
	for _, id := range ids {
		relaytest.Eventually(t, "an answer", func() bool { return from.outcome(id) != "" })
		if got := from.outcome(id); got != "ack" {
			t.Errorf("a message was answered with %s", got)
		}
	}
}

func (r *receiver) wantInOrder() {
	r.t.Helper()
	for i, text := range r.texts {
		if text != fmt.Sprint(i) {
			r.t.Fatalf("message %d is %q", i, text)
		}
	}
}

// administer returns a client of the Redis itself.
func administer(t *testing.T, server *relaytest.Redis) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A client whose node has died finds its address and its messages on another one,
// and what it has missed comes before anything newer.
func TestResumeOnAnotherNode(t *testing.T) {
	redis := relaytest.StartRedis(t)
	nodes := startNodes(t, 3, "--redis-url="+redis.URL())
	sender := dial(t, nodes[2].addr)
	r := newReceiver(t, nodes[0].addr)
	sendAll(t, sender, r.id, 0, 10)
	r.until(5) // the rest is on its way when the node dies
	nodes[0].kill()
	sendAll(t, sender, r.id, 10, 600)
	r.come(nodes[1].addr)
	sendAll(t, sender, r.id, 610, 10)
	r.until(620)
	r.wantInOrder()
	if r.told != 0 || r.again != 0 {
		t.Errorf("%d gaps told, %d messages came again", r.told, r.again)
	}
}

// A client goes from node to node while it is written to. It misses nothing.
func TestResumeUnderTraffic(t *testing.T) {
	const total, hops = 3000, 15
	redis := relaytest.StartRedis(t)
	nodes := startNodes(t, 3, "--redis-url="+redis.URL())
	sender := dial(t, nodes[0].addr)
	r := newReceiver(t, nodes[0].addr)
	to := r.id
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; n < total; n += 50 {
			sendAll(t, sender, to, n, 50)
		}
	})
	for hop := 1; hop <= hops; hop++ {
		r.until(hop * total / (hops + 1))
		if hop%2 == 0 {
			_ = r.ws.CloseNow() // else the connection before is taken over
		}
		r.come(nodes[hop%len(nodes)].addr)
	}
	r.until(total)
	wg.Wait()
	r.wantInOrder()
	if r.told != 0 {
		t.Errorf("%d gaps told", r.told)
	}
	t.Logf("%d messages, %d of them again", total, r.again)
}

// The connection that had the session hears that another one, on another node, has
// it now.
func TestTakeoverAcrossNodes(t *testing.T) {
	for name, args := range map[string][]string{"kept": nil, "unkept": {"--direct-retention=0"}} {
		t.Run(name, func(t *testing.T) {
			redis := relaytest.StartRedis(t)
			nodes := startNodes(t, 2, append(args, "--redis-url="+redis.URL())...)
			before := newReceiver(t, nodes[0].addr)
			after := &receiver{t: t, seen: map[string]bool{}, token: before.token, id: before.id}
			after.come(nodes[1].addr)
			err := before.next()
			if websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "taken over by another connection") {
				t.Errorf("the first connection ended with %v", err)
			}
			sendAll(t, dial(t, nodes[0].addr), after.id, 0, 3)
			after.until(3)
			after.wantInOrder()
			if unkept := args != nil; (after.told == 1) != unkept {
				t.Errorf("%d gaps told", after.told)
			}
		})
	}
}

// Redis loses all that it has kept. Whoever comes back is told.
func TestResumeAfterFlush(t *testing.T) {
	server := relaytest.StartRedis(t)
	nodes := startNodes(t, 2, "--redis-url="+server.URL())
	sender := dial(t, nodes[0].addr)
	r := newReceiver(t, nodes[0].addr)
	sendAll(t, sender, r.id, 0, 1)
	r.until(1)
	_ = r.ws.CloseNow()
	relaytest.Eventually(t, "the node has let the client go", func() bool { return nodes[0].group.Len() == 1 })
	sendAll(t, sender, r.id, 1, 5) // which is lost
	if err := administer(t, server).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.come(nodes[1].addr)
	if r.told != 1 {
		t.Errorf("%d gaps told, want the one", r.told)
	}
	sendAll(t, sender, r.id, 6, 1)
	r.until(2)
	if r.texts[1] != "6" {
		t.Errorf("got %q", r.texts)
	}
}

// What was not kept long enough is told as missing.
func TestResumeTooLate(t *testing.T) {
	server := relaytest.StartRedis(t)
	nodes := startNodes(t, 1, "--redis-url="+server.URL(), "--direct-retention=1s")
	sender := dial(t, nodes[0].addr)
	r := newReceiver(t, nodes[0].addr)
	_ = r.ws.CloseNow()
	sendAll(t, sender, r.id, 0, 1)
	admin := administer(t, server)
	relaytest.Eventually(t, "the message is forgotten", func() bool {
		streams, err := admin.Keys(t.Context(), "parley:s:*"+r.id).Result()
		return err == nil && len(streams) == 0
	})
	r.come(nodes[0].addr)
	if r.told != 1 {
		t.Errorf("%d gaps told, want the one", r.told)
	}
}

// Nodes with other secrets take nobody's token; while secrets are replaced, those
// that know both do. A node without one says so in its log.
func TestFleetSecrets(t *testing.T) {
	redis := relaytest.StartRedis(t)
	url := "--redis-url=" + redis.URL()
	const older, newer = "the secret of old", "the secret of now"
	from := startNode(t, url, "--fleet-secret="+older)
	both := startNode(t, url, "--fleet-secret="+newer+","+older)
	other := startNode(t, url, "--fleet-secret="+newer)
	none := startNode(t, url, "--fleet-secret=")
	alone := startNode(t, "--fleet-secret=")
	ready(t, from, both, other, none, alone)
	r := newReceiver(t, from.addr)
	r.come(both.addr)
	r.come(other.addr) // with the token of the one before
	for _, n := range []*testNode{from, none, alone} {
		ws, _, err := websocket.Dial(t.Context(), "ws://"+n.addr+"/v1/texto?resume="+r.token, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		if _, b, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(b), "ERESUME") {
			t.Errorf("got %s, %v", b, err)
		}
	}
	for _, c := range []struct {
		node *testNode
		want string
	}{{none, "level=WARN"}, {alone, "level=INFO"}} {
		found := false
		for line := range strings.Lines(c.node.log.String()) {
			found = found || strings.Contains(line, c.want) && strings.Contains(line, "--fleet-secret")
		}
		if !found {
			t.Errorf("no line with %s tells of the missing secret:\n%s", c.want, c.node.log)
		}
	}
	for _, n := range []*testNode{from, both, other} {
		if logged(n, older) || logged(n, newer) || logged(n, "--fleet-secret") {
			t.Errorf("the log tells of a secret:\n%s", n.log)
		}
	}
}

// Redis dies and comes back empty. Clients that are connected are told where
// messages may be missing; the token that comes with it is good, the one before is
// of a history that is gone.
func TestGapIsTold(t *testing.T) {
	server := relaytest.StartRedis(t)
	nodes := startNodes(t, 2, "--redis-url="+server.URL())
	sender := dial(t, nodes[0].addr)
	r := newReceiver(t, nodes[1].addr)
	sendAll(t, sender, r.id, 0, 1)
	r.until(1)
	older := r.token
	server.Kill()
	server.Restart(t)
	for r.told == 0 {
		if err := r.next(); err != nil {
			t.Fatal(err)
		}
	}
	_ = r.ws.CloseNow()
	ready(t, nodes...)
	sendAll(t, sender, r.id, 1, 1)
	r.come(nodes[0].addr)
	r.until(2)
	if r.told != 1 {
		t.Errorf("%d gaps told, want the one while the client was connected", r.told)
	}
	_ = r.ws.CloseNow()
	r.token = older
	r.come(nodes[0].addr)
	if r.told != 2 {
		t.Errorf("%d gaps told, want another one for the older token", r.told)
	}
}
