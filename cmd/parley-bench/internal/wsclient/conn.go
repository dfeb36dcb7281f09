package wsclient

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
	"unicode/utf8"
)

// Conn is the client's end of a WebSocket connection. One goroutine reads; any
// number may write and close.
type Conn struct {
	// Fixed after construction.
	nc    net.Conn
	key   [4]byte
	limit int64
	watch *watched // nc, of a connection that is watched; nil: it is not

	// Owned by the reader.
	buf     []byte
	r, w    int
	message []byte // what has come of a fragmented message
	partOp  Op     // its opcode; 0 when none is open

	mu      sync.Mutex // held for each write, so that frames do not interleave
	control []byte     // scratch for control frames
	closing bool       // our close frame went out
}

func newConn(nc net.Conn, readBuffer, maxMessage int) *Conn {
	if maxMessage <= 0 {
		maxMessage = DefaultMaxMessage
	}
	c := &Conn{nc: nc, limit: int64(maxMessage), buf: make([]byte, max(readBuffer, minReadBuffer))}
	_, _ = rand.Read(c.key[:])
	return c
}

// MaskKey is the masking key of this connection's frames, for NewFrame.
func (c *Conn) MaskKey() [4]byte { return c.key }

// LocalAddr returns the connection's own address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// SetReadDeadline ends reads that take longer; see net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetWriteDeadline ends writes that take longer; see net.Conn. A frame may have
// been written in part, so the connection is of no more use then.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }

// SetReadBuffer sets how much the system takes from the network before it is
// read. TLS connections have no say in it.
func (c *Conn) SetReadBuffer(bytes int) error {
	if tcp, ok := c.nc.(interface{ SetReadBuffer(bytes int) error }); ok {
		return tcp.SetReadBuffer(bytes)
	}
	return errors.ErrUnsupported
}

// SetDeadline ends reads and writes that take longer; see net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// ReadMessage returns the next message, whole, valid until the next call. It
// blocks until there is one, answers pings on the way, and answers a close
// frame before it returns it as a *CloseError. After an error the connection
// is of no more use: the caller closes it.
func (c *Conn) ReadMessage() (Op, []byte, error) {
	for {
		h, payload, err := c.readFrame()
		if err != nil {
			return 0, nil, c.fail(err)
		}
		switch {
		case h.op == opPing:
			if err := c.writeControl(opPong, payload); err != nil && !errors.Is(err, ErrClosing) {
				return 0, nil, &CloseError{Code: CloseAbnormal, Err: err}
			}
		case h.op == opPong:
		case h.op == opClose:
			return 0, nil, c.fail(c.closed(payload))
		case h.op == opContinuation && c.partOp == 0:
			return 0, nil, c.fail(protocolError(CloseProtocolError, "a continuation of nothing"))
		case h.op != opContinuation && c.partOp != 0:
			return 0, nil, c.fail(protocolError(CloseProtocolError, "a new message within a fragmented one"))
		case h.op != opContinuation && h.fin:
			return c.deliver(h.op, payload)
		default:
			if h.op != opContinuation {
				c.partOp, c.message = h.op, c.message[:0]
			}
			if int64(len(c.message))+h.length > c.limit {
				return 0, nil, c.fail(c.tooBig())
			}
			c.message = append(c.message, payload...)
			if h.fin {
				op := c.partOp
				c.partOp = 0
				return c.deliver(op, c.message)
			}
		}
	}
}

func (c *Conn) deliver(op Op, payload []byte) (Op, []byte, error) {
	if op == Text && !utf8.Valid(payload) {
		return 0, nil, c.fail(protocolError(CloseInvalidText, "a text message is not UTF-8"))
	}
	return op, payload, nil
}

// Buffered tells how many bytes have been read from the network and not yet
// returned: 0 means that ReadMessage will have to wait for the network.
func (c *Conn) Buffered() int { return c.w - c.r }

func (c *Conn) tooBig() error {
	return protocolError(CloseTooBig, "a message is longer than %d bytes", c.limit)
}

// fail tells the server why the connection ends, when it was the server's
// fault.
func (c *Conn) fail(err error) error {
	if p, ok := errors.AsType[*ProtocolError](err); ok {
		_ = c.StartClose(p.Code, "")
	}
	return err
}

