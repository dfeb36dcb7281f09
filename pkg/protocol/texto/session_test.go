package texto

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// message is any message of the server's.
type message struct {
	ClientID uuid.UUID `json:"client_id"`
	ID       uuid.UUID `json:"id"`
	Kind     string    `json:"kind"`
	Data     struct {
		ClientID uuid.UUID `json:"client_id"`
		Node     string    `json:"node"`
		SenderID uuid.UUID `json:"sender_id"`
		Text     string    `json:"text"`
		Code     string    `json:"code"`
		Resume   string    `json:"resume"`
		// Recovered is nil when the member is absent.
		Recovered *bool `json:"recovered"`
	} `json:"data"`
}

// next reads a message.
func (c *client) next(t testing.TB) message {
	t.Helper()
	text, closed := c.read(t)
	if closed != nil {
		t.Fatal(closed)
	}
	var m message
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

// sendText sends to another client and returns the request's id.
func (c *client) sendText(t testing.TB, from, to uuid.UUID, text string) uuid.UUID {
	t.Helper()
	id := newID()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	c.send(t, websocket.MessageText, fmt.Sprintf(`{"client_id":"%s","id":"%s","kind":"send","data":{"receiver_id":"%s","text":%s}}`, from, id, to, quoted))
	return id
}

// A client whose messages are not answered is not read beyond a bound; when they
// are, it goes on, and everything comes in order.
func TestInFlightIsBounded(t *testing.T) {
	const total = conn.MaxInFlight + 50
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		c := f.connect(t, "")
		me := c.next(t).ClientID
		f.broker.set(brokerStalls)
		ids := make([]uuid.UUID, total)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range ids {
				ids[i] = c.sendText(t, me, me, fmt.Sprint(i))
			}
		}()
		synctest.Wait()
		f.broker.mu.Lock()
		waiting := len(f.broker.queue)
		f.broker.mu.Unlock()
		if waiting != conn.MaxInFlight {
			t.Errorf("%d messages wait for Redis, want %d", waiting, conn.MaxInFlight)
		}
		f.broker.set(brokerWorks)
		<-sent
		acks, received := 0, 0
		for acks < total || received < total {
			switch m := c.next(t); m.Kind {
			case "ack":
				if m.ID != ids[acks] {
					t.Fatalf("ack %d is for another message", acks)
				}
				acks++
			case "receive":
				if m.Data.Text != fmt.Sprint(received) || m.Data.SenderID != me || m.ClientID != me {
					t.Fatalf("got %+v, want number %d", m, received)
				}
				received++
			default:
				t.Fatalf("got %+v", m)
			}
		}
	})
}

// A client that goes while the reader waits for Redis is forgotten when Redis
// has answered.
func TestClientGoesWhileMuchIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{}, conn.Config{})
		c := f.connect(t, "")
		me := c.next(t).ClientID
		f.broker.set(brokerStalls)
		go func() {
			for range conn.MaxInFlight + 1 {
				c.sendText(t, me, me, "x")
			}
			_ = c.ws.CloseNow()
		}()
		synctest.Wait()
		if f.group.Len() != 1 {
			t.Fatalf("%d connections, want the one whose reader waits", f.group.Len())
		}
		f.broker.set(brokerWorks)
		synctest.Wait()
		if f.group.Len() != 0 || f.hub.Len() != 0 || f.broker.subscribed() != 0 {
			t.Errorf("%d connections, %d topics, %d subscriptions left", f.group.Len(), f.hub.Len(), f.broker.subscribed())
		}
	})
}

// Many clients write to each other at once. Each gets everything, in the order of
// each sender.
func TestManyClients(t *testing.T) {
	const clients, each = 8, 100
	f := newFixture(t, false, Config{}, conn.Config{})
	var all [clients]*client
	var ids [clients]uuid.UUID
	index := map[uuid.UUID]int{}
	for i := range all {
		all[i] = f.connect(t, "")
		ids[i] = all[i].next(t).ClientID
		index[ids[i]] = i
	}
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() {
			for n := range each {
				for _, to := range ids {
					c.sendText(t, ids[i], to, fmt.Sprint(n))
				}
			}
		})
		wg.Go(func() {
			var acks int
			var next [clients]int
			for range 2 * each * clients {
				switch m := c.next(t); m.Kind {
				case "ack":
					acks++
				case "receive":
					from, ok := index[m.Data.SenderID]
					if !ok || m.Data.Text != fmt.Sprint(next[from]) || m.ClientID != ids[i] {
						t.Errorf("client %d got %+v, want number %d of client %d", i, m, next[from], from)
						return
					}
					next[from]++
				default:
					t.Errorf("client %d got %+v", i, m)
					return
				}
			}
			if acks != each*clients {
				t.Errorf("client %d got %d acks, want %d", i, acks, each*clients)
			}
		})
	}
	wg.Wait()
}

