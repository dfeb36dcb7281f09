package relay

import "errors"

var (
	// ErrUnavailable means that Redis, or the database, did not accept or confirm
	// something in time. Trying again later may succeed.
	ErrUnavailable = errors.New("not available")
	// ErrOverloaded means that too much waits for Redis already: the message
	// was not sent. It is an ErrUnavailable too.
	ErrOverloaded error = overloaded{}
	// ErrClosed means that this node is shutting down.
	ErrClosed = errors.New("the node is shutting down")
	// ErrFull means that a journal holds as many messages of a topic as it may: they
	// are not moved to the archive any more, or not fast enough.
	ErrFull = errors.New("the journal of the topic is full")

	// ErrUsernameTaken and ErrEmailTaken mean that another account has it.
	ErrUsernameTaken = errors.New("the username is taken")
	ErrEmailTaken    = errors.New("the email is taken")
	// ErrNoUser means that there is no such account.
	ErrNoUser = errors.New("no such user")
)

type overloaded struct{}

func (overloaded) Error() string        { return "too many messages wait for redis" }
func (overloaded) Is(target error) bool { return target == ErrUnavailable }
