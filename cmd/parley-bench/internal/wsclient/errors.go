package wsclient

import (
	"errors"
	"fmt"
	"time"
)

// Close codes that this package sends or names.
const (
	CloseNormal        = 1000
	CloseProtocolError = 1002
	CloseNoStatus      = 1005
	CloseAbnormal      = 1006
	CloseInvalidText   = 1007
	CloseTooBig        = 1009
)

// ErrClosing is returned by writes after the close frame went out.
var ErrClosing = errors.New("the connection is closing")

// ProtocolError is something that RFC 6455 forbids a server to send, or more
// than the connection is set to take.
type ProtocolError struct {
	Code   int // the close code that the server was told
	Reason string
}

func (e *ProtocolError) Error() string { return "WebSocket protocol error: " + e.Reason }

func protocolError(code int, format string, args ...any) error {
	return &ProtocolError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// CloseError is the server's close frame; CloseNoStatus when it held no code.
// A connection that ends without a close frame has CloseAbnormal, and Err says
// how it ended.
type CloseError struct {
	Code   int
	Reason string
	Err    error
}

func (e *CloseError) Error() string {
	switch {
	case e.Err != nil:
		return fmt.Sprintf("the connection ended without a close frame: %v", e.Err)
	case e.Reason != "":
		return fmt.Sprintf("the server closed with %d (%s)", e.Code, e.Reason)
	}
	return fmt.Sprintf("the server closed with %d", e.Code)
}

// Unwrap returns how the connection ended when there was no close frame.
func (e *CloseError) Unwrap() error { return e.Err }

// HandshakeError is an answer to the handshake that is no upgrade.
type HandshakeError struct {
	Status     int           // HTTP status, 0 when the answer was no HTTP
	RetryAfter time.Duration // from the header Retry-After in seconds; 0 without one
	Reason     string
}

func (e *HandshakeError) Error() string {
	if e.Status == 0 || e.Status == 101 {
		return "handshake: " + e.Reason
	}
	if e.RetryAfter > 0 {
		return fmt.Sprintf("handshake: HTTP %d, retry after %v: %s", e.Status, e.RetryAfter, e.Reason)
	}
	return fmt.Sprintf("handshake: HTTP %d: %s", e.Status, e.Reason)
}
