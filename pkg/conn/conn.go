package conn

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Handler is what a protocol does with a connection. Its methods are called on
// the connection's reader goroutine, one after the other.
type Handler interface {
	// Open comes first. An error means that the handler has closed the
	// connection, or that there is no use in reading it.
	Open() error
	// Message takes a message of the client's, valid until it returns.
	Message(data []byte)
	// Closed comes last, whatever happened, if Open was called.
	Closed(r Reason)
}

// Answerer is a Handler that answers some messages later, from elsewhere. A drain
// waits a while for these answers before it closes the connection.
type Answerer interface {
	// Unanswered is how many messages have no answer yet. It is called on the
	// loop and must not block.
	Unanswered() int
}

// Closer is a Handler that wants to know at once when its connection is about to end,
// since Closed comes only when the peer has answered, or has had five seconds for that.
type Closer interface {
	// Closing is called on the loop, once: when a close frame is queued, or the socket
	// is closed without one. Nothing goes out any more. It may come before Closed or
	// after it, while a message is being handled too, and must not block.
	Closing()
}

type connState uint8

const (
	stateOpen    connState = iota
	stateClosing           // a close frame is queued: nothing more goes out
	stateEnded             // the socket is closed
)

// Conn is one client connection.
type Conn struct {
	// Fixed after Upgrade.
	ID       uint64     // of this node
	Remote   netip.Addr // the client's, behind trusted proxies too
	protocol string
	group    *Group
	loop     *Loop
	nc       net.Conn
	raw      syscall.RawConn // nil when nc has none
	ws       *websocket.Conn
	tryRead  func(fd uintptr) bool
	tryWrite func(fd uintptr) bool
	answers  Answerer // nil when the handler answers at once
	closer   Closer   // nil when the handler waits for Closed

	heard     atomic.Int64 // when the peer was last heard, Group.Now
	reason    atomic.Uint32
	closing   atomic.Bool // what the client sends is of no interest any more
	handling  atomic.Bool // the reader is handling a message
	lingering atomic.Bool // the reader discards, until the peer goes

	// Owned by the reader.
	in         []byte       // read from the network, not yet by the library
	inBuf      *[]byte      // the pooled buffer that in is part of; nil: none
	readErr    error        // of tryRead
	kind       Opcode       // of the message that is being handled
	frames     frameCounter // of all input
	given      frameCounter // of what the library has been given
	frameLimit Bucket

	// Owned by the loop.
	index    int
	state    connState
	dirty    bool
	shutting bool   // close the socket when all is written
	out      []byte // whole frames
	written  int    // what tryWrite wrote of out
	writeErr error
	backlog  *backlog      // not nil while the socket is full
	pinged   int64         // when the last ping went out that has not been answered
	deadline int64         // when a closing connection is cut
	restart  int64         // when a draining connection is closed at the latest; 0: not draining
	flushed  chan struct{} // closed when all is written; nil: nobody waits
	asked    int           // bytes of answers (see QueueAnswer) that may be among what is not written
}

// Send queues a copy of finished frames (see AppendFrame), to go out at the next
// Flush or before. It waits for no client, only, as Loop.Post does, for a loop that
// is far behind; so it may be called from any goroutine but a loop's.
func (c *Conn) Send(frames []byte) { c.loop.postBytes(evFrames, c, frames) }

// MessageKind is OpText or OpBinary: the kind of the message that the handler is
// handling. Only for Handler.Message.
func (c *Conn) MessageKind() Opcode { return c.kind }

// Flush has what was sent go out. It never blocks.
func (c *Conn) Flush() { c.loop.Flush() }

// Do has f called on the loop after what was sent before, and before what is sent
// later. It may be called like Send. f is dropped when the group has ended.
func (c *Conn) Do(f func()) { c.loop.Do(f) }

// ErrClosing means that a connection is closing or has ended, ErrSlow that its peer has
// not taken in time what was sent.
var (
	ErrClosing = errors.New("the connection is closing")
	ErrSlow    = errors.New("the peer reads too slowly")
)

// Flushed waits until all that was sent before, by functions given to Do too, has
// been written to the network, as long as the peer takes something of it within
// 30 seconds. The error is ErrClosing. One may wait at a time; not on a loop.
func (c *Conn) Flushed() error { return c.flushedBy(nil) }

// FlushedWithin is Flushed with a bound, after which the error is ErrSlow.
func (c *Conn) FlushedWithin(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	return c.flushedBy(t.C)
}

