package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/pkg/relay"
)

const chatPassword = "correct horse"

// post sends JSON and returns the status, the body and the cookie sid.
func post(t *testing.T, addr, path, cookie string, body any) (status int, answer, sid string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if cookie != "" {
		r.Header.Set("Cookie", "sid="+cookie)
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, "", ""
	}
	defer w.Body.Close()
	text, _ := io.ReadAll(w.Body)
	for _, c := range w.Cookies() {
		if c.Name == "sid" {
			sid = c.Value
		}
	}
	return w.StatusCode, string(text), sid
}

// signUp makes an account and returns its cookie.
func signUp(t *testing.T, addr, name string) string {
	t.Helper()
	status, answer, sid := post(t, addr, "/api/create-account", "", map[string]string{"username": name, "email": name + "@example.com", "password": chatPassword})
	if status != http.StatusNoContent || sid == "" {
		t.Fatalf("signing %s up: %d %s", name, status, answer)
	}
	return sid
}

// said is a message of a room.
type said struct {
	ID      string
	Content string
	User    struct {
		ID       int64
		Username string
	}
}

type chatEvent struct {
	Type    string
	Payload struct {
		Rooms []struct {
			ID              string
			Messages        []said
			HasMoreMessages bool
			Recovered       *bool
			Online          []struct{ Username string }
		}
		RoomID          string
		Messages        []said
		HasMoreMessages bool
		Recovered       *bool
		Code            string
		User            struct{ Username string }
		Online          bool
	}
}

// talker is a client in one room, which keeps what it has seen of it. When its
// connection ends it comes back to the next of its nodes.
type talker struct {
	t      *testing.T
	room   string
	cookie string
	done   chan struct{} // closed when it has stopped

	mu     sync.Mutex
	ws     *websocket.Conn
	addrs  []string // where to come back, in this order
	seen   []said
	gaps   int // it was told that something may be missing
	backs  int // it came back
	closed bool
}

// chatter connects a talker and has it listen until the test ends.
func chatter(t *testing.T, room, cookie string, addrs ...string) *talker {
	t.Helper()
	k := &talker{t: t, room: room, cookie: cookie, addrs: addrs, done: make(chan struct{})}
	if err := k.connect(""); err != nil {
		t.Fatal(err)
	}
	go k.listen()
	t.Cleanup(k.stop)
	return k
}

func (k *talker) stop() {
	k.mu.Lock()
	k.closed = true
	_ = k.ws.CloseNow()
	k.mu.Unlock()
	<-k.done
}

// connect opens a connection to the first node and takes the greeting.
func (k *talker) connect(query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+k.addrs[0]+"/api/ws"+query, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"sid=" + k.cookie}}})
	if err != nil {
		return err
	}
	ws.SetReadLimit(-1)
	e, err := readEvent(ctx, ws)
	if err != nil {
		_ = ws.CloseNow()
		return err
	}
	if e.Type != "hello" {
		return fmt.Errorf("greeted with %+v", e)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ws = ws
	for _, r := range e.Payload.Rooms {
		if r.ID != k.room {
			continue
		}
		if r.Recovered != nil && !*r.Recovered {
			k.gaps++
		}
		slices.Reverse(r.Messages)
		k.seen = append(k.seen, r.Messages...)
	}
	return nil
}

func readEvent(ctx context.Context, ws *websocket.Conn) (e chatEvent, err error) {
	_, b, err := ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	return e, err
}

// listen takes what comes, over one connection after the other.
func (k *talker) listen() {
	defer close(k.done)
	for {
		k.mu.Lock()
		ws := k.ws
		k.mu.Unlock()
		e, err := readEvent(context.Background(), ws)
		if err != nil {
			_ = ws.CloseNow()
			if !k.comeBack() {
				return
			}
			continue
		}
		k.mu.Lock()
		switch {
		case e.Type == "serverMessages" && e.Payload.RoomID == k.room:
			k.seen = append(k.seen, e.Payload.Messages...)
		case e.Type == "error" && e.Payload.Code == "HISTORY_GAP":
			k.gaps++
		}
		k.mu.Unlock()
	}
}

// comeBack connects to the next node with what was seen; false when it should not.
func (k *talker) comeBack() bool {
	for range 400 {
		k.mu.Lock()
		if k.closed {
			k.mu.Unlock()
			return false
		}
		if len(k.addrs) > 1 {
			k.addrs = k.addrs[1:]
		}
		k.backs++
		query := ""
		if len(k.seen) > 0 {
			query = "?since=" + url.QueryEscape(k.room+":"+k.seen[len(k.seen)-1].ID)
		}
		k.mu.Unlock()
		if k.connect(query) == nil {
			return true
		}
		time.Sleep(25 * time.Millisecond) // nobody serves there right now
	}
	k.t.Error("a client cannot come back")
	return false
}

