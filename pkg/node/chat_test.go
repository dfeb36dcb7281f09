package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"parley/pkg/relaytest"
)

// chatFleet starts nodes on one Redis and one MariaDB.
func chatFleet(t *testing.T, nodes int, args ...string) []*testNode {
	t.Helper()
	redis, database := relaytest.StartRedis(t), relaytest.StartMariaDB(t)
	args = append([]string{"--redis-url=" + redis.URL(), "--database-url=" + database.NewURL(t), "--drain-delay=100ms", "--drain-window=500ms",
		"--chat-rooms=lobby=Lobby,kitchen=Kitchen"}, args...)
	var all []*testNode
	for range nodes {
		all = append(all, startNode(t, args...))
	}
	ready(t, all...)
	return all
}

// Three nodes under traffic, one of which is killed and one drained, while what is
// said moves into the archive: everybody sees one history, without a hole or a double.
func TestChatFleet(t *testing.T) {
	nodes := chatFleet(t, 3, "--chat-room-length=30")
	killed, drained, stays := nodes[0], nodes[1], nodes[2]
	var writers, readers []*talker
	for i, n := range nodes {
		cookie := signUp(t, n.addr, fmt.Sprint("user", i))
		for range 2 {
			writers = append(writers, chatter(t, "lobby", cookie, n.addr, stays.addr))
		}
		readers = append(readers, chatter(t, "lobby", cookie, n.addr, stays.addr))
	}
	var mu sync.Mutex
	var echoed []string // what its writer saw come back
	var total atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w, k := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				content := fmt.Sprintf("%d-%d", w, i)
				if !k.say(content) { // it is coming back
					time.Sleep(5 * time.Millisecond)
				}
				for deadline := time.Now().Add(3 * time.Second); !k.has(content); time.Sleep(time.Millisecond) {
					select {
					case <-stop:
						return
					default:
					}
					if time.Now().After(deadline) { // it was on its way when the node died
						break
					}
				}
				if k.has(content) {
					mu.Lock()
					echoed = append(echoed, content)
					mu.Unlock()
					total.Add(1)
				}
			}
		})
	}
	flow := func(n int64) {
		t.Helper()
		mark := total.Load() + n
		eventually(t, "messages flow", func() bool { return total.Load() >= mark })
	}
	flow(200)
	killed.kill()
	flow(100)
	drained.term()
	<-drained.done
	drained.done <- nil // for the end of the test
	flow(200)
	close(stop)
	wg.Wait()
	if archived := metric(t, stays, "parley_archived_messages_total"); archived == 0 {
		eventually(t, "the last node archives", func() bool { return metric(t, stays, "parley_archived_messages_total") > 0 })
	}
	history := wholeHistory(t, stays.addr, readers[2].cookie, "lobby")
	checkOrder(t, "the history", history)
	in := map[string]bool{}
	for _, s := range history {
		in[s.Content] = true
	}
	for _, content := range echoed {
		if !in[content] {
			t.Errorf("%s, which its sender saw, is not in the history", content)
		}
	}
	last := history[len(history)-1].ID
	for i, k := range append(readers, writers...) {
		who := fmt.Sprintf("client %d", i)
		eventually(t, who+" sees the last message", func() bool { h := k.heard(); return len(h) > 0 && h[len(h)-1].ID == last })
		seen := k.heard()
		checkOrder(t, who, seen)
		checkPart(t, who, seen, history)
		k.mu.Lock()
		if k.gaps > 0 {
			t.Errorf("%s was told %d times that something may be missing", who, k.gaps)
		}
		k.mu.Unlock()
	}
	for _, k := range readers[:2] {
		k.mu.Lock()
		if k.backs == 0 {
			t.Error("a client of a node that has gone did not come back")
		}
		k.mu.Unlock()
	}
	t.Logf("%d messages, %d of them came back to their sender", len(history), len(echoed))
}

