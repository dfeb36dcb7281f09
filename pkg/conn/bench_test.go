package conn

import (
	"io"
	"testing"
	"time"

	"parley/pkg/relay"
)

// fixed delivers its own payload, whatever the message.
type fixed struct {
	conn    *Conn
	payload []byte
}

func (d *fixed) Deliver(*relay.Message) {
	if b, ok := d.conn.Begin(OpText, len(d.payload)); ok {
		d.conn.Commit(append(b, d.payload...))
	}
}

// quiet is a connection over TCP whose loop does nothing by itself any more, so
// that a test may stand in for it.
func quiet(t testing.TB) *Conn {
	f := newFixture(t, Config{}, funcs{})
	f.listen()
	p := f.connect(t)
	go func() { _, _ = io.Copy(io.Discard, p.nc) }() // ends with the connection
	c := <-f.opened
	f.settle()
	return c
}

// onLoop runs f on the loop of c, in place of an event, and waits for it.
func onLoop(c *Conn, f func()) {
	done := make(chan struct{})
	c.loop.Post([]Deliverer{call(func() { f(); close(done) })}, relay.Message{Time: time.Now()})
	c.loop.Flush()
	<-done
}

type call func()

func (f call) Deliver(*relay.Message) { f() }

// A delivery allocates nothing: its frame is written into a buffer that the
// connection has taken from the loop's and that goes back when it is written.
func TestDeliveryAllocatesNothing(t *testing.T) {
	c := quiet(t)
	d := &fixed{c, make([]byte, 200)}
	var allocs float64
	onLoop(c, func() {
		allocs = testing.AllocsPerRun(1000, func() {
			d.Deliver(nil)
			c.flush()
		})
	})
	if allocs != 0 {
		t.Errorf("%v allocations a delivery that is written at once, want 0", allocs)
	}
	onLoop(c, func() {
		allocs = testing.AllocsPerRun(1000, func() {
			for range 10 {
				d.Deliver(nil)
			}
			c.flush()
		})
	})
	if allocs != 0 {
		t.Errorf("%v allocations for ten deliveries in one write, want 0", allocs)
	}
}

// Queueing allocates nothing once the queue and its arena have grown.
func TestEnqueueAllocatesNothing(t *testing.T) {
	c := quiet(t)
	frames := AppendFrame(nil, OpText, make([]byte, 150))
	recipients := []Deliverer{&fixed{c, make([]byte, 150)}}
	m := relay.Message{Time: time.Now()}
	l := c.loop
	onLoop(c, func() { // the loop takes nothing meanwhile
		const n = 1000
		for range n + 2 {
			c.Send(frames)
			l.Post(recipients, m)
		}
		l.mu.Lock()
		l.queue, l.arena = l.queue[:0], l.arena[:0]
		l.mu.Unlock()
		if got := testing.AllocsPerRun(n, func() { c.Send(frames) }); got != 0 {
			t.Errorf("%v allocations a Send, want 0", got)
		}
		l.mu.Lock()
		l.queue, l.arena = l.queue[:0], l.arena[:0]
		l.mu.Unlock()
		if got := testing.AllocsPerRun(n, func() { l.Post(recipients, m) }); got != 0 {
			t.Errorf("%v allocations a Post, want 0", got)
		}
	})
}

// inFlight is how much of a benchmark waits for the loop at a time.
const inFlight = 64

// BenchmarkSend is the way of an answer: queued from any goroutine, appended by
// the loop, written to the socket together with what else there is. It includes
// the kernel's work. The bytes that it shows as allocated are the queue of onLoop and backlogs, when the
// peer of the benchmark is too slow.
func BenchmarkSend(b *testing.B) {
	c := quiet(b)
	frames := AppendFrame(nil, OpText, make([]byte, 150))
	b.ReportAllocs()
	b.SetBytes(int64(len(frames)))
	for i := 0; b.Loop(); i++ {
		if c.Send(frames); i%inFlight == 0 {
			settled(c)
		}
	}
	settled(c)
}

// BenchmarkDeliver is the way of a message from the hub to the socket; the same
// holds for its bytes.
func BenchmarkDeliver(b *testing.B) {
	c := quiet(b)
	recipients := []Deliverer{&fixed{c, make([]byte, 150)}}
	b.ReportAllocs()
	b.SetBytes(150)
	for i := 0; b.Loop(); i++ {
		if c.loop.Post(recipients, relay.Message{}); i%inFlight == 0 {
			settled(c)
		}
	}
	settled(c)
}

// BenchmarkDeliverToQueue is the loop's part of it without the socket.
func BenchmarkDeliverToQueue(b *testing.B) {
	c := quiet(b)
	d := &fixed{c, make([]byte, 150)}
	b.ReportAllocs()
	b.SetBytes(150)
	onLoop(c, func() {
		for b.Loop() {
			d.Deliver(nil)
			if len(c.out) > flushBytes/2 {
				c.out = c.out[:0]
			}
		}
		c.out = c.out[:0]
	})
}

// settled returns when the loop of c has done what was posted.
func settled(c *Conn) { onLoop(c, func() {}) }
