package relay

import (
	"context"
	"strconv"
)

// Inbox is how those read a kept topic who hold no connection: they come, take what is
// new and go, to whichever node. Where each of a topic's readers is stands in Redis, as
// long as its messages are kept. Errors wrap ErrUnavailable; every call answers within two seconds.
//
// A reader names its place with each Collect (it has processed everything up to there),
// or leaves it to the inbox: then an answer that was given counts as taken when it was
// wholly written, and what was not is given again. A message up to which some
// reader has come, either way, is dropped for readers that the inbox does not know yet;
// those that it knows still get it.
type Inbox interface {
	// Collect returns up to n messages after a reader's place, oldest first, and counts as
	// Offer of them if there are some. See Reading and Collected.
	Collect(ctx context.Context, t Topic, r Reading, n int) (Collected, error)
	// Offer notes that an answer that ends at p is about to be written to a reader that
	// has left its place to the inbox. It is of no effect for one that has come further.
	Offer(ctx context.Context, t Topic, reader string, p Position) error
	// Settle notes how the answer that ends at p ended: written, the reader is at p, and
	// has been told of what is missing before; else it is where it was. It does not go back
	// by this, but where p is of another history than its place.
	Settle(ctx context.Context, t Topic, reader string, p Position, written bool) error
}

// Reading is how a reader comes.
type Reading struct {
	Reader string // names it among the topic's readers: 1 to 128 bytes
	// After is up to where the reader has processed everything; nil: the inbox knows. A
	// reader that comes with a place loses what the inbox had noted of an answer.
	After *ID
	// Insist does not wait for an answer that is being written: it counts as not taken.
	Insist bool
}

// Collected is what a reader gets.
type Collected struct {
	// Unsettled tells that an answer to this reader, with messages, is being written, by
	// whichever node: nothing else is known. Collect again, in a while with Insist, since
	// that node may be dead.
	Unsettled bool
	Start     Position // the reader's place: what comes after it is for the reader
	Messages  []Message
	Before    ID // the place right before the first of Messages; zero: it is the first that the topic ever had
	// Complete tells that no message is missing between Start and the first of Messages,
	// or the end. False when messages may have been lost: trimmed before the reader came,
	// or with what Redis has lost; it stays false until an answer has been settled.
	Complete bool
	End      Position // where Messages end; Start, or what is last if messages are missing, when there are none
}

// UserTopics starts the topics of users: what waits for one.
const UserTopics = "user/"

// UserTopic is the topic of what waits for a user.
func UserTopic(id int64) Topic { return Topic(UserTopics + strconv.FormatInt(id, 10)) }
