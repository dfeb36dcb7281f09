package conn

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The tests of this file run on a clock of their own (testing/synctest), over
// net.Pipe: times are exact.

// aliveConfig are the defaults of a node.
var aliveConfig = Config{PingInterval: 25 * time.Second, IdleTimeout: 5 * time.Minute, MaxQueueBytes: 1 << 20, MaxFrameBytes: 1 << 17}

// elapsed fails unless the time since a moment lies in [least, most].
func elapsed(t *testing.T, since time.Time, least, most time.Duration) {
	t.Helper()
	if d := time.Since(since); d < least || d > most {
		t.Errorf("it took %v, want %v to %v", d, least, most)
	}
}

func TestHalfOpenPeerIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{message: echo})
		p, began := f.pipe(t), time.Now()
		p.want(opPing, "")
		elapsed(t, began, 25*time.Second, 25*time.Second+keepaliveStep+clockStep)
		p.wantEOF() // nothing was sent: a peer that is not there has no use for a close frame
		f.wantEnded(ReasonPing)
		elapsed(t, began, 33*time.Second, 35*time.Second)
	})
}

// A peer that goes while something is being written to it takes nothing of it.
func TestHalfOpenPeerWithFullSocketIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		f.pipe(t)
		began, c := time.Now(), <-f.opened
		deliver(c, []byte("nobody reads this"))
		f.wantEnded(ReasonSlow)
		elapsed(t, began, stallTimeout, 35*time.Second)
		f.wantNothingQueued()
	})
}

func TestPongKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := aliveConfig
		cfg.IdleTimeout = time.Minute
		f := newFixture(t, cfg, funcs{message: echo})
		p, began := f.pipe(t), time.Now()
		for n := range 1000 { // hours
			p.want(opPing, "")
			time.Sleep(time.Duration(n%80) * pongTimeout / 100) // pongs may take their time
			p.send(opPong, "")
		}
		if time.Since(began) < 6*time.Hour {
			t.Errorf("a thousand pings within %v", time.Since(began))
		}
		p.send(OpText, "hello")
		p.want(OpText, "hello")
	})
}

// Any sign of life answers a ping, and puts off the next one.
func TestTrafficPutsPingsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{message: echo})
		p := f.pipe(t)
		for range 100 {
			time.Sleep(20 * time.Second)
			p.send(OpText, "busy")
			p.want(OpText, "busy") // no ping comes between
		}
		p.want(opPing, "")
		p.send(OpText, "not a pong")
		p.want(OpText, "not a pong")
		began := time.Now()
		p.want(opPing, "")
		elapsed(t, began, 25*time.Second, 25*time.Second+keepaliveStep+clockStep)
	})
}

func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{IdleTimeout: 5 * time.Minute}, funcs{})
		p, began := f.pipe(t), time.Now()
		p.wantClose(CodeIdle, "idle timeout")
		elapsed(t, began, 5*time.Minute, 5*time.Minute+keepaliveStep+clockStep)
		p.send(opClose, closePayload(CodeIdle, ""))
		p.wantEOF()
		f.wantEnded(ReasonIdle)
	})
}

func TestLimitsOfZeroAreOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, funcs{message: echo})
		p := f.pipe(t)
		time.Sleep(10 * time.Hour)
		p.send(OpText, "still there?")
		p.want(OpText, "still there?") // no ping came before
		c := <-f.opened
		for range 100 {
			deliver(c, make([]byte, 1<<20)) // no queue is too long
		}
		for range 100 {
			if fr := p.read(); len(fr.payload) != 1<<20 {
				t.Fatalf("got %v", fr)
			}
		}
		long := make([]byte, 8<<20) // no message is too long
		p.send(OpText, string(long))
		if fr := p.read(); len(fr.payload) != len(long) {
			t.Fatalf("got %v", fr)
		}
	})
}

