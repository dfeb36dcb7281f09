package relay

import (
	"context"
	"time"
)

// Group is a set of users who write to each other. Its name is its id, and is never
// changed.
type Group struct {
	Name    string
	Creator int64
	Members []int64 // in ascending order, the creator among them until he deletes it
}

// Post is a message from one user to another, or to a group. It is kept until its group
// is deleted.
type Post struct {
	ID     string // unique among all posts of the fleet
	Sender int64
	Text   string
	Time   time.Time // when the database took it, to the millisecond; it does not decide the order
}

// Notice is a hint for some users. It stands in the database from the moment at which
// what it tells of does, in the same transaction, until Outbox.Done: so it survives the
// node that has to pass it on.
type Notice struct {
	ID   int64 // zero: there is nothing to tell
	To   []int64
	Body []byte
}

// Groups are all groups. Errors wrap ErrUnavailable when the database cannot be reached,
// or one of the errors below; then nothing has changed.
type Groups interface {
	// CreateGroup makes a group of g.Members and g.Creator; repeated members count once.
	// With a first text it has a post of the creator from the beginning. Created and
	// posted are the bodies of the notices, to every member but the creator: of the group,
	// and of the first post, if there is one (its ID zero else). ErrGroupTaken, ErrNoUser
	// when a member does not exist, ErrTooMany when the group or the groups of a member
	// would be too many.
	CreateGroup(ctx context.Context, g Group, first string, created, posted []byte) (Group, []Notice, error)
	// Group returns a group; ErrNoGroup.
	Group(ctx context.Context, name string) (Group, error)
	// GroupsOf returns the names of the groups that a user is a member of, in the order of
	// their bytes.
	GroupsOf(ctx context.Context, user int64) ([]string, error)
	// AddMember has a member of a group add a user to it. The notice has the given body
	// and is for all members but the one who did it, the new one included; there is none when
	// the user was a member already, and nothing changes. ErrNoGroup, ErrNotMember,
	// ErrNoUser, ErrTooMany.
	AddMember(ctx context.Context, name string, by, user int64, body []byte) (Group, Notice, error)
	// Leave ends a membership; of the creator it deletes the group, with all its posts.
	// ErrNoGroup, ErrNotMember.
	Leave(ctx context.Context, name string, user int64) (deleted bool, err error)
}

// MaxPullKey is how long the key of a pull may be, in bytes.
const MaxPullKey = 128

// Posts are what users write to each other. The posts of a conversation, which is that
// of two users or of a group, have one order, and are seen in that order by everybody: when
// one is to be seen, so are all before it. Errors as those of Groups.
type Posts interface {
	// WriteTo keeps a private post; the notice with the given body is for its receiver.
	// ErrNoUser when the receiver does not exist. Sender and receiver must be two.
	WriteTo(ctx context.Context, sender, receiver int64, text string, body []byte) (Post, Notice, error)
	// WriteToGroup keeps a post for a group; the notice with the given body is for every
	// member but the sender (ID zero when there is none). ErrNoGroup, ErrNotMember.
	WriteToGroup(ctx context.Context, sender int64, group, text string, body []byte) (Post, Notice, error)
	// Pull returns what the other one has written to a user since he last pulled, oldest
	// first, and moves his place behind it, in one step: of several that pull at once each
	// post goes to one. At most n posts, of about so many bytes (one at least), and more
	// when there are others. With the key of the last pull of this conversation by this user
	// that has returned posts, the same ones are returned again, and nothing moves: so a pull
	// whose answer was lost may be repeated. Without one, "", they stay in the conversation's
	// pages. A key is of at most MaxPullKey bytes.
	Pull(ctx context.Context, user, other int64, key string, n, bytes int) (posts []Post, more bool, err error)
	// Page returns the index-th n posts of two users' conversation back from the newest
	// one, newest first, and whether there are older ones. Nothing moves.
	Page(ctx context.Context, user, other int64, index, n int) (posts []Post, more bool, err error)
	// GroupPage is Page of a group, for a member of it. ErrNoGroup, ErrNotMember.
	GroupPage(ctx context.Context, user int64, group string, index, n int) (posts []Post, more bool, err error)
}

// Outbox holds the notices that are not known to have reached Redis. Errors as those of
// Groups.
type Outbox interface {
	// Pending returns up to n notices that have stood there for so long, oldest first.
	Pending(ctx context.Context, age time.Duration, n int) ([]Notice, error)
	// Done drops notices; those that are not there do not matter.
	Done(ctx context.Context, ids ...int64) error
}
