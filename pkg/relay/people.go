package relay

import "context"

// Bounds of what one user may have. The database holds them, whichever node is asked.
const (
	// MaxFriends is how many friends a user may have.
	MaxFriends = 1000
	// MaxGroupMembers is how many members a group may have, its creator included: every
	// one of them has to be told of each message.
	MaxGroupMembers = 1000
	// MaxMemberships is how many groups a user may be a member of.
	MaxMemberships = 5000
)

// Directory finds accounts and changes them. Errors wrap ErrUnavailable when the
// database cannot be reached, or one of the errors below.
type Directory interface {
	// ByID returns an account; ErrNoUser.
	ByID(ctx context.Context, id int64) (User, error)
	// ByUsername returns the account with exactly this username; ErrNoUser.
	ByUsername(ctx context.Context, username string) (User, error)
	// Rename gives an account another username and email, where they are not nil, or
	// changes nothing: ErrNoUser, ErrUsernameTaken, ErrEmailTaken (this one if both are).
	Rename(ctx context.Context, id int64, username, email *string) (User, error)
	// Find returns up to n accounts, without their emails, whose username has the text in
	// it, without regard to case: first those that begin with it, then the others, in an
	// order that does not change while they stay as they are. After is where the page
	// before ended, nil for the first one; next is where this one ends, nil when it is the
	// last. An account is on one page only, and none that stays as it is is passed over,
	// whatever is made or renamed between two pages. A text without characters finds
	// nothing. ErrBadPlace when after is not what a search for this text has returned.
	Find(ctx context.Context, text string, after []byte, n int) (found []User, next []byte, err error)
}

// Friends are the users that a user has put on a list of his own. Nobody else sees it,
// nor does it say anything of the other side. Errors as those of Directory.
type Friends interface {
	// Befriend puts a user on another's list; nothing happens when he is on it. ErrNoUser
	// when there is no such account (of either), ErrTooMany.
	Befriend(ctx context.Context, user, friend int64) error
	// Unfriend takes a user off another's list; nothing happens when he is not on it.
	Unfriend(ctx context.Context, user, friend int64) error
	// Friends returns the list, without emails, ordered by username, byte by byte.
	Friends(ctx context.Context, user int64) ([]User, error)
}

// Identities tell which account somebody has that an OpenID Connect issuer knows. Errors
// as those of Directory.
type Identities interface {
	// ByIdentity returns the account of an issuer's subject; ErrNoUser.
	ByIdentity(ctx context.Context, issuer, subject string) (User, error)
	// CreateWithIdentity makes an account without a password for an issuer's subject, both
	// or neither. ErrIdentityTaken when the subject has one (another node was faster);
	// else ErrUsernameTaken or ErrEmailTaken (this one if both are).
	CreateWithIdentity(ctx context.Context, u User, issuer, subject string) (User, error)
}
