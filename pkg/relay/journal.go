package relay

import "context"

// Records is the whole history of topics that are kept for good.
type Records interface {
	// Newest returns the last n messages of a topic.
	Newest(ctx context.Context, t Topic, n int) (Recent, error)
	// Before returns up to n messages before the given place, newest first (from the
	// newest one when it is zero), and whether older ones exist.
	Before(ctx context.Context, t Topic, before ID, n int) (messages []Message, more bool, err error)
	// Has tells whether the topic has a message at this very place.
	Has(ctx context.Context, t Topic, id ID) (bool, error)
}

// Recent is the end of a topic's history at one moment.
type Recent struct {
	Messages []Message // newest first
	More     bool      // older ones exist
	// Begins tells, where More is false, that the first of them is the first that the
	// topic ever had, as far as is known; a journal's may have been forgotten.
	Begins bool
	// Intact tells how far back nothing is known to be lost: who has followed the topic
	// up to a message before it may have missed some that are nowhere any more; who
	// has followed it up to Intact or later has not. It is right after the last message
	// when what Redis kept has been lost and nothing was appended since; zero when
	// nothing was ever appended.
	Intact ID
}

// Journal keeps the messages of topics until somebody has put them elsewhere and
// has the journal forget them. Its Records end where that has happened: what was
// forgotten does not count as existing. Subscribers hear of its messages like of all
// others. Errors wrap ErrUnavailable.
type Journal interface {
	Records
	// Append publishes messages of one topic that belong together: all or none are
	// accepted, in one step, so that nothing comes between them in the topic's order.
	// It returns at once, like Publisher.Enqueue, with which it shares the order of a
	// topic; a is told once, with the place of the last one. A topic that holds more
	// than most messages takes no more: the error is ErrFull. At least one message,
	// all with the topic of the first one.
	Append(ms []Message, most int64, a Acker, t Token)
	// Oldest returns up to n messages from the beginning of the topic, oldest first,
	// and how many the topic holds in all.
	Oldest(ctx context.Context, t Topic, n int) (messages []Message, total int64, err error)
	// Forget drops the topic's messages up to the given place, that one included. What
	// is the place of the last message, and what comes before the first, stays known.
	Forget(ctx context.Context, t Topic, upTo ID) error
}

// Archive holds the messages that a journal has been relieved of, for good. Errors
// wrap ErrUnavailable when the database cannot be reached.
type Archive interface {
	Records
	// Store puts messages, of any topics, into the archive: all or none. Messages that
	// are there already stay as they are, so that it may be repeated, and be done by
	// two nodes at once.
	Store(ctx context.Context, messages []Message) error
}
