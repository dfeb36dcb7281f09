// Package archive moves what a journal holds beyond a length into the archive, and
// reads both as one history.
//
// A message is stored in the archive before the journal forgets it. So at any moment
// the messages of a topic are those of the archive that come before the journal's
// first one, and then the journal's; and who reads the journal first, and the archive
// after it, finds in one what has left the other in between.
package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/pkg/relay"
)

// newestTimeout is how long the archive may take to complete the newest messages: who
// asks for them is about to greet somebody.
const newestTimeout = 700 * time.Millisecond

// firstsKept is of how many topics a History remembers which message is the first.
// Some 100 bytes each; beyond, all are forgotten and found again.
const firstsKept = 10_000

// History is the whole history of topics: what a journal holds, and before that what
// it was relieved of. It implements relay.Records; all methods may be called from any
// goroutine, and block for as long as the journal and the archive do.
//
// Messages that are moved while a page is read are neither missing in it nor there
// twice, nor in the pages after it. A page costs one read of the journal and at most
// one of the archive, wherever it lies.
//
// What is only in the journal is had without the archive: a page that is full with
// more to come, and one that ends with a topic's first message once the archive has
// been asked about it. Where the archive is needed and fails, the error wraps
// relay.ErrUnavailable.
type History struct {
	// Fixed after NewHistory.
	journal, archive relay.Records

	mu sync.Mutex
	// first is the first message of a topic, ever, when the journal still had it. An
	// archive is for good: what was the first stays it, also when it is moved.
	first map[relay.Topic]relay.ID
}

var _ relay.Records = (*History)(nil)

// NewHistory reads a journal and the archive into which its messages are moved.
func NewHistory(journal, archive relay.Records) *History {
	return &History{journal: journal, archive: archive, first: map[relay.Topic]relay.ID{}}
}

// Newest implements relay.Records. When the archive has messages of a topic of which
// the journal knows nothing, not even that there were any, what the journal kept has
// been lost: Intact is right after the last message then. When the archive fails or does
// not answer within 0.7 s, what the journal has is all that comes, and it says whether
// there is more.
func (h *History) Newest(ctx context.Context, t relay.Topic, n int) (relay.Recent, error) {
	r, err := h.journal.Newest(ctx, t, n)
	if err != nil {
		return relay.Recent{}, fmt.Errorf("the journal of %q: %w", t, err)
	}
	ctx, cancel := context.WithTimeout(ctx, newestTimeout)
	defer cancel()
	messages, more, err := h.complete(ctx, t, relay.ID{}, n, r.Messages, r.More)
	if err != nil {
		if len(r.Messages) == 0 && !r.Begins { // nothing to go on from
			return relay.Recent{}, err
		}
		r.More = r.More || !r.Begins
		return r, nil
	}
	r.Messages, r.More, r.Begins = messages, more, !more
	if r.Intact.IsZero() && len(r.Messages) > 0 {
		r.Intact = after(r.Messages[0].ID)
	}
	return r, nil
}

// Before implements relay.Records.
func (h *History) Before(ctx context.Context, t relay.Topic, before relay.ID, n int) ([]relay.Message, bool, error) {
	page, more, err := h.journal.Before(ctx, t, before, n)
	if err != nil {
		return nil, false, fmt.Errorf("the journal of %q: %w", t, err)
	}
	return h.complete(ctx, t, before, n, page, more)
}

// Has implements relay.Records.
func (h *History) Has(ctx context.Context, t relay.Topic, id relay.ID) (bool, error) {
	has, err := h.journal.Has(ctx, t, id)
	if err != nil {
		return false, fmt.Errorf("the journal of %q: %w", t, err)
	}
	if has {
		return true, nil
	}
	has, err = h.archive.Has(ctx, t, id)
	if err != nil {
		return false, archiveFailed(t, err)
	}
	return has, nil
}

// complete adds to a page of the journal, newest first, what the archive has before
// it. The journal was asked for n messages before the given place, and more is what it
// said of older ones.
func (h *History) complete(ctx context.Context, t relay.Topic, before relay.ID, n int, page []relay.Message, more bool) ([]relay.Message, bool, error) {
	if more {
		return page, true, nil
	}
	// The journal had nothing before the page: all that exists before it was forgotten
	// by then, and is in the archive. What is in both has been given already.
	place := before
	if len(page) > 0 {
		place = page[len(page)-1].ID
		if h.isFirst(t, place) {
			return page, false, nil
		}
	}
	// Of a full page it remains to be known whether it is the last one.
	room := n - len(page)
	older, more, err := h.archive.Before(ctx, t, place, max(room, 1))
	switch {
	case err != nil:
		return nil, false, archiveFailed(t, err)
	case len(older) == 0:
		if len(page) > 0 {
			h.noteFirst(t, place)
		}
		return page, false, nil
	case room <= 0:
		return page, true, nil
	}
	return append(page[:len(page):len(page)], older...), more, nil
}

func (h *History) isFirst(t relay.Topic, id relay.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, known := h.first[t]
	return known && first == id
}

func (h *History) noteFirst(t relay.Topic, id relay.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.first[t]; !known && len(h.first) >= firstsKept {
		clear(h.first)
	}
	h.first[t] = id
}

// after is the place that follows a place.
func after(id relay.ID) relay.ID {
	if id.Seq++; id.Seq == 0 {
		id.Millis++
	}
	return id
}

// archiveFailed wraps relay.ErrUnavailable, whatever the archive has said.
func archiveFailed(t relay.Topic, err error) error {
	if errors.Is(err, relay.ErrUnavailable) {
		return fmt.Errorf("the archive of %q: %w", t, err)
	}
	return fmt.Errorf("%w: the archive of %q: %w", relay.ErrUnavailable, t, err)
}
