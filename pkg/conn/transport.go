package conn

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

// readBytes is the size of the buffers that the network is read into. They are
// pooled, and a connection holds one only while there is unread input in it.
const readBytes = 8 << 10

var readBuffers = sync.Pool{New: func() any {
	b := make([]byte, readBytes)
	return &b
}}

// transport is the network as the WebSocket library sees it. Reads come from
// the socket; writes, all of them control frames, go through the loop.
type transport struct{ *Conn }

var _ net.Conn = transport{}

// errFlood ends the reading of a client that sends far more frames than it may.
var errFlood = errors.New("too many frames")

// Read reads for the library, on the reader goroutine.
func (t transport) Read(p []byte) (int, error) {
	c := t.Conn
	if err := c.await(); err != nil {
		return 0, err
	}
	// Nothing of the next frame, lest the library hold it back from quick.
	n := c.given.within(c.in[:min(len(p), len(c.in))])
	copy(p, c.in[:n])
	c.consumed(n)
	return n, nil
}

// await waits until there is input. On the reader.
func (c *Conn) await() error {
	if len(c.in) > 0 {
		return nil
	}
	c.loop.Flush() // what the reader has caused so far
	if err := c.fill(); err != nil {
		return err
	}
	now := c.group.Now()
	c.heard.Store(now)
	if !c.frameLimit.TakeN(now, c.frames.count(c.in)) {
		return errFlood
	}
	return nil
}

// consumed drops the first n bytes of the input.
func (c *Conn) consumed(n int) {
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.releaseInput()
	}
}

func (c *Conn) releaseInput() {
	if c.inBuf != nil {
		readBuffers.Put(c.inBuf)
		c.inBuf = nil
	}
	c.in = nil
}

// fill waits for input without holding a buffer.
func (c *Conn) fill() error {
	if c.raw != nil {
		if err := c.raw.Read(c.tryRead); err != nil {
			return err
		}
		return c.readErr
	}
	b := readBuffers.Get().(*[]byte)
	n, err := c.nc.Read(*b)
	c.took(b, n, err)
	return c.readErr
}

// Gone tells whether the peer has gone, or has said that it goes, as far as that
// can be seen without reading: what it sent before may hide it. It never blocks.
// Only for Handler.Open.
func (c *Conn) Gone() bool {
	if c.closing.Load() {
		return true
	}
	if len(c.in) > 0 && isClose(c.in[0]) {
		return true
	}
	if c.raw == nil {
		return false
	}
	gone := false
	err := c.raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EAGAIN, err == syscall.EINTR:
		case err != nil, n == 0:
			gone = true
		default: // a frame begins here, unless something has been read
			gone = len(c.in) == 0 && isClose(b[0])
		}
	})
	return gone || err != nil
}

// isClose tells whether a frame that begins with b is a close frame.
func isClose(b byte) bool { return Opcode(b&0x0f) == opClose }

// took notes the outcome of a read into b.
func (c *Conn) took(b *[]byte, n int, err error) {
	c.readErr = nil
	switch {
	case n > 0:
		c.inBuf, c.in = b, (*b)[:n]
		return
	case err != nil:
		c.readErr = err
	default:
		c.readErr = io.EOF
	}
	readBuffers.Put(b)
}

// readReady is tryRead: it returns false to wait until the socket is readable.
func (c *Conn) readReady(fd uintptr) bool {
	b := readBuffers.Get().(*[]byte)
	for {
		n, err := syscall.Read(int(fd), *b)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			readBuffers.Put(b)
			return false
		}
		c.took(b, n, err)
		return true
	}
}

// write writes as much as goes without blocking. On the loop.
func (c *Conn) write(b []byte) (int, error) {
	if c.raw == nil {
		return 0, nil
	}
	c.written, c.writeErr = 0, nil
	if err := c.raw.Write(c.tryWrite); err != nil {
		return c.written, err
	}
	return c.written, c.writeErr
}

// writeReady is tryWrite; it never waits.
func (c *Conn) writeReady(fd uintptr) bool {
	for c.written < len(c.out) {
		n, err := syscall.Write(int(fd), c.out[c.written:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return true
		case err != nil:
			c.writeErr = err
			return true
		default:
			c.written += n
		}
	}
	return true
}

// Write takes a control frame from the library, always a whole one.
func (t transport) Write(p []byte) (int, error) {
	c, n := t.Conn, len(p)
	if Opcode(p[0]&0x0f) == opClose {
		c.closing.Store(true)
		const reason = 2 + 2 // after the header and the code
		if len(p) > reason && !utf8.Valid(p[reason:]) {
			// The client's own, sent back, which must be text. Its code will do.
			p = append([]byte{p[0], 2}, p[2:reason]...)
		}
		c.loop.postBytes(evClose, c, p)
	} else {
		c.loop.postBytes(evFrames, c, p)
	}
	return n, nil
}

// Close does nothing: the reader sees the library end, and then has the loop
// close the socket when everything has been written.
func (t transport) Close() error                     { return nil }
func (t transport) LocalAddr() net.Addr              { return t.nc.LocalAddr() }
func (t transport) RemoteAddr() net.Addr             { return t.nc.RemoteAddr() }
func (t transport) SetDeadline(time.Time) error      { return nil }
func (t transport) SetReadDeadline(time.Time) error  { return nil }
func (t transport) SetWriteDeadline(time.Time) error { return nil }
