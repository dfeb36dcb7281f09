package conn

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// later is a handler with answers that come later.
type later struct {
	*funcs
	unanswered atomic.Int32
}

func (l *later) Unanswered() int { return int(l.unanswered.Load()) }

// answering serves one connection whose first message is not answered yet.
func answering(t *testing.T, f *fixture) (*peer, *Conn, *later) {
	l := &later{}
	f.wrap = func(h *funcs) Handler {
		h.message = func(*Conn, []byte) { l.unanswered.Add(1) }
		l.funcs = h
		return l
	}
	p := f.pipe(t)
	c := <-f.opened
	p.send(OpText, "a question")
	synctest.Wait()
	if l.Unanswered() != 1 {
		t.Fatal("the question has not come")
	}
	return p, c, l
}

// A connection that drains is closed when its client has its answers.
func TestDrainWaitsForAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		p, c, l := answering(t, f)
		began := time.Now()
		go f.group.Drain(t.Context(), 0)
		time.Sleep(drainWait / 2)
		go p.send(OpText, "comes too late")
		synctest.Wait()
		c.Send(AppendFrame(nil, OpText, []byte("the answer")))
		l.unanswered.Add(-1)
		c.Answered()
		c.Flush()
		p.want(OpText, "the answer")
		p.wantClose(CodeRestart, "service restart")
		elapsed(t, began, drainWait/2, drainWait/2)
		if l.Unanswered() != 0 {
			t.Error("a message was taken while the connection drained")
		}
		p.send(opClose, closePayload(CodeRestart, ""))
		p.wantEOF()
		f.wantEnded(ReasonDrain)
	})
}

func TestDrainWaitsForAnswersNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		p, _, _ := answering(t, f)
		began := time.Now()
		go f.group.Drain(t.Context(), 0)
		p.wantClose(CodeRestart, "service restart")
		elapsed(t, began, drainWait, drainWait+keepaliveStep+clockStep)
		p.send(opClose, closePayload(CodeRestart, ""))
		p.wantEOF()
		f.wantEnded(ReasonDrain)
	})
}

// Whoever posts to a loop that is far behind waits, and nothing is lost.
func TestLoopIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		fits int
	}{
		"events": {nil, maxQueued},
		"bytes":  {make([]byte, 1<<20), maxQueuedBytes >> 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{}, funcs{})
				l := f.group.loops[0]
				busy := make(chan struct{})
				l.Post([]Deliverer{call(func() { <-busy })}, relay.Message{Time: time.Now()})
				l.Flush()
				synctest.Wait() // the loop is at work, and its queue is empty
				var posted, delivered atomic.Int32
				count := []Deliverer{call(func() { delivered.Add(1) })}
				done := make(chan struct{})
				go func() {
					defer close(done)
					for range 2*c.fits + 1 {
						l.Post(count, relay.Message{Time: time.Now(), Body: c.body})
						posted.Add(1)
					}
					l.Flush()
				}()
				synctest.Wait()
				if n := int(posted.Load()); n > c.fits || n < c.fits-10 { // a tick or two of the clock is there too
					t.Errorf("%d events were taken, want %d", n, c.fits)
				}
				close(busy)
				<-done
				synctest.Wait()
				if n := int(delivered.Load()); n != 2*c.fits+1 {
					t.Errorf("%d were delivered, want %d", n, 2*c.fits+1)
				}
			})
		})
	}
}

// What is posted to a group that was closed is dropped.
func TestPostAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, funcs{})
		f.pipe(t)
		c := <-f.opened
		f.group.Close()
		for range 2 * maxQueued {
			deliver(c, make([]byte, 1000))
			c.Send(AppendFrame(nil, OpText, make([]byte, 1000)))
		}
		c.Close(CodeRestart, "", ReasonDrain)
		c.Answered()
		if l := c.loop; len(l.queue) != 0 || len(l.arena) != 0 {
			t.Errorf("%d events and %d bytes wait for a loop that has ended", len(l.queue), len(l.arena))
		}
	})
}

// An IPv6 host has a /64 network to itself: all of it is one address.
func TestAdmitCountsNetworksOfIPv6(t *testing.T) {
	f := newFixture(t, Config{MaxConnectionsPerIP: 1}, funcs{})
	for _, step := range []struct {
		ip   string
		want Refusal
	}{
		{"2001:db8::1", Admitted},
		{"2001:db8::ffff:1:2:3", AddressFull},
		{"2001:db8:0:1::1", Admitted},
		{"192.0.2.1", Admitted},
		{"192.0.2.2", Admitted},
		{"192.0.2.1", AddressFull},
	} {
		if got := f.group.Admit(netip.MustParseAddr(step.ip)); got != step.want {
			t.Errorf("%s: %q, want %q", step.ip, got, step.want)
		}
	}
	f.group.Leave(netip.MustParseAddr("2001:db8::2")) // as good as the first
	if got := f.group.Admit(netip.MustParseAddr("2001:db8::3")); got != Admitted {
		t.Errorf("the network's place is free: %q", got)
	}
	for _, ip := range []string{"2001:db8::3", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"} {
		f.group.Leave(netip.MustParseAddr(ip))
	}
	if len(f.group.perIP) != 0 {
		t.Errorf("still counted: %v", f.group.perIP)
	}
}

// A peer that reads slowly, but reads, is not taken for one that is not there:
// it cannot answer a ping that waits behind what it has not read.
func TestSlowReaderIsNotPingedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		p := f.pipe(t)
		c := <-f.opened
		payload := make([]byte, 10*segmentBytes)
		deliver(c, payload)
		for got := 0; got < len(payload); {
			time.Sleep(20 * time.Second)
			b := make([]byte, segmentBytes/2)
			for n := 0; n < len(b); {
				k, err := p.nc.Read(b[n:])
				if err != nil {
					t.Fatalf("after %d bytes: %v", got, err)
				}
				n += k
			}
			got += len(b)
		}
		if len(f.ended) != 0 {
			t.Errorf("ended: %v", (<-f.ended).reason)
		}
	})
}
