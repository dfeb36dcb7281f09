package conn

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"parley/pkg/relay"
)

// flushBytes is how much may gather for a connection within one batch before
// it is written.
const flushBytes = 64 << 10

// maxQueued and maxQueuedBytes bound what waits for a loop. Whoever posts more
// waits: clients are not read, and in the end Redis, whose own bound for a slow
// subscriber makes it a gap that is counted.
const (
	maxQueued      = 1 << 16
	maxQueuedBytes = 64 << 20
)

// spareBuffers is how many output buffers a loop keeps for the next batch, and
// spareBytes how large one of them may be.
const (
	spareBuffers = 1024
	spareBytes   = 16 << 10
)

// Deliverer takes messages for a connection. It is called on the connection's
// loop and must not block.
type Deliverer interface {
	Deliver(m *relay.Message)
}

type eventKind uint8

const (
	evDeliver  eventKind = iota // message to recipients
	evFrames                    // finished frames for conn
	evClose                     // a close frame for conn, the last of its frames
	evCaughtUp                  // conn's backlog has been written
	evShut                      // conn is to be closed when its output is written
	evCut                       // conn is to be closed now
	evDrain                     // conn is to be closed when what its client sent is answered
	evAdd
	evTick
	evDo // call do
	evStop
)

// event is one entry of a loop's queue.
type event struct {
	kind       eventKind
	conn       *Conn
	from, to   int // evFrames, evClose: bytes of the queue's arena
	recipients []Deliverer
	message    relay.Message
	do         func()
}

// Loop owns the outbound side of its connections.
type Loop struct {
	group *Group
	wake  chan struct{}
	size  atomic.Int32 // len(queue)

	mu       sync.Mutex
	room     sync.Cond // queue and bytes are below their bounds again, or the loop has ended
	queue    []event
	bytes    int // of the messages and frames in queue
	ended    bool
	arena    []byte // the frames of the queued events
	sleeping bool

	// Owned by run.
	conns []*Conn
	dirty []*Conn
	spare [][]byte
}

func newLoop(g *Group) *Loop {
	l := &Loop{group: g, wake: make(chan struct{}, 1)}
	l.room.L = &l.mu
	return l
}

// Post queues a message for recipients, all of which belong to this loop. They
// get it in the order of the calls, at the next Flush or before. The slice must
// not be changed afterwards. Post waits only while the loop is behind by
// maxQueued events or maxQueuedBytes; never call it on a loop.
func (l *Loop) Post(recipients []Deliverer, m relay.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admit(len(m.Body)) {
		l.queue = append(l.queue, event{kind: evDeliver, recipients: recipients, message: m})
		l.size.Store(int32(len(l.queue)))
	}
}

// admit waits for room in the queue and counts what is to be added; false when
// the loop has ended. It is called with mu held.
func (l *Loop) admit(bytes int) bool {
	for !l.ended && (len(l.queue) >= maxQueued || l.bytes >= maxQueuedBytes) {
		if l.sleeping {
			l.sleeping = false
			l.wake <- struct{}{} // has room
		}
		l.room.Wait()
	}
	l.bytes += bytes
	return !l.ended
}

// Do has f called on the loop, in the order of the calls of Post and Do, at the
// next Flush or before. f must not block. Do waits like Post; false when the loop
// has ended, and f is dropped.
func (l *Loop) Do(f func()) bool { return l.post(event{kind: evDo, do: f}) }

// Flush has the loop work on what was posted. It never blocks.
func (l *Loop) Flush() {
	if l.size.Load() == 0 {
		return
	}
	l.mu.Lock()
	wake := l.sleeping && len(l.queue) > 0
	if wake {
		l.sleeping = false
	}
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{} // has room: one wake-up for each time that it slept
	}
}

// post queues an event; false when the loop has ended.
func (l *Loop) post(e event) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.admit(0) {
		return false
	}
	l.queue = append(l.queue, e)
	l.size.Store(int32(len(l.queue)))
	return true
}

