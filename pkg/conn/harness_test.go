package conn

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const testProtocol = "test"

// funcs is a Handler made of functions; those that are nil do nothing.
type funcs struct {
	conn    *Conn
	open    func(*Conn) error
	message func(*Conn, []byte)
	closed  func(*Conn, Reason)
}

func (f *funcs) Open() error {
	if f.open != nil {
		return f.open(f.conn)
	}
	return nil
}

func (f *funcs) Message(data []byte) {
	if f.message != nil {
		f.message(f.conn, data)
	}
}

func (f *funcs) Closed(r Reason) {
	if f.closed != nil {
		f.closed(f.conn, r)
	}
}

// echo sends every message back.
func echo(c *Conn, data []byte) { c.Send(AppendFrame(nil, OpText, data)) }

// ended is how a connection ended.
type ended struct {
	conn   *Conn
	reason Reason
}

// fixture is a group that serves WebSockets.
type fixture struct {
	t       testing.TB
	group   *Group
	metrics *Metrics
	sockets *Sockets
	handler funcs                // of every connection
	wrap    func(*funcs) Handler // makes it another handler; nil: none
	opened  chan *Conn           // each connection, when it opens
	ended   chan ended           // and when it has closed
	server  *http.Server         // of listen
	addr    string
}

// newFixture starts a group that ends with the test.
func newFixture(t testing.TB, cfg Config, h funcs) *fixture {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m := NewMetrics()
	f := &fixture{t: t, group: NewGroup(cfg, m), metrics: m, handler: h,
		opened: make(chan *Conn, 1<<12), ended: make(chan ended, 1<<12)}
	f.sockets = &Sockets{Group: f.group, Metrics: m, Log: cfg.Log}
	t.Cleanup(f.group.Close)
	return f
}

func (f *fixture) newHandler(c *Conn) Handler {
	h := f.handler
	h.conn = c
	open, closed := h.open, h.closed
	h.open = func(c *Conn) error {
		f.opened <- c
		if open != nil {
			return open(c)
		}
		return nil
	}
	h.closed = func(c *Conn, r Reason) {
		if closed != nil {
			closed(c, r)
		}
		f.ended <- ended{c, r}
	}
	if f.wrap != nil {
		return f.wrap(&h)
	}
	return &h
}

func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.sockets.Serve(w, r, testProtocol, f.newHandler)
}

// listen serves on a loopback port until the test ends. set may change the
// server before it starts.
func (f *fixture) listen(set ...func(*http.Server)) *fixture {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.server = &http.Server{Handler: f, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	for _, s := range set {
		s(f.server)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := f.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			f.t.Error(err)
		}
	}()
	f.t.Cleanup(func() { _ = f.server.Close(); <-served })
	f.addr = l.Addr().String()
	return f
}

// smallBuffers has the server's sockets hold little, so that writes are partial.
func smallBuffers(s *http.Server) {
	s.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		_ = nc.(*net.TCPConn).SetWriteBuffer(32 << 10)
		return ctx
	}
}

// wantEnded waits for the next connection to close.
func (f *fixture) wantEnded(want Reason) {
	f.t.Helper()
	if e := <-f.ended; e.reason != want {
		f.t.Errorf("the connection ended for %v, want %v", e.reason, want)
	}
}

// waitFor waits for something that has no signal of its own.
func waitFor(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}

// settle returns when the loops have done what was posted before.
func (f *fixture) settle() {
	for _, l := range f.group.loops {
		l.snapshot()
	}
}

// figure is the value of one counter or gauge.
func figure(t testing.TB, c prometheus.Metric) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	if m.Gauge != nil {
		return m.Gauge.GetValue()
	}
	return m.Counter.GetValue()
}

// handshake is a valid request for an upgrade.
const handshake = "GET / HTTP/1.1\r\nHost: relay.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// peer is a WebSocket client that can break every rule.
type peer struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

// dial opens a TCP connection that ends with the test.
func (f *fixture) dial(t testing.TB) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return &peer{t, nc, bufio.NewReader(nc)}
}

// upgrade asks for a WebSocket and returns the answer; more goes out together
// with the request.
func (p *peer) upgrade(more ...byte) *http.Response {
	p.t.Helper()
	p.write(append([]byte(handshake+"\r\n"), more...))
	return p.response()
}

func (p *peer) response() *http.Response {
	p.t.Helper()
	res, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return res
}

// connect dials and upgrades.
func (f *fixture) connect(t testing.TB) *peer {
	t.Helper()
	p := f.dial(t)
	if res := p.upgrade(); res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %s", res.Status)
	}
	return p
}

// pipe returns a client over net.Pipe, past its handshake, for use with
// testing/synctest.
func (f *fixture) pipe(t testing.TB) *peer {
	t.Helper()
	if refusal := f.group.Admit(netip.Addr{}); refusal != Admitted {
		t.Fatalf("not admitted: %s", refusal)
	}
	return f.admitted(t)
}

