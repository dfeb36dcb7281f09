package wsclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestParseTarget(t *testing.T) {
	const path = "/v1/texto"
	for in, want := range map[string]Target{
		"127.0.0.1:8398":                  {Addr: "127.0.0.1:8398", Host: "127.0.0.1:8398", Path: path},
		"node.example":                    {Addr: "node.example:80", Host: "node.example", Path: path},
		"[::1]:8398":                      {Addr: "[::1]:8398", Host: "[::1]:8398", Path: path},
		"ws://[::1]":                      {Addr: "[::1]:80", Host: "[::1]", Path: path},
		"http://h:81/":                    {Addr: "h:81", Host: "h:81", Path: path},
		"https://h":                       {Secure: true, Addr: "h:443", Host: "h", Path: path},
		"wss://h/prefix/v1/texto?x=1":     {Secure: true, Addr: "h:443", Host: "h", Path: "/prefix/v1/texto?x=1"},
		"ws://h:1?nogreet=1":              {Addr: "h:1", Host: "h:1", Path: path + "?nogreet=1"},
		"ws://127.0.0.1:65535/other#frag": {Addr: "127.0.0.1:65535", Host: "127.0.0.1:65535", Path: "/other"},
	} {
		if got, err := ParseTarget(in, path); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "ftp://h", "h:0", "h:65536", "h:http", "ws://", "ws://u:p@h", "a b", ":8398"} {
		if got, err := ParseTarget(in, path); err == nil {
			t.Errorf("%q: taken as %+v", in, got)
		}
	}
}

// serve runs handler on a real listener and returns its target.
func serve(t *testing.T, secure bool, handler http.HandlerFunc) (Target, *httptest.Server) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	target, err := ParseTarget(s.URL, "/ws")
	if err != nil {
		t.Fatal(err)
	}
	return target, s
}

func TestAgainstAnIndependentServer(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ended := make(chan error, 1)
		target, s := serve(t, secure, func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				ended <- err
				return
			}
			defer ws.CloseNow()
			ctx := r.Context()
			ws.SetReadLimit(1 << 20)
			if err := ws.Write(ctx, websocket.MessageText, []byte("greeting")); err != nil {
				ended <- err
				return
			}
			for {
				kind, p, err := ws.Read(ctx)
				if err != nil {
					ended <- err
					return
				}
				// Two fragments, as a writer that streams makes them.
				out, err := ws.Writer(ctx, kind)
				if err == nil {
					_, err = out.Write(p[:len(p)/2])
				}
				if err == nil {
					_, err = out.Write(p[len(p)/2:])
				}
				if err == nil {
					err = out.Close()
				}
				if err != nil {
					ended <- err
					return
				}
			}
		})
		d := Dialer{Timeout: 5 * time.Second}
		if secure {
			d.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
		}
		c, timing, err := d.Dial(t.Context(), target, net.IPv4(127, 0, 0, 9))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(c.LocalAddr().String(), "127.0.0.9:") {
			t.Errorf("the source address is %v", c.LocalAddr())
		}
		if timing.Connect <= 0 || timing.Upgrade <= 0 || (timing.TLS > 0) != secure {
			t.Errorf("timing %+v, secure %v", timing, secure)
		}
		if _, p, err := c.ReadMessage(); err != nil || string(p) != "greeting" {
			t.Fatalf("greeting %q, %v", p, err)
		}
		for _, n := range []int{1, 125, 126, 65535, 65536, 300000} {
			want := strings.Repeat("é~", n/3+1)
			if err := c.WriteMessage(Text, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if op, p, err := c.ReadMessage(); err != nil || op != Text || string(p) != want {
				t.Fatalf("an echo of %d bytes: op %d, %d bytes, %v", len(want), op, len(p), err)
			}
		}
		if err := c.Leave(5 * time.Second); err != nil {
			t.Errorf("leaving: %v", err)
		}
		if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("the server saw %v, want a normal close", err)
		}
	}
}