// postBytes queues a copy of finished frames.
func (l *Loop) postBytes(kind eventKind, c *Conn, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.admit(len(b)) {
		l.add(kind, c, b)
	}
}

// postOwn is postBytes for the loop itself, which must not wait for room.
func (l *Loop) postOwn(kind eventKind, c *Conn, b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += len(b)
	l.add(kind, c, b)
}

// add is called with mu held.
func (l *Loop) add(kind eventKind, c *Conn, b []byte) {
	from := len(l.arena)
	l.arena = append(l.arena, b...)
	l.queue = append(l.queue, event{kind: kind, conn: c, from: from, to: len(l.arena)})
	l.size.Store(int32(len(l.queue)))
}

// snapshot returns the loop's connections at this moment.
func (l *Loop) snapshot() []*Conn {
	answer := make(chan []*Conn, 1)
	if !l.Do(func() { answer <- append([]*Conn(nil), l.conns...) }) {
		return nil
	}
	l.Flush()
	return <-answer
}

// run works until evStop.
func (l *Loop) run() {
	var batch []event
	var arena []byte
	for {
		runtime.Gosched() // whoever has more to post goes first: one write then takes it all
		l.mu.Lock()
		for len(l.queue) == 0 {
			l.sleeping = true
			l.mu.Unlock()
			<-l.wake
			l.mu.Lock()
		}
		batch, l.queue = l.queue, batch[:0]
		arena, l.arena = l.arena, arena[:0]
		l.bytes = 0
		l.size.Store(0)
		l.room.Broadcast()
		l.mu.Unlock()
		observed := false
		for i := range batch {
			e := &batch[i]
			if e.kind == evStop {
				l.end()
				return
			}
			if e.kind == evDeliver && !observed {
				observed = true
				l.group.metrics.delivery.Observe(time.Since(e.message.Time).Seconds())
			}
			l.handle(e, arena)
		}
		clear(batch)
		for _, c := range l.dirty {
			c.dirty = false
			c.flush()
		}
		clear(l.dirty)
		l.dirty = l.dirty[:0]
		if cap(arena) > 1<<20 {
			arena = nil // one large batch should not hold memory for good
		}
		if cap(batch) > 1<<14 {
			batch = nil
		}
	}
}

// end has everything that is posted from now on dropped.
func (l *Loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.queue, l.arena = nil, nil
	l.size.Store(0)
	l.room.Broadcast()
}

func (l *Loop) handle(e *event, arena []byte) {
	switch e.kind {
	case evDeliver:
		for _, d := range e.recipients {
			d.Deliver(&e.message)
		}
	case evFrames:
		e.conn.append(arena[e.from:e.to])
	case evClose:
		e.conn.appendLast(arena[e.from:e.to])
	case evCaughtUp:
		e.conn.flush()
	case evShut:
		e.conn.shut()
	case evCut:
		e.conn.end()
	case evDrain:
		e.conn.drained()
	case evAdd:
		e.conn.index = len(l.conns)
		l.conns = append(l.conns, e.conn)
	case evTick:
		now := l.group.Now()
		for i := len(l.conns) - 1; i >= 0; i-- { // a connection may end, which moves the last one here
			l.conns[i].keepalive(now)
		}
	case evDo:
		e.do()
	}
}

// remove takes a connection that has ended out of the loop's list.
func (l *Loop) remove(c *Conn) {
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
}

// buffer returns an empty buffer with room for n bytes.
func (l *Loop) buffer(n int) []byte {
	if last := len(l.spare) - 1; last >= 0 && n <= spareBytes {
		b := l.spare[last]
		l.spare = l.spare[:last]
		if cap(b) >= n {
			return b
		}
	}
	return make([]byte, 0, max(n, 1024))
}

// recycle takes a buffer back that nobody uses any more.
func (l *Loop) recycle(b []byte) {
	if cap(b) <= spareBytes && len(l.spare) < spareBuffers {
		l.spare = append(l.spare, b[:0])
	}
}
