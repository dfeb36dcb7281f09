package node

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
)

// testNode is a node in this process.
type testNode struct {
	*Node
	addr string
	log  *lockedBuffer
	term context.CancelFunc // SIGTERM
	kill func()             // cut it off without a word
	done chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// startNode runs a node until the test ends. It need not be ready yet.
func startNode(t *testing.T, args ...string) *testNode {
	t.Helper()
	args = append([]string{"--listen=127.0.0.1:0", "--internal-addr=127.0.0.1:0", "--rate=0", "--fleet-secret=the secret of the tests"}, args...)
	if !strings.Contains(strings.Join(args, " "), "--redis-url=") {
		// Else it would use the user's.
		args = append([]string{"--database-url=sqlite:" + t.TempDir() + "/parley.db"}, args...)
	}
	cfg, err := ParseConfig(args, func(string) string { return "" }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	log := new(lockedBuffer)
	n, err := New(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, term := context.WithCancel(context.Background())
	cut := make(chan struct{})
	var once sync.Once
	tn := &testNode{Node: n, addr: n.Addr().String(), log: log, term: term,
		kill: func() { once.Do(func() { close(cut) }) }, done: make(chan error, 1)}
	go func() { tn.done <- n.Run(ctx, cut) }()
	t.Cleanup(func() {
		tn.kill()
		select {
		case err := <-tn.done:
			if err != nil {
				t.Errorf("node: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the node does not end")
		}
		term()
	})
	return tn
}

// ready waits until all nodes are.
func ready(t *testing.T, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "the node is ready", func() bool { return n.Ready() == nil })
	}
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// client is a Texto client with a ledger of what came.
type client struct {
	ws   *websocket.Conn
	addr string
	id   string

	mu       sync.Mutex
	acked    map[string]bool   // requests by id
	refused  map[string]string // requests by id: error code
	texts    map[string][]string
	closed   websocket.StatusCode
	closedAt time.Time
	gone     chan struct{}
}

type wireMessage struct {
	ClientID string          `json:"client_id"`
	ID       string          `json:"id"`
	Kind     string          `json:"kind"`
	Data     json.RawMessage `json:"data"`
}

// dial connects and waits for the greeting.
func dial(t *testing.T, addr string) *client {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{ws: ws, addr: addr, acked: map[string]bool{}, refused: map[string]string{}, texts: map[string][]string{}, gone: make(chan struct{})}
	t.Cleanup(func() { _ = ws.CloseNow() })
	m, err := c.read(t.Context())
	if err != nil || m.Kind != "connection" {
		t.Fatalf("greeting: %v %v", m, err)
	}
	c.id = m.ClientID
	go c.listen()
	return c
}

func (c *client) read(ctx context.Context) (m wireMessage, err error) {
	_, b, err := c.ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return m, err
}

func (c *client) listen() {
	defer close(c.gone)
	for {
		m, err := c.read(context.Background())
		c.mu.Lock()
		if err != nil {
			c.closed, c.closedAt = websocket.CloseStatus(err), time.Now()
			c.mu.Unlock()
			return
		}
		switch m.Kind {
		case "ack":
			c.acked[m.ID] = true
		case "error":
			var d struct{ Code string }
			_ = json.Unmarshal(m.Data, &d) // a wrong one leaves the code empty
			c.refused[m.ID] = d.Code
		case "receive":
			var d struct {
				SenderID string `json:"sender_id"`
				Text     string
			}
			_ = json.Unmarshal(m.Data, &d) // a wrong one leaves the text empty
			c.texts[d.SenderID] = append(c.texts[d.SenderID], d.Text)
		}
		c.mu.Unlock()
	}
}

// send sends a text and returns the request's id.
func (c *client) send(to, text string) (id string, err error) {
	id = uuid.NewString()
	b, err := json.Marshal(map[string]any{"client_id": c.id, "id": id, "kind": "send",
		"data": map[string]string{"receiver_id": to, "text": text}})
	if err != nil {
		return "", err
	}
	return id, c.ws.Write(context.Background(), websocket.MessageText, b)
}

// outcome is "" while a request is unanswered, "ack", or an error code.
func (c *client) outcome(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.acked[id] {
		return "ack"
	}
	return c.refused[id]
}

// from returns what came from a sender so far.
func (c *client) from(sender string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.texts[sender]...)
}

// talk has a send a text to b and waits for it and the ack.
func talk(t *testing.T, a, b *client, text string) {
	t.Helper()
	id, err := a.send(b.id, text)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "delivery of "+text, func() bool {
		got := b.from(a.id)
		return len(got) > 0 && got[len(got)-1] == text
	})
	eventually(t, "ack of "+text, func() bool { return a.outcome(id) == "ack" })
}

func logged(n *testNode, text string) bool { return strings.Contains(n.log.String(), text) }