func TestPingIsAnsweredWhileWaiting(t *testing.T) {
	pinged := make(chan error, 1)
	target, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			pinged <- err
			return
		}
		defer ws.CloseNow()
		ctx := ws.CloseRead(r.Context())
		pinged <- ws.Ping(ctx)
		_ = ws.Close(1012, "restart")
	})
	d := Dialer{Timeout: 5 * time.Second}
	c, _, err := d.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	_, _, err = c.ReadMessage()
	if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != 1012 || e.Reason != "restart" {
		t.Errorf("ended by %v, want 1012 restart", err)
	}
	if err := <-pinged; err != nil {
		t.Errorf("the server's ping: %v", err)
	}
}

// answer serves one raw response to whoever connects and hangs up.
func answer(t *testing.T, response string) Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(nc))
			if err == nil {
				key := acceptKey(r.Header.Get("Sec-WebSocket-Key"))
				_, _ = nc.Write([]byte(strings.ReplaceAll(response, "ACCEPT", key)))
			}
			nc.Close()
		}
	}()
	target, err := ParseTarget(l.Addr().String(), "/ws")
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestHandshakeRefusals(t *testing.T) {
	const ok = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n"
	d := Dialer{Timeout: 5 * time.Second}
	c, _, err := d.Dial(t.Context(), answer(t, ok+"\r\n\x81\x02hi"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, p, err := c.ReadMessage(); err != nil || string(p) != "hi" {
		t.Errorf("a greeting right behind the head: %q, %v", p, err)
	}
	c.CloseNow()
	for name, c := range map[string]struct {
		response string
		want     HandshakeError
	}{
		"busy": {"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nslow down",
			HandshakeError{429, 7 * time.Second, "slow down"}},
		"no body":     {"HTTP/1.1 503 Service Unavailable\r\n\r\n", HandshakeError{503, 0, "503 Service Unavailable"}},
		"not HTTP":    {"SSH-2.0-x\r\n\r\n", HandshakeError{0, 0, `the answer is no HTTP/1.1: "SSH-2.0-x"`}},
		"wrong key":   {strings.Replace(ok, "ACCEPT", "AAAA", 1) + "\r\n", HandshakeError{101, 0, "the answer's Sec-WebSocket-Accept does not fit the key"}},
		"no upgrade":  {strings.Replace(ok, "Upgrade: websocket\r\n", "", 1) + "\r\n", HandshakeError{101, 0, `the answer upgrades to "", not to websocket`}},
		"connection":  {strings.Replace(ok, "keep-alive, Upgrade", "close", 1) + "\r\n", HandshakeError{101, 0, "the answer's Connection header is without Upgrade"}},
		"extension":   {ok + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", HandshakeError{101, 0, "the server chose an extension that was not offered: permessage-deflate"}},
		"subprotocol": {ok + "Sec-WebSocket-Protocol: x\r\n\r\n", HandshakeError{101, 0, "the server chose a subprotocol that was not offered: x"}},
		"endless":     {"HTTP/1.1 101 x\r\nX: " + strings.Repeat("x", 2*maxResponseHead), HandshakeError{0, 0, "the answer's head is too long"}},
	} {
		_, _, err := d.Dial(t.Context(), answer(t, c.response), nil)
		got, ok := errors.AsType[*HandshakeError](err)
		if !ok || *got != c.want {
			t.Errorf("%s: %v, want %+v", name, err, c.want)
		}
	}
	if _, _, err := d.Dial(t.Context(), answer(t, "HTTP/1.1 101"), nil); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("half an answer: %v", err)
	}
}

func TestASilentServerDoesNotHoldDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	target, err := ParseTarget(l.Addr().String(), "/ws")
	if err != nil {
		t.Fatal(err)
	}
	d := Dialer{Timeout: 30 * time.Millisecond}
	if _, _, err = d.Dial(t.Context(), target, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("by the timeout: %v", err)
	}
	d.Timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if nc, err := l.Accept(); err == nil { // the first one, which has gone
			nc.Close()
		}
		if nc, err := l.Accept(); err == nil {
			_, _ = http.ReadRequest(bufio.NewReader(nc))
			cancel()
			defer nc.Close()
			<-t.Context().Done()
		}
	}()
	if _, _, err = d.Dial(ctx, target, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("by cancelling: %v", err)
	}
}
