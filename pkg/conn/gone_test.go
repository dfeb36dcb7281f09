package conn

import "testing"

// Whoever opens a connection can see whether its peer has gone, and takes nobody
// for gone who has only sent something.
func TestGone(t *testing.T) {
	for _, c := range []struct {
		name  string
		early []byte // sent with the request
		then  func(*peer)
		want  bool
	}{
		{"silent", nil, func(*peer) {}, false},
		{"a message", nil, func(p *peer) { p.send(OpText, "hello") }, false},
		{"a close", nil, func(p *peer) { p.send(opClose, closePayload(1000, "")) }, true},
		{"the end of the stream", nil, func(p *peer) { _ = p.nc.Close() }, true},
		{"half a frame, and what looks like a close", clientFrame(bitFin, OpText, []byte("hello"))[:8], func(p *peer) { p.write([]byte{byte(opClose)}) }, false},
		{"a message, and then the end", clientFrame(bitFin, OpText, []byte("hello")), func(p *peer) { _ = p.nc.Close() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent, seen := make(chan struct{}), make(chan bool, 1)
			f := newFixture(t, Config{}, funcs{open: func(conn *Conn) error {
				<-sent
				if c.want {
					waitFor(conn.Gone) // it is on its way
				}
				seen <- conn.Gone()
				return nil
			}}).listen()
			p := f.dial(t)
			p.upgrade(c.early...)
			c.then(p)
			close(sent)
			if got := <-seen; got != c.want {
				t.Errorf("gone: %v, want %v", got, c.want)
			}
		})
	}
}
