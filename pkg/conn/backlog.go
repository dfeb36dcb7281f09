package conn

import (
	"errors"
	"os"
	"sync"
	"time"
)

// segmentBytes is about how much of a backlog is written at once.
const segmentBytes = 16 << 10

// backlog is the output of a connection whose socket is full. While there is
// one, a goroutine of its own writes it, blocking; it ends when it has caught
// up. Only the loop adds.
type backlog struct {
	conn *Conn

	mu       sync.Mutex
	segments [][]byte // whole frames each, but for the first; that one is being written
	bytes    int
	done     bool // the goroutine has ended
}

// newBacklog starts with what a write has left over.
func newBacklog(c *Conn, rest []byte) *backlog {
	b := &backlog{conn: c, segments: [][]byte{rest}, bytes: len(rest)}
	c.group.metrics.queueBytes.Add(float64(len(rest)))
	c.group.metrics.catchingUp.Inc()
	c.group.readers.Go(b.write)
	return b
}

// finished tells whether all has been written, or given up.
func (b *backlog) finished() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done
}

func (b *backlog) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// add queues frames and returns the buffer to be used for the next ones; false
// when the goroutine has ended, and nothing was queued.
func (b *backlog) add(frames []byte) (next []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return frames, false
	}
	b.bytes += len(frames)
	b.conn.group.metrics.queueBytes.Add(float64(len(frames)))
	if last := len(b.segments) - 1; last > 0 && len(b.segments[last])+len(frames) <= segmentBytes {
		b.segments[last] = append(b.segments[last], frames...)
		return frames[:0], true
	}
	b.segments = append(b.segments, frames)
	return nil, true
}

// truncate drops all but the segment that is being written.
func (b *backlog) truncate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := 1; i < len(b.segments); i++ {
		b.bytes -= len(b.segments[i])
		b.conn.group.metrics.queueBytes.Sub(float64(len(b.segments[i])))
		b.segments[i] = nil
	}
	b.segments = b.segments[:min(len(b.segments), 1)]
}

// write is the goroutine.
func (b *backlog) write() {
	c := b.conn
	defer c.group.metrics.catchingUp.Dec()
	for {
		b.mu.Lock()
		if len(b.segments) == 0 {
			_ = c.nc.SetWriteDeadline(time.Time{}) // lest it fail the loop's writes
			b.done = true
			b.mu.Unlock()
			// The loop may be waiting for this to close the connection.
			c.loop.post(event{kind: evCaughtUp, conn: c})
			c.loop.Flush()
			return
		}
		segment := b.segments[0]
		b.mu.Unlock()
		err := c.writeAll(segment)
		b.mu.Lock()
		b.bytes -= len(segment)
		c.group.metrics.queueBytes.Sub(float64(len(segment)))
		b.segments = b.segments[1:]
		b.mu.Unlock()
		if err != nil {
			why := ReasonNetwork
			if errors.Is(err, os.ErrDeadlineExceeded) {
				why = ReasonSlow
			}
			c.blame(why) // before the loop can try to write
			b.truncate()
			b.mu.Lock()
			for _, s := range b.segments {
				b.bytes -= len(s)
				c.group.metrics.queueBytes.Sub(float64(len(s)))
			}
			b.segments, b.done = nil, true
			b.mu.Unlock()
			c.cut(why)
			return
		}
	}
}

// writeAll writes p, blocking, as long as the peer takes something of it within
// each stallTimeout. A peer that takes something is there, even if it has not
// come to our ping yet.
func (c *Conn) writeAll(p []byte) error {
	for len(p) > 0 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(stallTimeout)) // a closed socket fails the write
		n, err := c.nc.Write(p[:min(len(p), segmentBytes)])
		if n >= segmentBytes/2 { // a ping alone may have found room in the kernel
			c.heard.Store(c.group.Now())
		}
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		p = p[n:]
	}
	return nil
}