// admitted is pipe for a client that was admitted.
func (f *fixture) admitted(t testing.TB) *peer {
	t.Helper()
	server, client := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	r := httptest.NewRequest("GET", "http://relay.example/", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} {
		r.Header.Set(name, value)
	}
	w := &hijackable{httptest.NewRecorder(), server}
	if err := f.group.Upgrade(w, r, netip.Addr{}, testProtocol, f.newHandler); err != nil {
		t.Fatal(err)
	}
	return &peer{t, client, bufio.NewReader(client)}
}

// hijackable is a response of a server whose network is nc.
type hijackable struct {
	*httptest.ResponseRecorder
	nc net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.nc, bufio.NewReadWriter(bufio.NewReader(h.nc), bufio.NewWriter(h.nc)), nil
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// Bits of a frame's first bytes.
const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitRSV2 = 0x20
	bitRSV3 = 0x10
	bitMask = 0x80

	opContinuation Opcode = 0
	opPong         Opcode = 10
)

// clientFrame makes a masked frame; flags are the upper bits of its first byte.
func clientFrame(flags byte, op Opcode, payload []byte) []byte {
	b := []byte{flags | byte(op)}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bitMask|byte(n))
	case n < 1<<16:
		b = append(b, bitMask|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, bitMask|127), uint64(n))
	}
	mask := [4]byte{0x5a, 0xc3, 0x96, 0x0f}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func (p *peer) send(op Opcode, payload string) {
	p.t.Helper()
	p.write(clientFrame(bitFin, op, []byte(payload)))
}

// frame is one frame of the server's.
type frame struct {
	op      Opcode
	payload []byte
}

func (f frame) String() string {
	return fmt.Sprintf("opcode %d, %d bytes: %.100q", f.op, len(f.payload), f.payload)
}

// readFrame reads a frame and checks what holds for every frame of the server:
// whole, unmasked, no reserved bits, the shortest form of its length.
func readFrame(r io.Reader) (frame, error) {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return frame{}, err
	}
	n := uint64(h[1])
	var least uint64
	switch n {
	case 126:
		if _, err := io.ReadFull(r, h[2:4]); err != nil {
			return frame{}, err
		}
		n, least = uint64(binary.BigEndian.Uint16(h[2:])), 126
	case 127:
		if _, err := io.ReadFull(r, h[2:10]); err != nil {
			return frame{}, err
		}
		n, least = binary.BigEndian.Uint64(h[2:]), 1<<16
	}
	op := Opcode(h[0] & 0x0f)
	switch {
	case h[0]&0xf0 != bitFin:
		return frame{}, fmt.Errorf("first byte %#x: not one whole frame", h[0])
	case h[1]&bitMask != 0:
		return frame{}, errors.New("a masked frame")
	case n < least || n > 1<<30:
		return frame{}, fmt.Errorf("length %d in a header of % x", n, h)
	case op != OpText && op != OpBinary && op != opClose && op != opPing && op != opPong:
		return frame{}, fmt.Errorf("opcode %d", op)
	case op >= opClose && n > maxControl:
		return frame{}, fmt.Errorf("control frame of %d bytes", n)
	}
	payload := make([]byte, n)
	_, err := io.ReadFull(r, payload)
	return frame{op, payload}, err
}

func (p *peer) read() frame {
	p.t.Helper()
	f, err := readFrame(p.r)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

// want reads a frame and compares it.
func (p *peer) want(op Opcode, payload string) {
	p.t.Helper()
	if f := p.read(); f.op != op || string(f.payload) != payload {
		p.t.Fatalf("got %v, want opcode %d: %.100q", f, op, payload)
	}
}

// wantClose reads a close frame; an empty text matches every one.
func (p *peer) wantClose(code int, text string) {
	p.t.Helper()
	f := p.read()
	if f.op != opClose || len(f.payload) < 2 || int(binary.BigEndian.Uint16(f.payload)) != code {
		p.t.Fatalf("got %v, want a close with code %d", f, code)
	}
	if got := string(f.payload[2:]); text != "" && got != text {
		p.t.Errorf("close %d with text %q, want %q", code, got, text)
	}
}

// wantEOF reads the end of the stream, and closes.
func (p *peer) wantEOF() {
	p.t.Helper()
	if f, err := readFrame(p.r); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got %v, %v, want the end of the stream", f, err)
	}
	_ = p.nc.Close()
}

// leave reads what there is, answers a close frame, and closes.
func (p *peer) leave() {
	for {
		f, err := readFrame(p.r)
		if err != nil {
			_ = p.nc.Close()
			return
		}
		if f.op == opClose {
			_, _ = p.nc.Write(clientFrame(bitFin, opClose, f.payload)) // may have gone
		}
	}
}

// closePayload is the payload of a close frame.
func closePayload(code int, text string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + text
}
