package conn

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inMemory is a listener of pipes.
type inMemory struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newInMemory() *inMemory { return &inMemory{make(chan net.Conn), make(chan struct{})} }

func (l *inMemory) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *inMemory) Close() error   { close(l.closed); return nil }
func (l *inMemory) Addr() net.Addr { return &net.UnixAddr{Name: "in memory", Net: "unix"} }

// dial returns the client's end of a new connection.
func (l *inMemory) dial(t testing.TB) *peer {
	server, client := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	l.conns <- server
	return &peer{t, client, bufio.NewReader(client)}
}

// slowServer serves f with timeouts like a node's.
func slowServer(t *testing.T, f *fixture) *inMemory {
	const headerTimeout = 10 * time.Second
	l := newInMemory()
	s := &http.Server{Handler: f, ReadHeaderTimeout: headerTimeout, ReadTimeout: 2 * headerTimeout, WriteTimeout: 2 * headerTimeout}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { _ = s.Close(); <-served })
	return l
}

// A handshake that comes byte by byte is cut by the server's timeout, and has
// not counted as a connection.
func TestSlowHandshakeIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{MaxConnections: 1}, funcs{})
		p := slowServer(t, f).dial(t)
		go func() { _, _ = io.Copy(io.Discard, p.nc) }() // it may be told why
		began := time.Now()
		var err error
		for _, b := range []byte(handshake) {
			time.Sleep(time.Second)
			if _, err = p.nc.Write([]byte{b}); err != nil {
				break
			}
			if n := f.group.Len(); n != 0 {
				t.Fatalf("%d connections before the handshake has come", n)
			}
		}
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("writing on: %v, want a closed connection", err)
		}
		elapsed(t, began, 10*time.Second, 11*time.Second)
	})
}

// A handshake that takes its time, but not too much, is served, and the server's
// timeouts do not hold for the WebSocket.
func TestTimeoutsOfTheHandshakeEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, funcs{message: echo})
		p := slowServer(t, f).dial(t)
		for line := range strings.SplitAfterSeq(handshake, "\r\n") {
			time.Sleep(time.Second)
			p.write([]byte(line))
		}
		go p.write([]byte("\r\n"))
		if res := p.response(); res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res.Status)
		}
		for range 3 {
			p.send(OpText, "hello")
			p.want(OpText, "hello")
			time.Sleep(time.Hour)
		}
	})
}

// What a client sends without waiting for the answer to its handshake counts.
func TestEarlyData(t *testing.T) {
	f := newFixture(t, Config{}, funcs{message: echo}).listen()
	first, second := clientFrame(bitFin, OpText, []byte("first")), clientFrame(bitFin, OpText, make([]byte, 20_000))
	for name, early := range map[string][]byte{
		"a byte":         first[:1],
		"half a frame":   first[:len(first)/2],
		"a frame":        first,
		"more than that": append(first[:len(first):len(first)], second[:10_000]...),
		"everything":     append(first[:len(first):len(first)], second...),
	} {
		t.Run(name, func(t *testing.T) {
			p := f.dial(t)
			if res := p.upgrade(early...); res.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(res.Status)
			}
			all := append(first[:len(first):len(first)], second...)
			p.write(all[len(early):])
			p.want(OpText, "first")
			p.want(OpText, string(make([]byte, 20_000)))
		})
	}
}

func TestHandshakeAnswer(t *testing.T) {
	f := newFixture(t, Config{}, funcs{}).listen()
	p := f.dial(t)
	p.write([]byte(handshake + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: chat\r\n\r\n"))
	res := p.response()
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res.Status)
	}
	// The value follows from the key in the request.
	if got := res.Header.Get("Sec-WebSocket-Accept"); got != "ICX+Yqv66kxgM0FcWaLWlFLwTAI=" {
		t.Errorf("Sec-WebSocket-Accept is %q", got)
	}
	for _, name := range []string{"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"} {
		if got := res.Header.Get(name); got != "" {
			t.Errorf("%s is %q: nothing was to be agreed on", name, got)
		}
	}
}

func TestBadHandshakes(t *testing.T) {
	f := newFixture(t, Config{MaxConnections: 1}, funcs{}).listen()
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"plain GET":      {"GET / HTTP/1.1\r\nHost: relay.example\r\n\r\n", http.StatusUpgradeRequired},
		"no connection":  {strings.Replace(handshake, "Connection: Upgrade\r\n", "", 1) + "\r\n", http.StatusUpgradeRequired},
		"other upgrade":  {strings.Replace(handshake, "websocket", "h2c", 1) + "\r\n", http.StatusUpgradeRequired},
		"POST":           {strings.Replace(handshake, "GET", "POST", 1) + "\r\n", http.StatusMethodNotAllowed},
		"old version":    {strings.Replace(handshake, "Version: 13", "Version: 8", 1) + "\r\n", http.StatusBadRequest},
		"no key":         {strings.Replace(handshake, "Sec-WebSocket-Key", "X-Key", 1) + "\r\n", http.StatusBadRequest},
		"short key":      {strings.Replace(handshake, "AAAAAAAAAAAAAAAAAAAAAA==", "AAAA", 1) + "\r\n", http.StatusBadRequest},
		"two keys":       {handshake + "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", http.StatusBadRequest},
		"HTTP/1.0":       {strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1) + "\r\n", http.StatusUpgradeRequired},
		"foreign origin": {handshake + "Origin: https://elsewhere.example\r\n\r\n", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			p := f.dial(t)
			p.write([]byte(c.request))
			if res := p.response(); res.StatusCode != c.status {
				t.Errorf("got %s, want %d", res.Status, c.status)
			}
			waitFor(func() bool { return f.group.Len() == 0 })
		})
	}
	p := f.connect(t) // the one place has not been used up
	p.send(opClose, "")
	p.want(opClose, "")
}