// A peer that stops in the middle of a frame, or of anything, is a silent one.
func TestStallInsideAFrame(t *testing.T) {
	whole := clientFrame(bitFin, OpText, []byte("never finished"))
	ping := clientFrame(bitFin, opPing, []byte("never finished"))
	for _, part := range [][]byte{whole[:1], whole[:2], whole[:5], whole[:len(whole)-1],
		clientFrame(0, OpText, []byte("a fragment")), ping[:1], ping[:4], ping[:len(ping)-1]} {
		t.Run(fmt.Sprintf("% x", part), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, aliveConfig, funcs{message: func(_ *Conn, data []byte) {
					t.Errorf("a message: %q", data)
				}})
				p, began := f.pipe(t), time.Now()
				p.write(part)
				p.want(opPing, "")
				p.wantEOF()
				f.wantEnded(ReasonPing)
				elapsed(t, began, 33*time.Second, 35*time.Second)
			})
		})
	}
}

// A frame may come byte by byte as long as each byte comes in time.
func TestFrameByteByByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{message: echo})
		p := f.pipe(t)
		for _, b := range clientFrame(bitFin, OpText, make([]byte, 1000)) {
			time.Sleep(24 * time.Second)
			p.write([]byte{b})
		}
		p.want(OpText, string(make([]byte, 1000)))
	})
}

// A peer that takes something of what is written, however little, within each
// stallTimeout is left alone; one that takes nothing is a slow reader.
func TestStalledWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{}, funcs{})
		p := f.pipe(t)
		c := <-f.opened
		deliver(c, make([]byte, 1000))
		for range 100 {
			time.Sleep(stallTimeout - time.Second)
			if _, err := p.nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		last := time.Now()
		f.wantEnded(ReasonSlow)
		elapsed(t, last, stallTimeout, 2*stallTimeout)
		f.wantNothingQueued()
	})
}

func TestCloseWithoutAnswerIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{message: echo})
		p := f.pipe(t)
		c := <-f.opened
		began := time.Now()
		c.Close(CodeRestart, "service restart", ReasonDrain)
		p.wantClose(CodeRestart, "service restart")
		p.send(OpText, "not answered any more")
		p.wantEOF()
		f.wantEnded(ReasonDrain)
		elapsed(t, began, closeGrace, closeGrace+keepaliveStep+clockStep)
	})
}

// The close frame waits behind a backlog that nobody reads.
func TestCloseBehindBacklogIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		f.pipe(t)
		c := <-f.opened
		deliver(c, []byte("nobody reads this"))
		synctest.Wait()
		began := time.Now()
		c.Close(CodeRestart, "", ReasonDrain)
		f.wantEnded(ReasonDrain)
		elapsed(t, began, closeGrace, closeGrace+keepaliveStep+clockStep)
		f.wantNothingQueued()
	})
}

func TestDrainIsSpreadEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		const window = 20 * time.Second
		f := newFixture(t, aliveConfig, funcs{message: echo})
		closes := make(chan time.Duration, n)
		began := time.Now()
		for range n {
			p := f.pipe(t)
			go func() {
				p.wantClose(CodeRestart, "service restart")
				closes <- time.Since(began)
				p.send(opClose, closePayload(CodeRestart, ""))
				p.wantEOF()
			}()
		}
		synctest.Wait()
		f.group.Refuse()
		f.group.Drain(t.Context(), window)
		elapsed(t, began, window, window+time.Second)
		for i := range n {
			want := window * time.Duration(i+1) / n
			if got := <-closes; got < want || got > want+clockStep {
				t.Errorf("connection %d was closed after %v, want %v", i+1, got, want)
			}
			f.wantEnded(ReasonDrain)
		}
		if f.group.Len() != 0 {
			t.Errorf("%d connections left", f.group.Len())
		}
	})
}

// Drain gives each queue the time to go out, and cuts nobody short of the grace.
func TestDrainFlushesQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, aliveConfig, funcs{})
		p := f.pipe(t)
		c := <-f.opened
		for n := range 12 {
			deliver(c, numbered("queued", n))
		}
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.group.Refuse()
			f.group.Drain(t.Context(), 0)
		}()
		time.Sleep(closeGrace - keepaliveStep)
		seen := newOrder(t)
		for range 12 {
			seen.check(p.read().payload)
		}
		p.wantClose(CodeRestart, "service restart")
		p.send(opClose, closePayload(CodeRestart, ""))
		p.wantEOF()
		<-done
	})
}
