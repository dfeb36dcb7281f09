package conn

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// body delivers a message's body as a text frame.
type body struct{ conn *Conn }

func (d body) Deliver(m *relay.Message) {
	if b, ok := d.conn.Begin(OpText, len(m.Body)); ok {
		d.conn.Commit(append(b, m.Body...))
	}
}

// deliver posts a message for one connection.
func deliver(c *Conn, payload []byte) {
	c.Loop().Post([]Deliverer{body{c}}, relay.Message{Time: time.Now(), Body: payload})
	c.Flush()
}

// numbered makes a payload that shows whose it is, its place, and whether it is
// whole; sizes vary around those of headers, buffers and segments.
func numbered(source string, n int) []byte {
	sizes := []int{0, 90, 130, 1500, 9000, 70_000}
	size := sizes[n%len(sizes)]
	return append(fmt.Appendf(nil, "%s %d %d ", source, n, size), bytes.Repeat([]byte{source[0]}, size)...)
}

// order checks payloads of several sources, each of which is numbered.
type order struct {
	t    *testing.T
	next map[string]int
}

func newOrder(t *testing.T) *order { return &order{t, map[string]int{}} }

func (o *order) check(payload []byte) {
	o.t.Helper()
	var source string
	var n, size int
	if _, err := fmt.Sscanf(string(payload[:min(len(payload), 64)]), "%s %d %d ", &source, &n, &size); err != nil {
		o.t.Fatalf("%.80q: %v", payload, err)
	}
	if want := numbered(source, n); !bytes.Equal(payload, want) {
		o.t.Fatalf("%s %d has come mixed up: %d bytes, want %d: %.80q", source, n, len(payload), len(want), payload)
	}
	if n != o.next[source] {
		o.t.Fatalf("%s %d has come when %d was due", source, n, o.next[source])
	}
	o.next[source]++
}

// receiveLittle has the client's socket hold little, so that the server's fills.
func receiveLittle(p *peer) *peer {
	if err := p.nc.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// wantNothingQueued waits until nobody catches up, and sees that the figures add up.
func (f *fixture) wantNothingQueued() {
	f.t.Helper()
	waitFor(func() bool { return figure(f.t, f.metrics.catchingUp) == 0 })
	if q := figure(f.t, f.metrics.queueBytes); q != 0 {
		f.t.Errorf("nobody catches up, and %v bytes are queued", q)
	}
}

// Everything that writes to a connection does so at once, first while the peer
// does not read, then while it does. Frames come whole, and those of each source
// in their order.
func TestFramesNeverInterleave(t *testing.T) {
	f := newFixture(t, Config{}, funcs{message: func(c *Conn, data []byte) {
		c.Send(AppendFrame(nil, OpText, data))
	}}).listen(smallBuffers)
	p := receiveLittle(f.connect(t))
	c := <-f.opened
	const each = 60
	sources := []string{"alpha", "beta", "gamma"}
	round := func(from int) *sync.WaitGroup {
		var wg sync.WaitGroup
		for _, s := range sources {
			wg.Go(func() {
				for n := from; n < from+each; n++ {
					c.Send(AppendFrame(nil, OpText, numbered(s, n)))
					if n%3 == 0 {
						c.Flush()
					}
				}
				c.Flush()
			})
		}
		wg.Go(func() {
			for n := from; n < from+each; n++ {
				deliver(c, numbered("delivered", n))
			}
		})
		wg.Go(func() {
			for n := from; n < from+each; n++ {
				p.write(clientFrame(bitFin, OpText, numbered("echo", n)))
				p.write(clientFrame(bitFin, opPing, fmt.Appendf(nil, "ping %d", n)))
			}
		})
		return &wg
	}
	round(0).Wait()
	f.settle()
	if n := figure(t, f.metrics.catchingUp); n != 1 {
		t.Fatalf("%v connections catch up, want the one: the socket was never full", n)
	}
	second := round(each)
	seen, pongs, total := newOrder(t), 0, 2*each*(len(sources)+2)
	for messages := 0; messages < total || pongs < 2*each; {
		switch fr := p.read(); fr.op {
		case OpText:
			seen.check(fr.payload)
			messages++
		case opPong:
			if want := fmt.Sprintf("ping %d", pongs); string(fr.payload) != want {
				t.Fatalf("pong %q, want %q", fr.payload, want)
			}
			pongs++
		default:
			t.Fatalf("unexpected %v", fr)
		}
	}
	second.Wait()
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() { c.Close(CodeRestart, "closed once", ReasonDrain) })
		c.Send(AppendFrame(nil, OpText, []byte("may come before the close, not after")))
	}
	closers.Wait()
	var fr frame
	for fr = p.read(); fr.op == OpText; fr = p.read() {
	}
	if want := closePayload(CodeRestart, "closed once"); fr.op != opClose || string(fr.payload) != want {
		t.Fatalf("got %v, want a close", fr)
	}
	p.send(opClose, closePayload(CodeRestart, ""))
	p.wantEOF()
	f.wantEnded(ReasonDrain)
	f.wantNothingQueued()
}