// closed reads the payload of a close frame and answers it.
func (c *Conn) closed(payload []byte) error {
	e := &CloseError{Code: CloseNoStatus}
	switch {
	case len(payload) == 0:
	case len(payload) == 1:
		return protocolError(CloseProtocolError, "a close frame of one byte")
	default:
		e.Code = int(binary.BigEndian.Uint16(payload))
		e.Reason = string(payload[2:])
		if !validCloseCode(e.Code) {
			return protocolError(CloseProtocolError, "close code %d must not be sent", e.Code)
		}
		if !utf8.Valid(payload[2:]) {
			return protocolError(CloseInvalidText, "the reason of a close frame is not UTF-8")
		}
	}
	_ = c.StartClose(e.Code, "")
	return e
}

// validCloseCode tells whether a close frame may carry the code (RFC 6455, 7.4,
// and the registry that it founds).
func validCloseCode(code int) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}

// readFrame returns the next frame, whole; its payload stays valid until the
// next read.
func (c *Conn) readFrame() (header, []byte, error) {
	need := 2
	for {
		h, err := parseHeader(c.buf[c.r:c.w])
		if err != nil {
			return h, nil, err
		}
		if h.size > 0 {
			if h.length > c.limit {
				return h, nil, c.tooBig()
			}
			end := h.size + int(h.length)
			if c.w-c.r >= end {
				payload := c.buf[c.r+h.size : c.r+end]
				c.r += end
				return h, payload, nil
			}
			need = end
		} else {
			need = max(need, c.w-c.r+1)
		}
		if err := c.fill(need); err != nil {
			if c.w > c.r && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return h, nil, &CloseError{Code: CloseAbnormal, Err: err}
		}
	}
}

// fill reads once, after making room for need unread bytes in all. It takes
// what the network has, up to the buffer's end: one read brings many frames.
func (c *Conn) fill(need int) error {
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if len(c.buf)-c.r < need {
		grown := c.buf
		if len(grown) < need {
			grown = make([]byte, max(need, 2*len(grown)))
		}
		c.w = copy(grown, c.buf[c.r:c.w])
		c.buf, c.r = grown, 0
	}
	n, err := c.nc.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// WriteFrame sends a frame that Frame.Bytes returned. It blocks while the
// socket is full, and returns ErrClosing after the close frame went out.
func (c *Conn) WriteFrame(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return ErrClosing
	}
	_, err := c.nc.Write(frame)
	return err
}

// WriteMessage masks and sends one message; for the few that are not worth a
// Frame. It blocks as WriteFrame does.
func (c *Conn) WriteMessage(op Op, payload []byte) error {
	frame, _ := appendFrame(nil, op, c.key, payload)
	return c.WriteFrame(frame)
}

func (c *Conn) writeControl(op Op, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return ErrClosing
	}
	c.closing = op == opClose
	c.control, _ = appendFrame(c.control[:0], op, c.key, payload)
	_, err := c.nc.Write(c.control)
	return err
}

// StartClose sends the close frame and does not wait for the server's; the
// reader gets that as its error. CloseNoStatus sends an empty frame. Only the
// first call sends anything, later ones return ErrClosing.
func (c *Conn) StartClose(code int, reason string) error {
	var payload []byte
	if code != CloseNoStatus {
		payload = binary.BigEndian.AppendUint16(nil, uint16(code))
		payload = append(payload, reason[:min(len(reason), maxControl-2)]...)
	}
	return c.writeControl(opClose, payload)
}

// Leave closes in good order, for the goroutine that reads: it sends a normal
// close, waits for the server's answer and for the server to end the TCP
// connection, at most for the time given, and frees everything. Waiting lets
// the server, not this side, keep the port in TIME_WAIT.
func (c *Conn) Leave(wait time.Duration) error {
	defer c.CloseNow()
	_ = c.nc.SetDeadline(time.Now().Add(wait))
	if err := c.StartClose(CloseNormal, ""); err != nil {
		return err
	}
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Err != nil {
			return err
		}
		break
	}
	for {
		c.r, c.w = 0, 0
		if err := c.fill(1); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
}

// Quiet tells, of a connection that is watched, whether its reader has handled all that
// has come, waits for more, and the end has not come either. Any goroutine may ask. What
// the peer had written before it wrote to another connection of this machine, whose
// reader asks, has come. Of others it is always true.
func (c *Conn) Quiet() bool { return c.watch == nil || c.watch.quiet() }

// CloseNow ends the TCP connection at once. Blocked reads and writes return
// with an error. It may be called more than once.
func (c *Conn) CloseNow() { _ = c.nc.Close() }
