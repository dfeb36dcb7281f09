package conn

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// closing counts the calls of Closing.
type closing struct {
	*funcs
	calls *atomic.Int32
}

func (c closing) Closing() { c.calls.Add(1) }

// Closing comes once, however a connection ends, and at once: not when the peer has
// answered.
func TestClosing(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(c *Conn, p *peer)
		reason Reason
		early  bool // before the peer does anything
	}{
		"closed by the server": {func(c *Conn, _ *peer) { c.Close(CodeRestart, "x", ReasonDrain) }, ReasonDrain, true},
		"cut":                  {func(c *Conn, _ *peer) { c.cut(ReasonDrain) }, ReasonDrain, false},
		"closed by the peer":   {func(_ *Conn, p *peer) { p.send(opClose, closePayload(1000, "")) }, ReasonClient, false},
		"gone":                 {func(_ *Conn, p *peer) { _ = p.nc.Close() }, ReasonNetwork, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int32
				f := newFixture(t, Config{}, funcs{})
				f.wrap = func(h *funcs) Handler { return closing{h, &calls} }
				p := f.pipe(t)
				conn := <-f.opened
				synctest.Wait()
				if n := calls.Load(); n != 0 {
					t.Fatalf("Closing was called %d times before the end", n)
				}
				c.end(conn, p)
				synctest.Wait()
				if c.early {
					if n := calls.Load(); n != 1 || len(f.ended) > 0 {
						t.Errorf("Closing was called %d times when the close was sent, want 1", n)
					}
				}
				_ = p.nc.Close()
				f.wantEnded(c.reason)
				synctest.Wait()
				if n := calls.Load(); n != 1 {
					t.Errorf("Closing was called %d times, want 1", n)
				}
			})
		})
	}
}

// Who waits for a bounded time goes on without the peer, and can wait again.
func TestFlushedWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first, second error
		done := make(chan struct{})
		f := newFixture(t, Config{}, funcs{open: func(c *Conn) error {
			defer close(done)
			c.Send(AppendFrame(nil, OpText, make([]byte, 3*segmentBytes)))
			began := time.Now()
			first = c.FlushedWithin(time.Second)
			if took := time.Since(began); took != time.Second {
				t.Errorf("it waited for %s", took)
			}
			second = c.FlushedWithin(time.Hour)
			return nil
		}})
		p := f.pipe(t)
		time.Sleep(2 * time.Second) // of the bubble's clock
		p.read()
		<-done
		if !errors.Is(first, ErrSlow) || second != nil {
			t.Errorf("the errors are %v, and %v after the peer has read", first, second)
		}
		_ = p.nc.Close()
		f.wantEnded(ReasonNetwork)
	})
}

// A handler is told whether a message is text, whoever has read it.
func TestMessageKind(t *testing.T) {
	kinds := make(chan Opcode, 10)
	f := newFixture(t, Config{}, funcs{message: func(c *Conn, _ []byte) { kinds <- c.MessageKind() }}).listen()
	p := f.connect(t)
	long := string(make([]byte, 1<<17))
	for _, want := range []Opcode{OpText, OpBinary, OpText} {
		p.send(want, "short")
		if got := <-kinds; got != want {
			t.Errorf("a short message of kind %d is told as %d", want, got)
		}
		p.send(want, long) // through the library
		if got := <-kinds; got != want {
			t.Errorf("a long message of kind %d is told as %d", want, got)
		}
		p.write(clientFrame(0, want, []byte("in ")))
		p.write(clientFrame(bitFin, 0, []byte("pieces")))
		if got := <-kinds; got != want {
			t.Errorf("a message of kind %d in pieces is told as %d", want, got)
		}
	}
}
