package texto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"parley/cmd/parley-bench/internal/wsclient"
)

func TestIDsAreUUIDsAndComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 1000 {
		want := ID{Due: rng.Int64N(1 << 60), Nonce: rng.Uint32N(1 << 20), Seq: rng.Uint64N(1 << 40)}
		if i == 0 {
			want = ID{Due: 1<<60 - 1, Nonce: 1<<20 - 1, Seq: 1<<40 - 1}
		}
		var b [IDLen]byte
		want.Put(&b)
		u, err := uuid.ParseBytes(b[:])
		if err != nil || u.Version() != 8 || u.Variant() != uuid.RFC4122 || u.String() != string(b[:]) {
			t.Fatalf("%s: no UUID of version 8 in lower case: %v", b, err)
		}
		if got, ok := ParseID(b[:]); !ok || got != want {
			t.Fatalf("%s: %+v, want %+v", b, got, want)
		}
	}
	for _, not := range []string{"", "x", strings.Repeat("0", 36), uuid.NewString(), "00000000-0000-8000-8000-00000000000G"} {
		if id, ok := ParseID([]byte(not)); ok {
			t.Errorf("%q is read as %+v", not, id)
		}
	}
}

// examples are frames that servers send, and what they say.
var examples = map[string]Message{
	`{"client_id":"c","id":"i","kind":"ack","data":null}`:                                                   {ClientID: []byte("c"), ID: []byte("i"), Kind: []byte("ack")},
	`{"client_id":"c","id":"i","kind":"receive","data":{"sender_id":"s","text":"hello"}}`:                   {ClientID: []byte("c"), ID: []byte("i"), Kind: []byte("receive"), Sender: []byte("s"), Text: []byte("hello")},
	` { "kind" : "error", "data" : { "description":"d d", "code" : "ERATE" } , "id":"i" } `:                 {ID: []byte("i"), Kind: []byte("error"), Code: []byte("ERATE"), Description: []byte("d d")},
	`{"kind":"connection","data":{"client_id":"c","node":"n-1","recovered":false,"resume":"t"},"new":true}`: {Kind: []byte("connection"), Session: []byte("c"), Node: []byte("n-1"), Resume: []byte("t"), Recovered: RecoveredNot},
	`{"kind":"receive","data":{"text":"a \"quoted\" \u00e9\n"}}`:                                            {Kind: []byte("receive"), Text: []byte("a \"quoted\" é\n")},
	`{"kind":"receive","data":{"text":"x"},"extra":{"deep":[1,2,{"a":null}]}}`:                              {Kind: []byte("receive"), Text: []byte("x")},
	`{"kind":"connection","data":{"client_id":null,"n":12.5}}`:                                              {Kind: []byte("connection")},
	`{}`: {},
}

func TestParse(t *testing.T) {
	for in, want := range examples {
		var fast, slow Message
		if err := Parse([]byte(in), &fast); err != nil || !reflect.DeepEqual(fast, want) {
			t.Errorf("%s: %v\n%+v, want\n%+v", in, err, fast, want)
		}
		if err := parseSlowly([]byte(in), &slow); err != nil || !reflect.DeepEqual(slow, want) {
			t.Errorf("%s by encoding/json: %v\n%+v, want\n%+v", in, err, slow, want)
		}
	}
	for _, in := range []string{``, `null`, `[]`, `"x"`, `{"kind":1}`, `{"data":[]}`, `{"data":{"text":1}}`, `{"kind":"x"`, `{} x`, "{\"kind\":\"\x01\"}", `{,}`} {
		var m Message
		if err := Parse([]byte(in), &m); err == nil {
			t.Errorf("%q: read as %+v", in, m)
		}
	}
	frame := []byte(`{"client_id":"c","id":"i","kind":"receive","data":{"sender_id":"s","text":"hello"}}`)
	var m Message
	if n := testing.AllocsPerRun(100, func() {
		if err := Parse(frame, &m); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to parse a plain frame", n)
	}
}

// FuzzParse compares the scanner with encoding/json: whatever the scanner
// takes must mean the same to both.
func FuzzParse(f *testing.F) {
	for in := range examples {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !utf8.Valid(in) { // the WebSocket client refuses it before
			return
		}
		var fast, slow Message
		s := scanner{b: in}
		if !s.envelope(&fast) {
			return
		}
		if err := parseSlowly(in, &slow); err != nil {
			t.Fatalf("taken by the scanner, refused by encoding/json: %v", err)
		}
		if !sameMessage(fast, slow) {
			t.Fatalf("scanned as\n%+v, decoded as\n%+v", fast, slow)
		}
	})
}

// sameMessage does not tell an empty string from an empty slice.
func sameMessage(a, b Message) bool {
	return fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b)
}

