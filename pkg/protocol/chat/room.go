package chat

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

const (
	// maxHeld and maxHeldBytes bound the messages of a room that wait while its
	// history is read. If there are more they are dropped, and read as well.
	maxHeld      = 1024
	maxHeldBytes = 4 << 20
	// closePages is how many pages of history are read to close a hole, and closeBytes
	// about how much; for a larger one clients have to come back.
	closePages = 10
	closeBytes = 512 << 10
	// reloadMin and reloadMax bound the pause before a history is read again.
	reloadMin = 50 * time.Millisecond
	reloadMax = time.Second
)

// entry is a message as clients see it.
type entry struct {
	id   relay.ID
	text []byte // JSON; never modified
}

// stream is a room as one loop knows it: its newest page, and where it goes on.
// Owned by the loop, but for what is fixed.
type stream struct {
	shard *shard
	room  *room

	page   []entry  // oldest first; see trim
	more   bool     // older ones exist
	size   int      // of the page's texts
	intact relay.ID // see relay.Recent
	last   relay.ID // of the last message that was shown, or that was there before the first
	batch  []entry  // of a frame whose other messages are about to come
	text   []byte   // the page as JSON, newest first; nil: not made since it has changed
	epoch  uint64   // of the history that page is from, as the bus counts them; 0: not known
	known  bool     // the room was loaded once

	loading  bool // what comes is held
	held     []relay.Message
	bytes    int  // of held
	overflow bool // messages were dropped instead of held
	again    bool // something may have been missed since the reading began
	changed  bool // and Redis has another history since
}

// Deliver takes a message of the room.
func (st *stream) Deliver(m *relay.Message) {
	if !st.loading {
		st.take(m)
		return
	}
	if st.overflow || len(st.held) >= maxHeld || st.bytes+len(m.Body) > maxHeldBytes {
		st.overflow, st.held, st.bytes = true, nil, 0
		return
	}
	st.held = append(st.held, *m)
	st.bytes += len(m.Body)
}

// take shows a message, unless it was read from the history, which may be ahead of the
// bus. What came in one frame goes out in one.
func (st *stream) take(m *relay.Message) {
	last := st.last
	if n := len(st.batch); n > 0 {
		last = st.batch[n-1].id
	}
	if m.ID.Compare(last) <= 0 {
		return
	}
	e, more, ok := entryOf(m)
	if !ok {
		return // from a newer version
	}
	st.batch = append(st.batch, e)
	if !more || len(st.batch) >= maxMessages {
		st.show()
	}
}

// show sends the batch and makes it part of the page.
func (st *stream) show() {
	if len(st.batch) == 0 {
		return
	}
	st.shard.broadcast(appendMessages(nil, st.room, st.batch), len(st.batch))
	st.last = st.batch[len(st.batch)-1].id
	st.page = append(st.page, st.batch...)
	st.trim()
	clear(st.batch)
	st.batch = st.batch[:0]
}

// trim makes a page of what is there: at most pageSize messages, of pageBytes together
// but one at least.
func (st *stream) trim() {
	over := max(0, len(st.page)-pageSize)
	st.size = 0
	for i := len(st.page) - 1; i >= over; i-- {
		if st.size += len(st.page[i].text); st.size > st.shard.server.pageBytes && i < len(st.page)-1 {
			over = i + 1
		}
	}
	if over > 0 {
		st.page, st.more = slices.Delete(st.page, 0, over), true
	}
	st.text = nil
}

// Gap has the history read: messages before p may be missing that the bus could not
// read from the journal. They may be in the archive.
func (st *stream) Gap(p relay.Position) {
	changed := p.Epoch != 0 && p.Epoch != st.epoch
	if changed {
		st.epoch = p.Epoch
	}
	if st.loading {
		st.again, st.changed = true, st.changed || changed
		return
	}
	st.show()
	st.loading = true
	from := place{st.last, true, changed}
	st.shard.server.own.Go(func() { st.load(from) })
}

// place is how far a room was shown before it is loaded.
type place struct {
	relay.ID
	known   bool // it was loaded before
	changed bool // Redis has another history since
}

// load reads the newest page and, when the room was loaded before, what lies between
// the given place and that, and has it installed. It runs on a goroutine of its own,
// and tries as long as the shard lives.
func (st *stream) load(from place) {
	sh := st.shard
	log := sh.server.log
	told := false
	for pause := reloadMin; ; pause = min(2*pause, reloadMax) {
		r, err := st.read(from)
		if err == nil {
			sh.do(func() { st.install(&r) })
			return
		}
		if sh.ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			log.LogAttrs(sh.ctx, slog.LevelWarn, "the history of a room cannot be read, trying on", slog.String("protocol", Protocol), slog.String("room", st.room.ID), slog.Any("error", err))
		}
		if !sleep(sh.ctx, pause) {
			return
		}
	}
}

// reading is what load has read.
type reading struct {
	relay.Recent
	from   place
	missed []relay.Message // after from and before those of Recent, newest first
	lost   bool            // others may be missing after from, and be nowhere
	tooFar bool            // from was not reached: there is too much after it
}

