package relay

import (
	"context"
	"time"
)

// User is somebody with an account.
type User struct {
	ID       int64
	Username string
	Email    string // as it was given; compared without regard to case
}

// Users are the accounts. Errors wrap ErrUnavailable when the database cannot be
// reached, or one of the errors below.
type Users interface {
	// Create makes an account; password is in PHC form, or empty for an account that
	// has none. ErrUsernameTaken or ErrEmailTaken (this one if both are) when another
	// account has it, however many try at once. ID of u is ignored.
	Create(ctx context.Context, u User, password string) (User, error)
	// ByEmail returns an account and its password; ErrNoUser.
	ByEmail(ctx context.Context, email string) (u User, password string, err error)
	// ByID returns an account; ErrNoUser.
	ByID(ctx context.Context, id int64) (User, error)
	// Taken tells whether an account has the username, and whether one has the email.
	Taken(ctx context.Context, username, email string) (usernameTaken, emailTaken bool, err error)
}

// Values are small values that all nodes share, each with an expiry. Errors wrap
// ErrUnavailable. Keys are of at most 256 bytes, and begin with their kind and a
// slash, as topics do: "session/...".
type Values interface {
	// Put sets a value until it expires.
	Put(ctx context.Context, key string, value []byte, life time.Duration) error
	// Get returns values, in the order of their keys; nil for one that is not there.
	Get(ctx context.Context, keys ...string) ([][]byte, error)
	// Delete drops a value and tells whether it was there.
	Delete(ctx context.Context, key string) (bool, error)
}

// Meter counts what must not happen too often, for all nodes together.
type Meter interface {
	// Take counts once more against the key, unless that would be more than most
	// within the window: then it counts nothing, and returns how long it takes until
	// there is room. The window begins with the first count. Errors wrap
	// ErrUnavailable.
	Take(ctx context.Context, key string, most int64, window time.Duration) (wait time.Duration, err error)
	// Return takes one count back, of a window that has not ended.
	Return(ctx context.Context, key string) error
}
