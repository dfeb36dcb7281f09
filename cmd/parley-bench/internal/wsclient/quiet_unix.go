//go:build unix

package wsclient

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// watched is a TCP connection that can tell whether its reader has taken all that has
// come.
type watched struct {
	*net.TCPConn
	raw syscall.RawConn

	mu   sync.Mutex
	busy bool // what was read last is being handled
}

// watch returns a connection that can tell, nil when this one is not of a kind that can.
func watch(nc net.Conn) *watched {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &watched{TCPConn: tcp, raw: raw}
}

// Read implements net.Conn: who reads again has handled what came before.
func (w *watched) Read(p []byte) (n int, err error) {
	w.mu.Lock()
	w.busy = false
	w.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	waited := w.raw.Read(func(fd uintptr) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for {
			n, err = syscall.Read(int(fd), p)
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		w.busy = true
		return true
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// quiet tells whether all that has come was handled, and its end has not come.
func (w *watched) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy {
		return false
	}
	nothing := false
	err := w.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		nothing = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && nothing
}
