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
	// ErrIdentityTaken means that an issuer's subject has an account already.
	ErrIdentityTaken = errors.New("the identity has an account")
	// ErrNoGroup means that there is no such group, ErrGroupTaken that its name has one.
	ErrNoGroup    = errors.New("no such group")
	ErrGroupTaken = errors.New("the group's name is taken")
	// ErrNotMember means that a user is not a member of the group.
	ErrNotMember = errors.New("not a member of the group")
	// ErrTooMany means that there would be more friends, members or groups than may be.
	ErrTooMany = errors.New("there would be too many")
	// ErrBadPlace means that a place in a list is none that was given out for it.
	ErrBadPlace = errors.New("not a place that was given out")
)

type overloaded struct{}

func (overloaded) Error() string        { return "too many messages wait for redis" }
func (overloaded) Is(target error) bool { return target == ErrUnavailable }
