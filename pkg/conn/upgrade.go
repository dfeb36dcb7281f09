package conn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/coder/websocket"
)

// Sizes of the library's own buffers. The reader's is as small as bufio allows,
// since the transport reads into larger, shared ones; the writer's holds a whole
// control frame.
const (
	libraryReadBytes  = 16
	libraryWriteBytes = 2 + maxControl + 1
)

// Upgrade makes a WebSocket of the request, whose Origin has been checked and
// whose client was admitted, and has h serve it on a goroutine of its own. It
// returns at once, so that the server's goroutine and buffers for the request
// are free again. On an error the response has been written.
func (g *Group) Upgrade(w http.ResponseWriter, r *http.Request, ip netip.Addr, protocol string, newHandler func(*Conn) Handler) error {
	c := &Conn{ID: g.next.Add(1), Remote: ip, protocol: protocol, group: g}
	c.loop = g.loops[c.ID%uint64(len(g.loops))]
	c.heard.Store(g.Now())
	c.frameLimit = NewBucket(g.cfg.FrameRate, g.cfg.FrameRate*frameBurstSeconds)
	ws, err := websocket.Accept(hijacker{w, c}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // checked before
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		g.Leave(ip)
		if c.nc != nil {
			_ = c.nc.Close()
		}
		g.metrics.Refused("handshake")
		return err
	}
	ws.SetReadLimit(int64(g.cfg.MaxFrameBytes))
	if g.cfg.MaxFrameBytes == 0 {
		ws.SetReadLimit(-1)
	}
	c.ws = ws
	g.metrics.connections.WithLabelValues(protocol).Inc()
	g.metrics.accepted.WithLabelValues(protocol).Inc()
	h := newHandler(c)
	c.answers, _ = h.(Answerer)
	c.closer, _ = h.(Closer)
	c.loop.post(event{kind: evAdd, conn: c})
	c.loop.Flush()
	g.readers.Go(func() { c.serve(h) })
	return nil
}

// hijacker hands the library the connection's transport and small buffers.
type hijacker struct {
	http.ResponseWriter
	conn *Conn
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("hijack: %w", err)
	}
	c := h.conn
	c.nc = nc
	if sc, ok := nc.(syscall.Conn); ok {
		if c.raw, err = sc.SyscallConn(); err != nil {
			return nil, nil, fmt.Errorf("hijack: %w", err)
		}
		c.tryRead, c.tryWrite = c.readReady, c.writeReady
	}
	if n := rw.Reader.Buffered(); n > 0 { // the client did not wait for the answer
		early, _ := rw.Reader.Peek(n)
		c.in = append([]byte(nil), early...)
		c.frames.count(c.in)
	}
	t := transport{c}
	return t, bufio.NewReadWriter(bufio.NewReaderSize(t, libraryReadBytes), bufio.NewWriterSize(t, libraryWriteBytes)), nil
}

// serve is the reader goroutine.
func (c *Conn) serve(h Handler) {
	defer c.left()
	defer c.recovered()
	defer func() { h.Closed(Reason(c.reason.Load())) }()
	c.run(h)
}

// run opens and reads until the peer has gone or there is no use in reading.
func (c *Conn) run(h Handler) {
	defer c.recovered()
	if err := h.Open(); err == nil {
		c.read(h)
	} else if c.closing.Load() {
		c.linger()
	} else {
		c.blame(ReasonNetwork)
	}
}

// recovered ends the connection, and nothing else, when its handler panics.
func (c *Conn) recovered() {
	if p := recover(); p != nil {
		c.group.cfg.Log.Error("panic while serving a connection", "conn", c.ID, "panic", p, "stack", string(debug.Stack()))
		c.Close(CodeInternal, "internal error", ReasonInternal)
		c.linger()
	}
}

// left is the end of the reader: it sees to the end of the connection.
func (c *Conn) left() {
	// The library's connection refers to itself and has a finalizer, so that it
	// is garbage only once it was closed. This closes nothing else.
	_ = c.ws.CloseNow() // may have been closed
	c.releaseInput()
	c.blame(ReasonNetwork)
	c.loop.post(event{kind: evShut, conn: c})
	c.loop.Flush()
	g := c.group
	g.metrics.connections.WithLabelValues(c.protocol).Dec()
	g.metrics.disconnects.WithLabelValues(c.protocol, Reason(c.reason.Load()).String()).Inc()
	g.Leave(c.Remote)
}

// read reads messages until the connection ends.
func (c *Conn) read(h Handler) {
	ctx := context.Background()
	for {
		data, n, err := c.quick()
		if data != nil {
			c.handle(h, data)
			c.consumed(n)
			continue
		}
		var r io.Reader
		if err == nil {
			var kind websocket.MessageType
			kind, r, err = c.ws.Reader(ctx)
			c.kind = Opcode(kind) // the library's numbers are those of the wire
		}
		if err == nil {
			buf := messageBuffers.Get().(*[]byte)
			var data []byte
			data, err = readMessage(r, (*buf)[:0])
			if err == nil {
				c.handle(h, data)
			}
			if cap(data) <= maxPooledMessage {
				*buf = data
			}
			messageBuffers.Put(buf)
		}
		if err != nil {
			c.failed(err)
			return
		}
	}
}

// handle hands a message to the handler, unless the connection is closing. Who
// sees closing set and handling not set knows that no message is handled any more.
func (c *Conn) handle(h Handler, data []byte) {
	c.handling.Store(true)
	if !c.closing.Load() {
		h.Message(data)
	}
	c.handling.Store(false)
	c.Answered() // a drain may have waited for this
}

// messageBuffers hold one message each while it is handled.
var messageBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 1<<10)
	return &b
}}

const maxPooledMessage = 64 << 10

// readMessage reads all of r into b, which it may replace by a larger one.
func readMessage(r io.Reader, b []byte) ([]byte, error) {
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// failed finds out why reading ended.
func (c *Conn) failed(err error) {
	var netErr net.Error
	switch {
	case websocket.CloseStatus(err) != -1: // the client's close, or its answer to ours
		c.blame(ReasonClient)
		return
	case errors.Is(err, errFlood):
		c.Close(CodePolicy, "flood: too many frames", ReasonFlood)
	case errors.Is(err, websocket.ErrMessageTooBig):
		c.blame(ReasonTooBig)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrClosedPipe), errors.As(err, &netErr), isErrno(err):
		c.blame(ReasonNetwork)
		return
	default:
		c.blame(ReasonProtocol)
		if !c.closing.Load() { // the library has not said so already
			c.Close(CodeProtocolError, "protocol error", ReasonProtocol)
		}
	}
	c.linger()
}

func isErrno(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno)
}

// linger discards input until the peer goes, or the loop cuts it, so that
// closing with unread input does not destroy the close frame on its way.
func (c *Conn) linger() {
	c.lingering.Store(true)
	c.loop.post(event{kind: evCaughtUp, conn: c})
	c.loop.Flush()
	for {
		c.releaseInput()
		if c.fill() != nil {
			return
		}
	}
}