// What other nodes publish is not trusted to be whole.
func TestForeignBodiesAreDropped(t *testing.T) {
	f := newFixture(t, true, Config{}, conn.Config{})
	c := f.connect(t, "")
	me := c.next(t).ClientID
	topic := topicOf(me)
	for _, m := range []relay.Message{
		{Topic: topic, From: idOne},
		{Topic: topic, From: idOne, Body: make([]byte, idLength)},
		{Topic: topic, From: idOne, Body: make([]byte, 1+idLength)},
		{Topic: topic, From: idOne, Body: []byte{bodyKept}},
		{Topic: topic, From: idOne, Body: []byte{bodyTakeover}},
		{Topic: topic, From: idOne, Body: append([]byte{bodyTakeover}, make([]byte, idLength+1)...)},
		{Topic: topic, From: idOne, Body: append([]byte{bodyTakeover + 1}, `"later"`...)},
		{Topic: topic, From: "somebody", Body: appendText(nil, false, []byte(`"x"`))},
		{Topic: topic, Body: appendText(nil, true, []byte(`"x"`))},
		{Topic: "client/nobody", From: idOne, Body: appendText(nil, true, []byte(`"x"`))},
	} {
		f.hub.Dispatch(m)
	}
	id := newID()
	f.hub.Dispatch(relay.Message{Topic: topic, From: idOne, Body: append(append([]byte{bodyText}, id[:]...), `"whole"`...)})
	f.hub.Flush()
	if m := c.next(t); m.Kind != "receive" || m.ID != id || m.Data.SenderID.String() != idOne || m.Data.Text != "whole" {
		t.Errorf("got %+v", m)
	}
}

// The log names connections and sessions, and never what is said.
func TestLogTellsNoText(t *testing.T) {
	const secret = "xyzzy-the-secret"
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := newFixture(t, false, Config{Log: logger, MaxMessageBytes: 100, Rate: 1}, conn.Config{MaxFrameBytes: 1000})
	c := f.connect(t, "?token="+secret)
	me := c.next(t).ClientID
	c.sendText(t, me, me, secret)
	f.broker.set(brokerFails)
	c.sendText(t, me, me, secret)
	c.sendText(t, me, me, secret+strings.Repeat("x", 100))
	c.send(t, websocket.MessageText, secret)
	c.send(t, websocket.MessageText, strings.Repeat(secret, 100))
	for closed := (*websocket.CloseError)(nil); closed == nil; {
		_, closed = c.read(t)
	}
	refused := f.connect(t, "")
	for closed := (*websocket.CloseError)(nil); closed == nil; {
		_, closed = refused.read(t)
	}
	f.group.Close() // nobody logs any more
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log tells what a client sent:\n%s", &log)
	}
	events := map[string]int{}
	for line := range strings.Lines(log.String()) {
		var entry struct {
			Event    string `json:"msg"`
			Protocol string `json:"protocol"`
			Conn     int    `json:"conn"`
			Session  string `json:"session"`
			Reason   string `json:"reason"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		events[strings.TrimSpace(entry.Event+" "+entry.Reason)]++
		if entry.Protocol != Protocol || entry.Conn == 0 || uuid.Validate(entry.Session) != nil {
			t.Errorf("an entry does not say whom it is about: %s", line)
		}
	}
	for _, want := range []string{"session opened", "session closed message_too_big", "session refused"} {
		if events[want] != 1 {
			t.Errorf("%d entries %q, want 1:\n%s", events[want], want, &log)
		}
	}
}

// FuzzRoundTrip sends texts through a server and has the WebSocket library and
// encoding/json read what comes: the ack, then the text, as it was written.
func FuzzRoundTrip(f *testing.F) {
	for _, seed := range []string{"", "hello", `\"\\\u00e9\ud83d\ude00`, `\ud83d`, "é😀", `"`, "\xff", "\n", `\`, strings.Repeat("x", 1<<16)} {
		f.Add(seed)
	}
	fix := newFixture(f, true, Config{Node: `"node"<1>`}, conn.Config{})
	c := fix.connect(f, "")
	greeting := c.next(f)
	me := greeting.ClientID
	if greeting.Data.Node != `"node"<1>` {
		f.Fatalf("the node is %q", greeting.Data.Node)
	}
	f.Fuzz(func(t *testing.T, text string) {
		written := `"` + text + `"`
		if !json.Valid([]byte(written)) {
			return // the text would end its string itself
		}
		id := newID()
		c.send(t, websocket.MessageText, fmt.Sprintf(`{"client_id":"%s","id":"%s","kind":"send","data":{"receiver_id":"%s","text":%s}}`, me, id, me, written))
		m := c.next(t)
		if !utf8.ValidString(text) {
			if m.Kind != "error" || m.Data.Code != codeSyntax || m.ID == id {
				t.Fatalf("got %+v, want %s with a fresh id", m, codeSyntax)
			}
			return
		}
		if m.Kind != "ack" || m.ID != id || m.ClientID != me {
			t.Fatalf("got %+v, want the ack", m)
		}
		raw, closed := c.read(t)
		if closed != nil {
			t.Fatal(closed)
		}
		var got message
		if err := json.Unmarshal([]byte(raw), &got); err != nil || got.Kind != "receive" || got.Data.SenderID != me || got.ClientID != me {
			t.Fatalf("got %s, %v", raw, err)
		}
		if !strings.HasSuffix(raw, `"text":`+written+`}}`) {
			t.Fatalf("got %s, where the text was written as %s", raw, written)
		}
	})
}
