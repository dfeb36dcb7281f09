package conn

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// written is a network connection on which a client finds what a server wrote,
// and that takes whatever the client writes.
type written struct{ *bytes.Reader }

func (written) Write(p []byte) (int, error) { return len(p), nil }
func (written) Close() error                { return nil }

// libraryClient is the WebSocket library's client side, past its handshake, on a
// stream of frames.
func libraryClient(t *testing.T, frames []byte) *websocket.Conn {
	accept := roundTripper(func(r *http.Request) (*http.Response, error) {
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: written{bytes.NewReader(frames)},
			Header: http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"},
				"Sec-Websocket-Accept": {base64.StdEncoding.EncodeToString(sum[:])}}}, nil
	})
	c, _, err := websocket.Dial(context.Background(), "ws://relay.example/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: accept}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(-1)
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// FuzzFrames has the WebSocket library's client read what we write.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(nil), []byte("second"), false, uint16(1000), "")
	f.Add(bytes.Repeat([]byte{'x'}, 126), bytes.Repeat([]byte{0xff}, 1<<16), true, uint16(CodeTryLater), "slow reader")
	f.Add([]byte{0x81, 0x00}, []byte{}, true, uint16(4999), string(bytes.Repeat([]byte{'r'}, 200)))
	f.Fuzz(func(t *testing.T, first, second []byte, binaryFirst bool, code uint16, reason string) {
		op, typ := OpText, websocket.MessageText
		if binaryFirst {
			op, typ = OpBinary, websocket.MessageBinary
		}
		b := AppendFrame(nil, op, first)
		b = append(appendHeader(b, opPing, 0), AppendFrame(nil, OpText, second)...)
		b = appendClose(b, int(code), reason)
		c := libraryClient(t, b)
		defer c.CloseNow()
		ctx := context.Background()
		if got, data, err := c.Read(ctx); err != nil || got != typ || !bytes.Equal(data, first) {
			t.Fatalf("first: %v %q %v, want %v %q", got, data, err, typ, first)
		}
		if got, data, err := c.Read(ctx); err != nil || got != websocket.MessageText || !bytes.Equal(data, second) {
			t.Fatalf("second: %v %q %v, want %q", got, data, err, second)
		}
		_, _, err := c.Read(ctx)
		// The library takes those codes that may stand in a frame.
		if mayBeSent := code >= 1000 && code < 1015 && code != 1004 && code != 1005 && code != 1006 || code >= 3000 && code < 5000; !mayBeSent {
			if err == nil {
				t.Fatalf("close code %d came as a message", code)
			}
			return
		}
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusCode(code) || closed.Reason != reason[:min(len(reason), 123)] {
			t.Fatalf("got %v, want close %d %q", err, code, reason)
		}
	})
}

// FuzzIncoming has a connection read whatever comes after the handshake: it must
// hand over well-formed messages only, answer in well-formed frames, and end.
func FuzzIncoming(f *testing.F) {
	hello := clientFrame(bitFin, OpText, []byte("hello"))
	for _, seed := range [][]byte{
		nil, hello, append(hello, hello...), hello[:3], {0x81}, {0x81, 0x05, 'h', 'e', 'l', 'l', 'o'},
		clientFrame(0, OpText, []byte("part")), clientFrame(bitFin, opContinuation, []byte("rest")),
		append(clientFrame(0, OpText, []byte("part")), clientFrame(bitFin, opContinuation, []byte("rest"))...),
		append(clientFrame(0, OpText, nil), clientFrame(bitFin, opPing, []byte("between"))...),
		clientFrame(bitFin|bitRSV1, OpText, nil), clientFrame(bitFin, 3, nil), clientFrame(0, opPing, nil),
		clientFrame(bitFin, opPing, bytes.Repeat([]byte{'p'}, 126)), clientFrame(bitFin, OpText, bytes.Repeat([]byte{'x'}, 1001)),
		clientFrame(bitFin, opClose, nil), clientFrame(bitFin, opClose, []byte{3}), clientFrame(bitFin, opClose, []byte(closePayload(1000, "bye"))),
		clientFrame(bitFin, opClose, []byte(closePayload(999, ""))), {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		f.Add(seed)
	}
	const limit = 1000
	var longest atomic.Int64
	fix := newFixture(f, Config{MaxFrameBytes: limit, MaxQueueBytes: 1 << 20}, funcs{message: func(c *Conn, data []byte) {
		longest.Store(max(longest.Load(), int64(len(data))))
		echo(c, data)
	}})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 64<<10 {
			return
		}
		p := fix.pipe(t)
		answers := make(chan error)
		go func() {
			for {
				fr, err := readFrame(p.r)
				if err == nil && fr.op == opClose {
					if n := len(fr.payload); n == 1 || n > 2 && !utf8.Valid(fr.payload[2:]) {
						err = errors.New("a close frame with a bad payload")
					}
				}
				if err != nil {
					answers <- err
					return
				}
			}
		}()
		_, err := p.nc.Write(in) // fails when the server has had enough
		if err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		_ = p.nc.Close()
		if err := <-answers; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the answer is not well formed: %v", err)
		}
		if n := longest.Load(); n > limit {
			t.Errorf("a message of %d bytes, over the limit", n)
		}
		<-fix.opened
		if e := <-fix.ended; e.reason == reasonNone || e.reason == ReasonInternal {
			t.Errorf("ended for %v", e.reason)
		}
	})
}
