package conn

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestPeerCloses(t *testing.T) {
	f := newFixture(t, Config{}, funcs{message: echo}).listen()
	for name, payload := range map[string]string{
		"no code":        "",
		"normal":         closePayload(1000, ""),
		"with a reason":  closePayload(1001, "going away"),
		"longest reason": closePayload(1000, strings.Repeat("r", 123)),
		"private code":   closePayload(4999, "private"),
		"registered":     closePayload(3000, ""),
	} {
		t.Run(name, func(t *testing.T) {
			p := f.connect(t)
			p.write(append(clientFrame(bitFin, OpText, []byte("last words")), clientFrame(bitFin, opClose, []byte(payload))...))
			p.want(OpText, "last words")
			p.want(opClose, payload)
			p.wantEOF()
			f.wantEnded(ReasonClient)
		})
	}
}

// A reason that is no text is not sent back.
func TestPeerClosesWithGarbage(t *testing.T) {
	f := newFixture(t, Config{}, funcs{}).listen()
	p := f.connect(t)
	p.send(opClose, closePayload(1000, "caf\xe9"))
	p.want(opClose, closePayload(1000, ""))
	p.wantEOF()
	f.wantEnded(ReasonClient)
}

func TestPeerVanishes(t *testing.T) {
	f := newFixture(t, Config{}, funcs{message: echo}).listen()
	for name, last := range map[string][]byte{
		"between frames": nil,
		"inside a frame": clientFrame(bitFin, OpText, []byte("never finished"))[:9],
		"inside a ping":  clientFrame(bitFin, opPing, []byte("never finished"))[:9],
	} {
		t.Run(name, func(t *testing.T) {
			p := f.connect(t)
			p.send(OpText, "hello")
			p.want(OpText, "hello")
			p.write(last)
			_ = p.nc.Close()
			f.wantEnded(ReasonNetwork)
		})
	}
}

// Both sides close at once: each takes the other's close for the answer.
func TestBothClose(t *testing.T) {
	f := newFixture(t, Config{}, funcs{}).listen()
	p := f.connect(t)
	c := <-f.opened
	p.send(opClose, closePayload(1000, "mine"))
	c.Close(CodeRestart, "ours", ReasonDrain)
	fr := p.read()
	if got := string(fr.payload); fr.op != opClose || got != closePayload(1000, "mine") && got != closePayload(CodeRestart, "ours") {
		t.Fatalf("got %v, want a close", fr)
	}
	p.wantEOF()
	if e := <-f.ended; e.reason != ReasonClient && e.reason != ReasonDrain {
		t.Errorf("ended for %v", e.reason)
	}
}

// What was sent before the close comes before it, even when the peer has not
// been reading; what is sent after it does not come. The first reason counts.
func TestCloseComesAfterTheQueue(t *testing.T) {
	f := newFixture(t, Config{MaxQueueBytes: 8 << 20}, funcs{message: func(_ *Conn, data []byte) {
		t.Errorf("a message was handled after the close: %q", data)
	}}).listen(smallBuffers)
	p := receiveLittle(f.connect(t))
	c := <-f.opened
	const n = 120
	for i := range n {
		deliver(c, numbered("queued", i))
	}
	f.settle()
	if figure(t, f.metrics.catchingUp) != 1 {
		t.Fatal("nothing is queued: the test tests nothing")
	}
	c.Close(CodeRestart, "service restart", ReasonDrain)
	c.Close(CodeIdle, "idle timeout", ReasonIdle)
	deliver(c, []byte("after the close"))
	p.send(OpText, "not handled any more")
	seen := newOrder(t)
	for range n {
		seen.check(p.read().payload)
	}
	p.wantClose(CodeRestart, "service restart")
	p.send(opClose, closePayload(CodeRestart, ""))
	p.wantEOF()
	f.wantEnded(ReasonDrain)
	f.wantNothingQueued()
}

// A peer that closes while a backlog waits gets it before the answer.
func TestPeerClosesBeforeItHasRead(t *testing.T) {
	f := newFixture(t, Config{MaxQueueBytes: 8 << 20}, funcs{}).listen(smallBuffers)
	p := receiveLittle(f.connect(t))
	c := <-f.opened
	const n = 120
	for i := range n {
		deliver(c, numbered("queued", i))
	}
	f.settle()
	p.send(opClose, closePayload(1000, ""))
	f.wantEnded(ReasonClient) // the reader has gone, the socket has not
	seen := newOrder(t)
	for range n {
		seen.check(p.read().payload)
	}
	p.want(opClose, closePayload(1000, ""))
	p.wantEOF()
	f.wantNothingQueued()
}

// A panic ends its connection alone, with the code for it, and is logged.
func TestPanicEndsOneConnection(t *testing.T) {
	for name, h := range map[string]funcs{
		"Open":    {open: func(*Conn) error { panic("a bug of ours") }},
		"Message": {message: func(*Conn, []byte) { panic("a bug of ours") }},
		"Closed":  {closed: func(*Conn, Reason) { panic("a bug of ours") }},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := newFixture(t, Config{MaxConnections: 2, Log: slog.New(slog.NewTextHandler(&log, nil))}, funcs{message: echo}).listen()
			other := f.connect(t)
			other.send(OpText, "one")
			other.want(OpText, "one")
			f.handler = h
			p := f.connect(t)
			if name == "Closed" {
				p.send(opClose, closePayload(1000, ""))
				p.want(opClose, closePayload(1000, ""))
			} else {
				p.send(OpText, "makes it fail")
				p.send(OpText, "unread input does no harm to the close")
				p.wantClose(CodeInternal, "internal error")
			}
			p.wantEOF()
			if name != "Closed" {
				f.wantEnded(ReasonInternal)
			}
			waitFor(func() bool { return f.group.Len() == 1 })
			other.send(OpText, "two")
			other.want(OpText, "two")
			f.handler = funcs{message: echo}
			again := f.connect(t)
			again.send(OpText, "the place is free again")
			again.want(OpText, "the place is free again")
			f.group.Close() // ends whoever writes to the log
			if got := log.String(); !strings.Contains(got, "a bug of ours") || !strings.Contains(got, "close_test.go") {
				t.Errorf("the log lacks the panic and its place:\n%s", got)
			}
		})
	}
}

// A handler that cannot serve closes with a reason of its own, or none.
func TestOpenFails(t *testing.T) {
	refuse := func(c *Conn) error {
		c.Send(AppendFrame(nil, OpText, []byte("why not")))
		c.Close(CodeTryLater, "not now", ReasonBroker)
		return errors.New("not now")
	}
	f := newFixture(t, Config{}, funcs{open: refuse}).listen()
	p := f.dial(t)
	p.upgrade(clientFrame(bitFin, OpText, []byte("is not handled"))...)
	p.want(OpText, "why not")
	p.wantClose(CodeTryLater, "not now")
	p.wantEOF()
	f.wantEnded(ReasonBroker)

	f.handler = funcs{open: func(*Conn) error { return errors.New("silently") }}
	p = f.connect(t)
	p.wantEOF()
	f.wantEnded(ReasonNetwork)
}
