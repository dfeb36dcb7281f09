package relay

import "context"

// Token is an opaque value that a publisher passes along with a message to
// recognise the answer, such as the id of the request that it came with.
type Token [16]byte

// Acker hears how the publishing of a message ended.
type Acker interface {
	// Published is called exactly once for each message given to Enqueue: for
	// those that were sent, in the order in which they were given for one topic
	// (for two topics it may be called at the same time); for one that is refused
	// at once (ErrOverloaded, ErrClosed), before Enqueue returns. A
	// nil error means that Redis has accepted the message; any other wraps an
	// error of this package, and then it is not known whether the message went
	// out. It must not wait for a client.
	Published(t Token, id ID, err error)
}

// Publisher sends messages to every node that subscribes to their topic, this
// one included.
type Publisher interface {
	// Enqueue takes a message and returns at once; a is told the outcome within
	// two seconds, whatever state Redis is in. Messages of one topic go out in
	// the order in which they were enqueued. a may be nil. The body is copied;
	// a zero Time becomes now. Before Run, messages wait.
	Enqueue(m Message, r Retention, a Acker, t Token)
	// Publish is Enqueue for one who waits: it returns the message's place in
	// its topic once Redis has accepted it, after two seconds at most.
	Publish(ctx context.Context, m Message, r Retention) (ID, error)
}

// Subscriptions tells the bus which topics this node wants to hear.
type Subscriptions interface {
	// Subscribe returns once Redis has confirmed every topic: what is published
	// from then on reaches the receiver. The result has a position of each topic
	// that was its last one when Subscribe was called, or later; History.Since
	// that position, read now, and what reaches the receiver overlap without a
	// hole. Subscriptions are counted: each successful Subscribe needs one
	// Unsubscribe. On an error none was made.
	Subscribe(ctx context.Context, topics ...Topic) ([]Position, error)
	// SubscribeNew is Subscribe for a topic to which nobody can have published,
	// because its name was made up just now: it costs Redis the subscription and
	// nothing else. The position's ID is zero.
	SubscribeNew(ctx context.Context, t Topic) (Position, error)
	// Unsubscribe never blocks. Messages may still arrive for a while.
	Unsubscribe(topics ...Topic)
}

// Broker carries messages between the nodes of a fleet.
type Broker interface {
	Publisher
	Subscriptions
	// Run receives until ctx ends, reconnecting as often as it takes, and then
	// returns nil. It calls r for one topic from one goroutine at a time, and for
	// different topics from several. Call it once.
	Run(ctx context.Context, r Receiver) error
}

// Receiver takes what the bus receives. None of its methods waits for a client;
// Dispatch may wait while this node has far more to deliver than it can keep up
// with.
type Receiver interface {
	// Dispatch hands over one message. Messages of one topic come in the order
	// in which Redis took them.
	Dispatch(m Message)
	// Gap tells that messages of the topic may have been missed that cannot be
	// read from its history either, before anything newer is dispatched. From p on
	// nothing is missing; the zero Position: that is not known.
	Gap(t Topic, p Position)
	// Flush is called when no more input is at hand, and from time to time
	// while there is: what was dispatched should go out now. It is also called
	// after a batch of Acker.Published, from another goroutine than the rest.
	Flush()
}

// Page is a part of a topic's history.
type Page struct {
	Messages []Message // oldest first
	// Complete tells that no message is missing from the position that was asked
	// for up to the last of Messages. False when that is not known for sure.
	Complete bool
	// Position is where the page ends: what to ask for the next one with.
	Position Position
	More     bool // there is a next page
}

// History reads the kept messages of topics.
type History interface {
	// Since returns up to n messages after a position, in one read. When the
	// position is not covered any more, it returns the oldest ones that are kept
	// after it and Complete is false. It waits while this node does not hear
	// Redis, as long as ctx allows; errors wrap ErrUnavailable.
	Since(ctx context.Context, t Topic, after Position, n int) (Page, error)
	// Before returns up to n messages before the given place, newest first
	// (from the newest one when it is zero), and whether older ones exist.
	Before(ctx context.Context, t Topic, before ID, n int) (messages []Message, more bool, err error)
}