// A peer that stops reading, but not for more than the bound, loses nothing.
func TestPausedReaderGetsEverything(t *testing.T) {
	const bound = 4 << 20
	f := newFixture(t, Config{MaxQueueBytes: bound}, funcs{}).listen(smallBuffers)
	p := receiveLittle(f.connect(t))
	c := <-f.opened
	sent := 0
	for bytes := 0; bytes < bound/2; sent++ {
		payload := numbered("paused", sent)
		bytes += len(payload)
		if sent%2 == 0 {
			deliver(c, payload)
		} else {
			c.Send(AppendFrame(nil, OpText, payload))
		}
	}
	c.Flush()
	f.settle()
	if q := figure(t, f.metrics.queueBytes); q == 0 || q > bound {
		t.Fatalf("%v bytes queued, want some and not more than %d", q, bound)
	}
	seen := newOrder(t)
	for range sent {
		seen.check(p.read().payload)
	}
	// Caught up: the loop writes by itself again.
	for n := sent; n < sent+10; n++ {
		deliver(c, numbered("paused", n))
		seen.check(p.read().payload)
	}
	c.Close(CodeRestart, "", ReasonDrain)
	p.wantClose(CodeRestart, "")
}

// A peer that stops reading is closed when its queue is full. What it had in its
// socket's buffers and the close frame still come; others notice nothing.
func TestSlowReaderIsClosed(t *testing.T) {
	const bound = 256 << 10
	f := newFixture(t, Config{MaxQueueBytes: bound}, funcs{message: echo}).listen(smallBuffers)
	slow, other := receiveLittle(f.connect(t)), f.connect(t)
	c := <-f.opened
	if c2 := <-f.opened; c.ID > c2.ID {
		c = c2
	}
	sent := 0
	for Reason(c.reason.Load()) == reasonNone {
		deliver(c, numbered("slow", sent))
		sent++
		f.settle()
		if q := figure(t, f.metrics.queueBytes); q > bound {
			t.Fatalf("%v bytes queued, over the bound of %d", q, bound)
		}
		other.send(OpText, "still here")
		other.want(OpText, "still here")
	}
	seen := newOrder(t)
	fr := slow.read()
	for ; fr.op == OpText; fr = slow.read() {
		seen.check(fr.payload)
	}
	if want := closePayload(CodeTryLater, "slow reader"); fr.op != opClose || string(fr.payload) != want {
		t.Fatalf("got %v, want the close", fr)
	}
	if got := seen.next["slow"]; got == 0 || got >= sent {
		t.Errorf("%d of %d messages came before the close, want a part of them", got, sent)
	}
	slow.send(opClose, closePayload(CodeTryLater, ""))
	slow.wantEOF()
	f.wantEnded(ReasonSlow)
	waitFor(func() bool { return f.group.Len() == 1 })
	if n := figure(t, f.metrics.disconnects.WithLabelValues(testProtocol, "slow_reader")); n != 1 {
		t.Errorf("%v disconnects for slow_reader, want 1", n)
	}
	other.send(OpText, "and now")
	other.want(OpText, "and now")
	f.wantNothingQueued()
}

// One frame over the bound is written if the socket takes it.
func TestBoundIsForWhatTheSocketDoesNotTake(t *testing.T) {
	f := newFixture(t, Config{MaxQueueBytes: 10}, funcs{message: echo}).listen()
	p := f.connect(t)
	for range 100 {
		p.send(OpText, "more than ten bytes")
		p.want(OpText, "more than ten bytes")
	}
}