// say sends a message; false when it certainly was not.
func (k *talker) say(content string) bool {
	b, _ := json.Marshal(map[string]any{"type": "clientMessages", "payload": map[string]any{"roomId": k.room, "messages": []map[string]string{{"content": content}}}})
	k.mu.Lock()
	ws := k.ws
	k.mu.Unlock()
	return ws.Write(context.Background(), websocket.MessageText, b) == nil
}

// heard returns what was seen so far.
func (k *talker) heard() []said {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.seen)
}

// has tells whether a message with this content was seen.
func (k *talker) has(content string) bool {
	return slices.ContainsFunc(k.heard(), func(s said) bool { return s.Content == content })
}

// wholeHistory pages through the room from its end to its beginning, and returns it
// oldest first.
func wholeHistory(t *testing.T, addr, cookie, room string) (all []said) {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/api/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"sid=" + cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	ws.SetReadLimit(-1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	more := false
	for {
		e, err := readEvent(ctx, ws)
		if err != nil {
			t.Fatal(err)
		}
		switch e.Type {
		case "hello":
			for _, r := range e.Payload.Rooms {
				if r.ID == room {
					all, more = append(all, r.Messages...), r.HasMoreMessages
				}
			}
		case "roomHistory":
			all, more = append(all, e.Payload.Messages...), e.Payload.HasMoreMessages
			if len(e.Payload.Messages) == 0 && more {
				t.Fatal("an empty page says that there is more")
			}
		default:
			continue
		}
		if !more {
			slices.Reverse(all)
			return all
		}
		first := all[len(all)-1].ID
		b := fmt.Appendf(nil, `{"type":"requestRoomHistory","payload":{"roomId":%q,"firstMessageId":%q}}`, room, first)
		if err := ws.Write(ctx, websocket.MessageText, b); err != nil {
			t.Fatal(err)
		}
	}
}

// checkOrder fails the test if messages are not in the order of their ids, each once.
func checkOrder(t *testing.T, who string, all []said) {
	t.Helper()
	contents := map[string]bool{}
	var last relay.ID
	for _, s := range all {
		id, err := relay.ParseID(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if id.Compare(last) <= 0 {
			t.Fatalf("%s has %s after %s", who, id, last)
		}
		if contents[s.Content] {
			t.Fatalf("%s has %q twice", who, s.Content)
		}
		last, contents[s.Content] = id, true
	}
}

// checkPart fails the test if part is not a piece of all, without a hole.
func checkPart(t *testing.T, who string, part, all []said) {
	t.Helper()
	if len(part) == 0 {
		t.Fatalf("%s has seen nothing", who)
	}
	from := slices.IndexFunc(all, func(s said) bool { return s.ID == part[0].ID })
	if from < 0 || from+len(part) > len(all) {
		t.Fatalf("%s has seen %d messages from %s on, which is at %d of %d", who, len(part), part[0].ID, from, len(all))
	}
	for i, s := range part {
		if s != all[from+i] {
			t.Fatalf("%s has seen %+v where the history has %+v", who, s, all[from+i])
		}
	}
}

// waitClosed waits for a connection to end and returns the close code.
func waitClosed(t *testing.T, ws *websocket.Conn) websocket.StatusCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			var closed websocket.CloseError
			if !errors.As(err, &closed) {
				t.Fatal(err)
			}
			return closed.Code
		}
	}
}

// dialChat connects and returns the greeting.
func dialChat(t *testing.T, addr, cookie, query string) (*websocket.Conn, chatEvent) {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/api/ws"+query, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"sid=" + cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(-1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e, err := readEvent(ctx, ws)
	if err != nil || e.Type != "hello" {
		t.Fatalf("%+v, %v", e, err)
	}
	return ws, e
}

// metric reads the sum of a metric's values from a node.
func metric(t *testing.T, n *testNode, name string) (sum float64) {
	t.Helper()
	r, err := http.Get("http://" + n.InternalAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	for line := range strings.Lines(string(b)) {
		var v float64
		if rest, ok := strings.CutPrefix(line, name); ok {
			if _, err := fmt.Sscan(rest[strings.LastIndex(rest, " ")+1:], &v); err == nil {
				sum += v
			}
		}
	}
	return sum
}