func (st *stream) read(from place) (r reading, err error) {
	history := st.shard.server.deps.History
	ask := func(f func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(st.shard.ctx, askTimeout)
		defer cancel()
		return f(ctx)
	}
	r.from = from
	err = ask(func(ctx context.Context) (err error) {
		r.Recent, err = history.Newest(ctx, st.room.topic, pageSize)
		return err
	})
	if err != nil || !from.known {
		return r, err
	}
	page, more, bytes := r.Messages, r.More, 0
	for pages := 0; ; pages++ {
		for i := range page {
			bytes += len(page[i].Body)
			switch c := page[i].ID.Compare(from.ID); {
			case c == 0:
				// The first node that sees another history through notes from where on it is
				// intact. Until this one does so too, it may have missed something after that.
				r.lost = from.changed || from.Compare(r.Intact) < 0
				return r, nil
			case c < 0:
				r.lost = true // what was shown last is not there any more
				return r, nil
			}
		}
		if !more || len(page) == 0 {
			break
		}
		if pages == closePages || bytes > closeBytes {
			r.tooFar, r.missed = true, nil
			return r, nil
		}
		place := page[len(page)-1].ID
		err := ask(func(ctx context.Context) (err error) {
			page, more, err = history.Before(ctx, st.room.topic, place, pageSize)
			return err
		})
		if err != nil { // rather go on without, than show nothing as long as that lasts
			r.tooFar, r.missed = true, nil
			return r, nil
		}
		r.missed = append(r.missed, page...)
	}
	// The beginning was reached. Of a room that was empty this is all then, unless it
	// had messages meanwhile that went with another history.
	r.lost = !from.IsZero() || from.changed
	return r, nil
}

// install makes what was read the room's page, shows what of it was not shown yet,
// and what came meanwhile.
func (st *stream) install(r *reading) {
	if st.overflow || st.again {
		r.from.changed = r.from.changed || st.changed
		st.overflow, st.again, st.changed, st.held, st.bytes = false, false, false, nil, 0
		st.shard.server.own.Go(func() { st.load(r.from) })
		return
	}
	if r.tooFar {
		st.shard.restart(st.room)
	} else if r.from.known {
		if r.lost {
			st.shard.tellGap(st.room)
		}
		st.last = r.from.ID
		st.catchUp(r)
	}
	st.page, st.more, st.intact, st.known = st.page[:0], r.More, r.Intact, true
	st.last = r.from.ID
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if e, _, ok := entryOf(&r.Messages[i]); ok {
			st.page = append(st.page, e)
		}
		st.last = r.Messages[i].ID
	}
	st.trim()
	held := st.held
	st.held, st.bytes, st.loading = nil, 0, false
	for i := range held {
		st.take(&held[i])
	}
	st.shard.settle()
}

// catchUp shows what was read and is newer than what was shown.
func (st *stream) catchUp(r *reading) {
	for _, messages := range [][]relay.Message{r.missed, r.Messages} { // both newest first
		for i := len(messages) - 1; i >= 0; i-- {
			st.take(&messages[i])
		}
	}
	st.show()
}

// tellGap tells all members that messages of a room may be missing.
func (sh *shard) tellGap(r *room) {
	frame := appendError(nil, errGap, r.quoted)
	for _, s := range sh.members {
		s.conn.Queue(frame)
	}
	sh.server.log.LogAttrs(sh.ctx, slog.LevelInfo, "messages of a room may be missing", slog.String("protocol", Protocol), slog.String("room", r.ID))
}

// restart has all members come back: more was missed of a room than can be shown.
func (sh *shard) restart(r *room) {
	for _, s := range sh.members {
		s.conn.CloseHere(conn.CodeRestart, "too much was missed: come back", conn.ReasonBehind)
	}
	sh.server.log.LogAttrs(sh.ctx, slog.LevelWarn, "clients are asked to come back: more was missed of a room than can be shown", slog.String("protocol", Protocol), slog.String("room", r.ID), slog.Int("connections", len(sh.members)))
}

// newest returns the page as JSON, newest first.
func (st *stream) newest() []byte {
	if st.text == nil {
		st.text = []byte{}
		for i := len(st.page) - 1; i >= 0; i-- {
			st.text = append(st.text, st.page[i].text...)
			if i > 0 {
				st.text = append(st.text, ',')
			}
		}
	}
	return st.text
}

// after returns the index in the page of the first message after the given place;
// false when the page does not show that it has all of them.
func (st *stream) after(id relay.ID) (at int, ok bool) {
	if id.IsZero() && !st.more {
		return 0, true
	}
	if len(st.page) == 0 {
		return 0, id == st.last && !id.IsZero()
	}
	at, ok = slices.BinarySearchFunc(st.page, id, func(e entry, id relay.ID) int { return e.id.Compare(id) })
	if ok {
		at++
	}
	return at, ok
}

// catchUpState is how much of a room a client that comes back gets.
type catchUpState struct {
	texts     []byte // newest first
	more      bool
	recovered bool
	reaches   bool // up to the place: nothing is missing between
}

// since returns what a client has missed that has followed the room up to the given
// place; exists tells that there is a message at it, which need not be in the page.
func (st *stream) since(id relay.ID, exists bool) (c catchUpState) {
	st.show() // what is about to come would be a part of a frame that the client may have
	at, ok := st.after(id)
	intact := id.IsZero() || id.Compare(st.intact) >= 0
	if !ok {
		return catchUpState{st.newest(), st.more, exists && intact, false}
	}
	for i := len(st.page) - 1; i >= at; i-- {
		c.texts = append(c.texts, st.page[i].text...)
		if i > at {
			c.texts = append(c.texts, ',')
		}
	}
	// What is older than what it gets, the client has.
	c.more = at > 0 || st.more
	c.recovered, c.reaches = intact, intact
	return c
}

// sinceText is since for a place as the client wrote it. What is none was never there.
func (st *stream) sinceText(place string, exists bool) catchUpState {
	id, ok := placeOf(place)
	if !ok {
		st.show()
		return catchUpState{texts: st.newest(), more: st.more}
	}
	return st.since(id, exists)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

var _ conn.Deliverer = (*stream)(nil)
