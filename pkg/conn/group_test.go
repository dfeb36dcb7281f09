package conn

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// After many connections that went in every way, no goroutine and no memory of
// theirs is left.
func TestNothingIsLeftOfConnections(t *testing.T) {
	const total, together = 2000, 50
	f := newFixture(t, Config{MaxFrameBytes: testFrameLimit, MaxQueueBytes: 1 << 20}, funcs{message: func(c *Conn, data []byte) {
		if string(data) == "panic" {
			panic("on purpose")
		}
		echo(c, data)
	}}).listen()
	ways := []func(*peer, *Conn){
		func(p *peer, _ *Conn) { p.send(opClose, closePayload(1000, "")) },
		func(p *peer, _ *Conn) { _ = p.nc.Close() },
		func(_ *peer, c *Conn) { c.Close(CodeRestart, "", ReasonDrain) },
		func(_ *peer, c *Conn) { c.cut(ReasonPing) },
		func(p *peer, _ *Conn) { p.write(violations["unmasked"]) },
		func(p *peer, _ *Conn) { p.send(OpText, string(make([]byte, testFrameLimit+1))) },
		func(p *peer, _ *Conn) { p.send(OpText, "panic") },
		func(p *peer, _ *Conn) { p.write(clientFrame(0, OpText, []byte("part"))); _ = p.nc.Close() },
	}
	var freed atomic.Int32
	before := runtime.NumGoroutine()
	t.Run("come and go", func(t *testing.T) {
		for from := 0; from < total; from += together {
			var peers []*peer
			var conns []*Conn
			for range together {
				p := f.connect(t)
				p.send(OpText, "hello")
				p.want(OpText, "hello")
				peers, conns = append(peers, p), append(conns, <-f.opened)
			}
			for i, p := range peers {
				runtime.AddCleanup(conns[i], func(int) { freed.Add(1) }, 0)
				ways[(from+i)%len(ways)](p, conns[i])
				p.leave()
				<-f.ended
			}
		}
	})
	waitFor(func() bool { return f.group.Len() == 0 && runtime.NumGoroutine() <= before })
	f.settle()
	for _, l := range f.group.loops {
		if n := len(l.conns); n != 0 { // settled, and nobody is left who could change it
			t.Errorf("a loop holds %d connections", n)
		}
	}
	waitFor(func() bool { runtime.GC(); return freed.Load() == total })
	if n := figure(t, f.metrics.connections.WithLabelValues(testProtocol)); n != 0 {
		t.Errorf("parley_connections is %v", n)
	}
	if n := figure(t, f.metrics.accepted.WithLabelValues(testProtocol)); n != total {
		t.Errorf("parley_connections_accepted_total is %v, want %d", n, total)
	}
}

// Close ends connections in whatever state they are. The test's clock would not
// let a goroutine stay behind.
func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opening := make(chan struct{})
		f := newFixture(t, aliveConfig, funcs{message: echo, open: func(c *Conn) error {
			switch c.ID {
			case 1:
				<-opening // as if Redis took its time
			case 2:
				c.Close(CodeTryLater, "", ReasonBroker)
				return errors.New("refused")
			}
			return nil
		}})
		var all []*peer
		for range 6 {
			all = append(all, f.pipe(t))
		}
		conns := map[uint64]*Conn{}
		for range all {
			c := <-f.opened
			conns[c.ID] = c
		}
		deliver(conns[3], make([]byte, 1000)) // a backlog
		deliver(conns[4], make([]byte, 1000)) // a backlog whose reader has gone
		go all[3].send(opClose, "")
		conns[5].Close(CodeRestart, "", ReasonDrain) // a close frame that nobody reads
		all[5].write([]byte{0x81})                   // the middle of a frame
		synctest.Wait()
		go func() {
			time.Sleep(time.Second)
			close(opening)
		}()
		began := time.Now()
		f.group.Close()
		elapsed(t, began, time.Second, time.Second+clockStep)
		f.group.Close() // does nothing
		for i, p := range all {
			if _, err := p.nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("connection %d is open: %v", i+1, err)
			}
		}
		if refusal := f.group.Admit(netip.Addr{}); refusal != Draining {
			t.Errorf("a closed group admits: %q", refusal)
		}
		f.wantNothingQueued()
	})
}

// Who is admitted while the group closes is ended like everybody else.
func TestCloseWhileClientsCome(t *testing.T) {
	for range 20 {
		f := newFixture(t, Config{}, funcs{message: echo})
		var wg sync.WaitGroup
		var served atomic.Int32
		for range 4 {
			wg.Go(func() {
				for f.group.Admit(netip.Addr{}) == Admitted {
					p := f.admitted(t)
					served.Add(1)
					_, _ = p.nc.Write(clientFrame(bitFin, opClose, nil)) // may have been cut
					p.leave()
				}
			})
		}
		waitFor(func() bool { return served.Load() > 0 })
		f.group.Close()
		wg.Wait()
		if f.group.Len() != 0 {
			t.Fatalf("%d connections left", f.group.Len())
		}
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		for range 4 {
			f.pipe(t)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		f.group.Refuse()
		f.group.Drain(ctx, time.Minute)
		elapsed(t, began, 10*time.Second, 10*time.Second)
		if f.group.Len() != 4 {
			t.Errorf("%d connections are left, want all: the first is due after 15 s", f.group.Len())
		}
	})
}