// Who logs out on one node is cut off from all others.
func TestLogoutClosesEverywhere(t *testing.T) {
	nodes := chatFleet(t, 2)
	cookie := signUp(t, nodes[0].addr, "alice")
	_, _, other := post(t, nodes[1].addr, "/api/login", "", map[string]string{"email": "ALICE@example.com", "password": chatPassword})
	here, _ := dialChat(t, nodes[0].addr, cookie, "")
	there, _ := dialChat(t, nodes[1].addr, cookie, "")
	stays, _ := dialChat(t, nodes[1].addr, other, "")
	if status, answer, _ := post(t, nodes[0].addr, "/api/logout", cookie, nil); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, answer)
	}
	for _, ws := range []*websocket.Conn{here, there} {
		if code := waitClosed(t, ws); code != websocket.StatusPolicyViolation {
			t.Errorf("closed with %d", code)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := stays.Write(ctx, websocket.MessageText, []byte(`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"1-1"}}`)); err != nil {
		t.Fatal(err)
	}
	if e, err := readEvent(ctx, stays); err != nil || e.Type != "roomHistory" {
		t.Errorf("another session of the user: %+v, %v", e, err)
	}
	ws, _, err := websocket.Dial(t.Context(), "ws://"+nodes[0].addr+"/api/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"sid=" + cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	if code := waitClosed(t, ws); code != websocket.StatusPolicyViolation {
		t.Errorf("a connection after the logout was closed with %d", code)
	}
}

// A hundred sign-ups of one name at the same time, on all nodes, make one account.
func TestOneAccountOfAHundred(t *testing.T) {
	nodes := chatFleet(t, 3)
	const tries = 100
	var made, taken atomic.Int64
	var wg sync.WaitGroup
	for i := range tries {
		wg.Go(func() {
			status, answer, sid := post(t, nodes[i%len(nodes)].addr, "/api/create-account", "",
				map[string]string{"username": "the one", "email": fmt.Sprintf("user%d@example.com", i), "password": chatPassword})
			switch {
			case status == http.StatusNoContent && sid != "":
				made.Add(1)
			case status == http.StatusBadRequest && strings.Contains(answer, `"USERNAME_EXISTS"`):
				taken.Add(1)
			default:
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || taken.Load() != tries-1 {
		t.Errorf("%d accounts were made, %d refused", made.Load(), taken.Load())
	}
}

// Presence is of the whole fleet, and what a dead node's users leave is noticed.
func TestPresenceInAFleet(t *testing.T) {
	nodes := chatFleet(t, 2)
	alice, bobby := signUp(t, nodes[0].addr, "alice"), signUp(t, nodes[0].addr, "bobby")
	ws, hello := dialChat(t, nodes[0].addr, alice, "?presence=1")
	if online := hello.Payload.Rooms[0].Online; len(online) != 1 || online[0].Username != "alice" {
		t.Errorf("online: %v", online)
	}
	_, hello = dialChat(t, nodes[1].addr, bobby, "?presence=1")
	if !slices.ContainsFunc(hello.Payload.Rooms[0].Online, func(u struct{ Username string }) bool { return u.Username == "bobby" }) {
		t.Errorf("online: %v", hello.Payload.Rooms[0].Online)
	}
	wait := func(name string, online bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		for {
			e, err := readEvent(ctx, ws)
			if err != nil {
				t.Fatalf("%s %v: %v", name, online, err)
			}
			if e.Type == "presence" && e.Payload.User.Username == name && e.Payload.Online == online && e.Payload.RoomID == "kitchen" {
				return
			}
		}
	}
	wait("bobby", true)
	nodes[1].kill()
	wait("bobby", false)
}

// Without a database there is no chat, and the answer says which setting is missing.
func TestNoDatabase(t *testing.T) {
	redis := relaytest.StartRedis(t)
	n := startNode(t, "--redis-url="+redis.URL())
	ready(t, n)
	status, answer, _ := post(t, n.addr, "/api/login", "", map[string]string{})
	if status != http.StatusServiceUnavailable || !strings.Contains(answer, "--database-url") {
		t.Errorf("%d %s", status, answer)
	}
	r, err := http.Get("http://" + n.addr + "/api/ws")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/api/ws: %d", r.StatusCode)
	}
	c := dial(t, n.addr)
	if id, err := c.send(c.id, "all else works"); err != nil {
		t.Fatal(err)
	} else {
		eventually(t, "an ack", func() bool { return c.outcome(id) == "ack" })
	}
}

// A node alone leaves nothing of the chat in its memory when it is stopped.
func TestChatSurvivesARestart(t *testing.T) {
	args := []string{"--database-url=sqlite:" + t.TempDir() + "/parley.db", "--drain-delay=0s", "--drain-window=0s", "--chat-rooms=lobby=Lobby"}
	n := startNode(t, args...)
	ready(t, n)
	k := chatter(t, "lobby", signUp(t, n.addr, "alice"), n.addr)
	for i := range 150 {
		k.say(fmt.Sprint(i))
	}
	eventually(t, "all messages came", func() bool { return len(k.heard()) == 150 })
	before := k.heard()
	k.stop()
	n.term()
	<-n.done
	n.done <- nil
	n = startNode(t, args...)
	ready(t, n)
	status, answer, cookie := post(t, n.addr, "/api/login", "", map[string]string{"email": "alice@example.com", "password": chatPassword})
	if status != http.StatusNoContent {
		t.Fatalf("%d %s", status, answer)
	}
	k = chatter(t, "lobby", cookie, n.addr)
	k.say("back again")
	eventually(t, "a new message", func() bool { return k.has("back again") })
	after := wholeHistory(t, n.addr, cookie, "lobby")
	checkOrder(t, "the history", after)
	if len(after) != 151 || !slices.Equal(after[:150], before) {
		t.Errorf("%d messages of %d are there after a restart", len(after)-1, len(before))
	}
}

// When a node alone is killed, what was said a moment before is lost at most.
func TestChatSurvivesAKill(t *testing.T) {
	args := []string{"--database-url=sqlite:" + t.TempDir() + "/parley.db", "--chat-rooms=lobby=Lobby"}
	n := startNode(t, args...)
	ready(t, n)
	k := chatter(t, "lobby", signUp(t, n.addr, "alice"), n.addr)
	for i := range 20 {
		k.say(fmt.Sprint(i))
	}
	eventually(t, "all messages came, and are in the database", func() bool {
		return len(k.heard()) == 20 && metric(t, n, "parley_archived_messages_total") == 20
	})
	before := k.heard()
	k.stop()
	n.kill()
	<-n.done
	n.done <- nil
	n = startNode(t, args...)
	ready(t, n)
	_, _, cookie := post(t, n.addr, "/api/login", "", map[string]string{"email": "alice@example.com", "password": chatPassword})
	if after := wholeHistory(t, n.addr, cookie, "lobby"); !slices.Equal(after, before) {
		t.Errorf("%d messages of %d are there after a kill", len(after), len(before))
	}
}

// Two nodes that share no Redis do not share a database: their messages could have the
// same ids.
func TestLoneNodesDoNotShareADatabase(t *testing.T) {
	url := "--database-url=sqlite:" + t.TempDir() + "/parley.db"
	ready(t, startNode(t, url))
	cfg, err := ParseConfig([]string{"--listen=127.0.0.1:0", "--internal-addr=off", url}, env(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, slog.New(slog.DiscardHandler))
	if err == nil {
		n.close()
	}
	if err == nil || !strings.Contains(err.Error(), "--redis-url") {
		t.Errorf("a second node on the same file: %v", err)
	}
	_, err = ParseConfig([]string{"--database-url=mysql://u:p@h/db"}, env(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--redis-url") {
		t.Errorf("a node alone with a MySQL: %v", err)
	}
}