func TestStampedFramesAreWhatTheProtocolWants(t *testing.T) {
	received := make(chan []byte, 2)
	session := greet(t, `{"client_id":"3f6f1c1e-0b3a-4f0c-9a52-0a2f5a3f1b77","id":"x","kind":"connection","data":{"client_id":"3f6f1c1e-0b3a-4f0c-9a52-0a2f5a3f1b77","node":"n1"}}`, received)
	if session.ClientID != "3f6f1c1e-0b3a-4f0c-9a52-0a2f5a3f1b77" || session.Node != "n1" {
		t.Errorf("session %q on node %q", session.ClientID, session.Node)
	}
	to := uuid.NewString()
	send := session.NewSend(to, Filler(100))
	for seq := range uint64(2) {
		id := ID{Due: 12345, Nonce: 77, Seq: seq}
		if err := session.WriteFrame(send.Stamp(id)); err != nil {
			t.Fatal(err)
		}
		var got struct {
			ClientID string `json:"client_id"`
			ID       string `json:"id"`
			Kind     string `json:"kind"`
			Data     struct {
				ReceiverID string `json:"receiver_id"`
				Text       string `json:"text"`
			} `json:"data"`
		}
		frame := <-received
		if err := json.Unmarshal(frame, &got); err != nil {
			t.Fatalf("%s: %v", frame, err)
		}
		if got.ClientID != session.ClientID || got.Kind != "send" || got.Data.ReceiverID != to || len(got.Data.Text) != 136 {
			t.Fatalf("sent %s", frame)
		}
		for _, text := range []string{got.ID, got.Data.Text[:IDLen]} {
			if back, ok := ParseID([]byte(text)); !ok || back != id {
				t.Errorf("%q carries %+v, want %+v", text, back, id)
			}
		}
	}
}

// greet opens a session with a server that greets with the text given and
// passes on what it reads.
func greet(t *testing.T, greeting string, received chan<- []byte) *Session {
	t.Helper()
	s, _, err := Open(t.Context(), &wsclient.Dialer{Timeout: 5 * time.Second}, greeter(t, greeting, received), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.CloseNow)
	return s
}

// greeter is a server for greet. An empty greeting is none, and a number a
// close code.
func greeter(t *testing.T, greeting string, received chan<- []byte) wsclient.Target {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow()
		var code websocket.StatusCode
		if _, err := fmt.Sscan(greeting, &code); err == nil {
			_ = ws.Close(code, "")
			return
		}
		if greeting != "" && ws.Write(r.Context(), websocket.MessageText, []byte(greeting)) != nil {
			return
		}
		for {
			_, p, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			if received != nil {
				received <- p
			}
		}
	}))
	t.Cleanup(server.Close)
	target, err := wsclient.ParseTarget(server.URL, Path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestGreetingsThatAreNone(t *testing.T) {
	for greeting, want := range map[string]string{
		`{"kind":"error","data":{"code":"EBROKER","description":"no Redis"}}`: "greeted with EBROKER",
		`{"kind":"receive","data":null}`:                                      "bad greeting",
		`{"kind":"connection","data":{"client_id":"short"}}`:                  "bad greeting",
		`hello`: "bad greeting",
		`1013`:  "closed with 1013",
	} {
		_, timing, err := Open(t.Context(), &wsclient.Dialer{Timeout: 5 * time.Second}, greeter(t, greeting, nil), nil)
		if err == nil || Cause(err) != want {
			t.Errorf("%s: %v, which sums up to %q; want %q", greeting, err, Cause(err), want)
		}
		if timing.Upgrade <= 0 || timing.Greeting <= 0 {
			t.Errorf("%s: timing %+v", greeting, timing)
		}
	}
	_, _, err := Open(t.Context(), &wsclient.Dialer{Timeout: 50 * time.Millisecond}, greeter(t, "", nil), nil)
	if !errors.Is(err, context.DeadlineExceeded) || Cause(err) != "timed out" {
		t.Errorf("a server that does not greet: %v", err)
	}
}

func TestCauses(t *testing.T) {
	closed := greeter(t, "", nil)
	closed.Addr = "127.0.0.1:1"
	_, _, err := Open(t.Context(), &wsclient.Dialer{Timeout: 5 * time.Second}, closed, nil)
	for _, c := range []struct {
		err  error
		want string
	}{
		{err, "connection refused"},
		{&wsclient.HandshakeError{Status: 429, Reason: "busy"}, "refused with HTTP 429"},
		{&wsclient.HandshakeError{Status: 101, Reason: "why"}, "bad handshake: why"},
		{fmt.Errorf("x: %w", &wsclient.CloseError{Code: 1012, Reason: "bye"}), "closed with 1012"},
		{&wsclient.ProtocolError{Reason: "why"}, "WebSocket protocol error: why"},
		{context.Canceled, "interrupted"},
		{errors.New("something else"), "something else"},
	} {
		if got := Cause(c.err); got != c.want {
			t.Errorf("%v sums up to %q, want %q", c.err, got, c.want)
		}
	}
}
