package conn

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
)

// Functions given to Do run between the frames that are sent before and after.
func TestDoKeepsOrder(t *testing.T) {
	f := newFixture(t, Config{}, funcs{}).listen()
	p := f.connect(t)
	c := <-f.opened
	const rounds = 100
	for i := range rounds {
		c.Send(AppendFrame(nil, OpText, fmt.Appendf(nil, "sent %d", i)))
		c.Do(func() { c.append(AppendFrame(nil, OpText, fmt.Appendf(nil, "done %d", i))) })
	}
	c.Flush()
	for i := range rounds {
		p.want(OpText, fmt.Sprintf("sent %d", i))
		p.want(OpText, fmt.Sprintf("done %d", i))
	}
}

// Whoever waits for what was sent waits for the peer to read it, and may so send
// far more than may be queued.
func TestFlushedWaitsForThePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pieces = 5
		piece := bytes.Repeat([]byte("x"), 3*segmentBytes)
		flushed := make(chan int, pieces)
		f := newFixture(t, Config{MaxQueueBytes: len(piece) + maxHeader}, funcs{open: func(c *Conn) error {
			for i := range pieces {
				c.Do(func() { c.append(AppendFrame(nil, OpText, piece)) })
				if err := c.Flushed(); err != nil {
					return err
				}
				flushed <- i
			}
			return nil
		}})
		p := f.pipe(t)
		for i := range pieces {
			synctest.Wait()
			if len(flushed) != i {
				t.Fatalf("%d pieces taken for written when %d were read", len(flushed), i)
			}
			if got := p.read(); !bytes.Equal(got.payload, piece) {
				t.Fatalf("piece %d: %v", i, got)
			}
		}
		synctest.Wait()
		if len(flushed) != pieces {
			t.Errorf("%d pieces taken for written, want %d", len(flushed), pieces)
		}
		_ = p.nc.Close()
		f.wantEnded(ReasonNetwork)
	})
}

// A peer that takes nothing, or goes, keeps nobody waiting.
func TestFlushedEndsWithTheConnection(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(*fixture, *peer)
		want Reason
	}{
		"the peer goes":    {func(_ *fixture, p *peer) { _ = p.nc.Close() }, ReasonNetwork},
		"the peer stalls":  {func(*fixture, *peer) {}, ReasonSlow},
		"the node is shut": {func(f *fixture, _ *peer) { f.group.Close() }, ReasonDrain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				failed := make(chan error, 1)
				f := newFixture(t, Config{}, funcs{open: func(c *Conn) error {
					c.Send(AppendFrame(nil, OpText, []byte("nobody reads this")))
					err := c.Flushed()
					failed <- err
					return err
				}})
				p := f.pipe(t)
				synctest.Wait()
				end.by(f, p)
				if err := <-failed; !errors.Is(err, ErrClosing) {
					t.Errorf("got %v, want %v", err, ErrClosing)
				}
				f.wantEnded(end.want)
			})
		})
	}
}

// A connection that is closed on its loop gets what was committed before, and
// nothing that comes later.
func TestCloseHere(t *testing.T) {
	f := newFixture(t, Config{}, funcs{}).listen()
	p := f.connect(t)
	c := <-f.opened
	c.Do(func() {
		b, ok := c.Begin(OpText, 6)
		if !ok {
			t.Error("not open")
		}
		c.Commit(append(b, "before"...))
		c.CloseHere(CodeTakenOver, "taken over", ReasonTakeover)
		c.CloseHere(CodeTryLater, "again", ReasonSlow)
		if _, ok := c.Begin(OpText, 5); ok {
			t.Error("open after the close")
		}
	})
	c.Send(AppendFrame(nil, OpText, []byte("after")))
	c.Flush()
	p.want(OpText, "before")
	p.wantClose(CodeTakenOver, "taken over")
	p.send(opClose, closePayload(CodeTakenOver, ""))
	p.wantEOF()
	f.wantEnded(ReasonTakeover)
}