func (c *Conn) flushedBy(timeout <-chan time.Time) error {
	written := make(chan struct{})
	if !c.loop.Do(func() { c.flushed = written; c.flush() }) {
		return ErrClosing
	}
	c.loop.Flush()
	select {
	case <-written:
	case <-timeout:
		c.loop.Do(func() {
			if c.flushed == written {
				c.flushed = nil
			}
		})
		c.loop.Flush()
		return ErrSlow
	}
	if c.closing.Load() {
		return ErrClosing
	}
	return nil
}

// Loop is the loop that the connection belongs to.
func (c *Conn) Loop() *Loop { return c.loop }

// Now is Group.Now.
func (c *Conn) Now() int64 { return c.group.Now() }

// Close sends a close frame after all that was sent before, and ends the
// connection when the peer has answered it, or after five seconds. Only the
// first reason counts. It may be called like Send.
func (c *Conn) Close(code int, text string, r Reason) {
	c.blame(r)
	c.closing.Store(true)
	var b [maxHeader + maxControl]byte
	c.loop.postBytes(evClose, c, appendClose(b[:0], code, text))
	c.loop.Flush()
}

// drain asks the client to go elsewhere: nothing that it sends any more is looked
// at, and when what it has sent was answered, or after drainWait, the connection
// is closed with CodeRestart. It may be called like Send.
func (c *Conn) drain() {
	c.blame(ReasonDrain)
	c.closing.Store(true)
	c.loop.post(event{kind: evDrain, conn: c})
	c.loop.Flush()
}

// Answered is to be called when an Answerer has fewer unanswered messages than
// before, after the answer was sent. It may be called like Send.
func (c *Conn) Answered() {
	if c.closing.Load() {
		c.loop.post(event{kind: evDrain, conn: c})
		c.loop.Flush()
	}
}

// cut ends the connection without a word.
func (c *Conn) cut(r Reason) {
	c.blame(r)
	c.closing.Store(true)
	c.loop.post(event{kind: evCut, conn: c})
	c.loop.Flush()
}

// blame notes why the connection ends, if nobody has yet.
func (c *Conn) blame(r Reason) { c.reason.CompareAndSwap(uint32(reasonNone), uint32(r)) }

// The rest of this file runs on the loop.

// Begin starts a frame with a payload of the given size and returns the buffer
// to append exactly that payload to, for Commit; false when the connection is
// closing. Only for a Deliverer, on its loop.
func (c *Conn) Begin(op Opcode, size int) (b []byte, ok bool) {
	if c.state != stateOpen {
		return nil, false
	}
	need := maxHeader + size
	if c.out == nil {
		c.out = c.loop.buffer(need)
	}
	return appendHeader(c.out, op, size), true
}

// Commit queues the frame that Begin began.
func (c *Conn) Commit(b []byte) {
	c.out = b
	c.appended()
}

// Queue queues a copy of finished frames (see AppendFrame) behind what was committed.
// Only on the loop.
func (c *Conn) Queue(frames []byte) { c.append(frames) }

// QueueAnswer is Queue for what the client has asked for: it does not count against
// the bound of the queue, since its size says nothing of the client being slow.
// Whoever answers bounds how much a client may ask for at once.
func (c *Conn) QueueAnswer(frames []byte) {
	if c.state == stateOpen {
		c.asked += len(frames)
		c.append(frames)
	}
}

// CloseHere is Close for a Deliverer, on its loop: what was committed before goes
// out, and nothing after it.
func (c *Conn) CloseHere(code int, text string, r Reason) {
	c.blame(r)
	c.closing.Store(true)
	c.appendLast(appendClose(nil, code, text))
}

// append queues finished frames.
func (c *Conn) append(frames []byte) {
	if c.state != stateOpen {
		return
	}
	if c.out == nil {
		c.out = c.loop.buffer(len(frames))
	}
	c.out = append(c.out, frames...)
	c.appended()
}

// appended marks the connection for the flush at the end of the batch and holds
// its queue to the bound.
func (c *Conn) appended() {
	c.mark()
	limit := c.group.cfg.MaxQueueBytes
	if len(c.out) >= flushBytes || limit > 0 && len(c.out) > limit {
		c.flush()
	}
	if limit > 0 && c.backlog != nil && c.backlog.size()+len(c.out) > limit+c.asked {
		c.slow()
	}
}

