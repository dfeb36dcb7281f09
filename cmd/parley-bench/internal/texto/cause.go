package texto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"parley/cmd/parley-bench/internal/wsclient"
)

// Cause sums up why a connection failed or ended in a few words, the same for
// the same cause, so that failures can be counted by it.
func Cause(err error) string {
	if e, ok := errors.AsType[*wsclient.HandshakeError](err); ok {
		if e.Status != 0 && e.Status != 101 {
			return fmt.Sprintf("refused with HTTP %d", e.Status)
		}
		return "bad handshake: " + e.Reason
	}
	if e, ok := errors.AsType[*GreetingError](err); ok {
		if e.Code != "" {
			return "greeted with " + e.Code
		}
		return "bad greeting"
	}
	if e, ok := errors.AsType[*wsclient.ProtocolError](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*wsclient.CloseError](err); ok && e.Err == nil {
		return fmt.Sprintf("closed with %d", e.Code)
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return "no address for " + e.Name
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, net.ErrClosed):
		return "closed on this side"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "ended without a close frame"
	}
	return err.Error()
}
