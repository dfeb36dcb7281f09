package relaytest

import (
	"net"
	"sync"
)

// Pipes is a listener in memory, for servers that are tested with a clock of their
// own: a goroutine that waits for the network would hold that clock.
type Pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func() // closes closed, once
}

// NewPipes makes a listener.
func NewPipes() *Pipes {
	closed := make(chan struct{})
	return &Pipes{make(chan net.Conn), closed, sync.OnceFunc(func() { close(closed) })}
}

// Accept implements net.Listener.
func (l *Pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Pipes) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "in-memory", Net: "unix"} }

// Dial connects to whoever accepts, and waits for it.
func (l *Pipes) Dial() (net.Conn, error) {
	server, client := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