func (c *Conn) mark() {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// slow closes a connection that reads too slowly. Its queue is dropped but for
// what is being written, so that the close frame still comes through if the
// peer reads on.
func (c *Conn) slow() {
	c.out = c.out[:0]
	c.backlog.truncate()
	c.CloseHere(CodeTryLater, "slow reader", ReasonSlow)
}

// appendLast queues a close frame; nothing goes out after it.
func (c *Conn) appendLast(frame []byte) {
	if c.state != stateOpen {
		return
	}
	c.become(stateClosing)
	c.deadline = c.group.Now() + int64(closeGrace)
	c.out = append(c.out, frame...)
	c.mark()
}

// become ends the open state.
func (c *Conn) become(state connState) {
	was := c.state
	c.state = state
	if was == stateOpen && c.closer != nil {
		c.closer.Closing()
	}
}

// flush writes what is queued without blocking.
func (c *Conn) flush() {
	if c.state == stateEnded {
		c.tellFlushed()
		return
	}
	if len(c.out) > 0 {
		c.writeOut()
	}
	c.settle()
}

func (c *Conn) writeOut() {
	if c.backlog != nil {
		var ok bool
		if c.out, ok = c.backlog.add(c.out); ok {
			return
		}
		c.backlog = nil
	}
	n, err := c.write(c.out)
	switch {
	case err != nil:
		c.blame(ReasonNetwork)
		c.end()
	case n < len(c.out):
		c.backlog = newBacklog(c, c.out[n:])
		c.out = nil
	default:
		c.loop.recycle(c.out)
		c.out = nil
	}
}

// tellFlushed has Flushed return.
func (c *Conn) tellFlushed() {
	if c.flushed != nil {
		close(c.flushed)
		c.flushed = nil
	}
}

// settle goes on, with closing or what waits, when everything has been written.
func (c *Conn) settle() {
	if len(c.out) > 0 || c.backlog != nil && !c.backlog.finished() {
		return
	}
	c.asked = 0
	c.tellFlushed()
	if c.state != stateClosing {
		return
	}
	if c.shutting {
		c.end()
	} else if c.lingering.Load() {
		// The reader waits for the peer to go: let it see the end of the stream.
		if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = w.CloseWrite() // an error means that it has gone
		}
	}
}

// drained closes a draining connection if it is time.
func (c *Conn) drained() {
	if c.state != stateOpen || Reason(c.reason.Load()) != ReasonDrain {
		return
	}
	now := c.group.Now()
	if c.restart == 0 {
		c.restart = now + int64(drainWait)
	}
	waiting := c.handling.Load() || c.answers != nil && c.answers.Unanswered() > 0 // in this order
	if !waiting || now >= c.restart {
		// Through the queue, where the last answers may still be.
		c.loop.postOwn(evClose, c, appendClose(nil, CodeRestart, "service restart"))
	}
}

// shut ends the connection when its output is written; its reader has gone.
func (c *Conn) shut() {
	c.shutting = true
	c.deadline = c.group.Now() + int64(closeGrace)
	if c.state == stateOpen {
		c.become(stateClosing)
	}
	c.flush()
}

// end closes the socket, which ends the reader too.
func (c *Conn) end() {
	if c.state == stateEnded {
		return
	}
	c.become(stateEnded)
	_ = c.nc.Close()
	if c.backlog != nil {
		c.backlog.truncate()
	}
	c.out = nil
	c.tellFlushed()
	c.loop.remove(c)
}

// keepalive is called once each keepaliveStep.
func (c *Conn) keepalive(now int64) {
	c.settle()
	if c.state == stateEnded {
		return
	}
	if c.state == stateClosing {
		if now > c.deadline {
			c.end()
		}
		return
	}
	if c.restart > 0 {
		c.drained()
		return
	}
	cfg := &c.group.cfg
	heard := c.heard.Load()
	if heard >= c.pinged {
		c.pinged = 0
	}
	switch silent := time.Duration(now - heard); {
	case cfg.IdleTimeout > 0 && silent >= cfg.IdleTimeout:
		c.CloseHere(CodeIdle, "idle timeout", ReasonIdle)
	case c.pinged > 0 && time.Duration(now-c.pinged) >= pongTimeout:
		c.blame(ReasonPing)
		c.end()
	case cfg.PingInterval > 0 && c.pinged == 0 && silent >= cfg.PingInterval:
		c.pinged = now
		c.append(appendHeader(nil, opPing, 0))
	}
}
