package relay

import "errors"

var (
	// ErrUnavailable means that Redis did not accept or confirm something in
	// time. Trying again later may succeed.
	ErrUnavailable = errors.New("redis is not available")
	// ErrOverloaded means that too much waits for Redis already: the message
	// was not sent. It is an ErrUnavailable too.
	ErrOverloaded error = overloaded{}
	// ErrClosed means that this node is shutting down.
	ErrClosed = errors.New("the node is shutting down")
)

type overloaded struct{}

func (overloaded) Error() string        { return "too many messages wait for redis" }
func (overloaded) Is(target error) bool { return target == ErrUnavailable }
