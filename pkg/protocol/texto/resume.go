package texto

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

const (
	// pageMessages is how many messages one reading of the history brings.
	pageMessages = 256
	// pieceBytes is about how much of what was missed is queued at once, if as
	// much may be: the client must have taken it before more is.
	pieceBytes = 64 << 10
	// maxResuming bounds the sessions of this node that ask Redis for their state
	// at once, and turnTimeout how long one waits for its turn.
	maxResuming = 512
	turnTimeout = 8 * time.Second
	// tokenMargin is taken off the moment of a position. It covers what a message
	// may take from Redis to its recipient's queue.
	tokenMargin = time.Minute
)

// ticket is what a client brings to go on with a session.
type ticket struct {
	client uuid.UUID
	from   relay.Position // the last message that the client has
}

// readTicket reads the parameters resume and last of a handshake: nil when the
// client does not ask to resume, not ok when it may not.
func (s *Server) readTicket(q url.Values) (t *ticket, ok bool) {
	token := q.Get("resume")
	if token == "" {
		return nil, true
	}
	client, from, issued, ok := s.keys.parse(token, time.Now())
	if !ok {
		return nil, false
	}
	if last := q.Get("last"); len(last) == uuidLength {
		if id, err := uuid.Parse(last); err == nil {
			from = since(from, issued, id)
		}
	}
	return &ticket{client, from}, true
}

// since is the position of a client that holds a token of the given one and names
// the last message that it has. An id that holds no place does not count.
func since(p relay.Position, issued time.Time, last uuid.UUID) relay.Position {
	at, ok := placeOf(last)
	if !ok || at == p.ID {
		return p
	}
	sent := time.UnixMilli(int64(at.Millis))
	if p.ID.IsZero() && sent.Before(issued) {
		return p // last is of a history that was lost before the token came
	}
	// Whichever of the two is newer, nothing newer than last was there at the
	// earlier one of their moments.
	if sent.Before(p.At) {
		p.At = sent
	}
	p.ID = at
	return p
}

// resume is Open for a client with a ticket: it takes the session over from
// whatever connection has it, sends what the client has missed, and ends with the
// session live. It runs on the reader, which meanwhile reads nothing.
func (s *session) resume(from relay.Position) error {
	heard := s.catching.heard // the loop owns the rest of it from now on
	free, err := s.server.turn()
	if err != nil {
		return s.unserved(err)
	}
	defer free() // more than once does nothing
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if s.conn.Gone() {
		return conn.ErrClosing
	}
	if _, err := s.server.hub.Subscribe(ctx, s.topic, s); err != nil {
		return s.unserved(err)
	}
	s.subscribed = true
	s.log(slog.LevelInfo, "session opened", slog.Bool("resumed", true))
	// A client that did not want to wait has the session elsewhere by now, and must
	// not lose it to a connection that it has given up.
	if s.conn.Gone() {
		return conn.ErrClosing
	}
	if err := s.takeOver(); err != nil {
		return s.unserved(err)
	}
	if !s.server.cfg.Retention.Kept() {
		return s.resumeUnkept(heard)
	}
	return s.resumeKept(from, free)
}

// turn waits for one of maxResuming places. The place is given back by free.
func (s *Server) turn() (free func(), err error) {
	t := time.NewTimer(turnTimeout)
	defer t.Stop()
	select {
	case s.resuming <- struct{}{}:
	case <-t.C:
		return nil, relay.ErrOverloaded
	}
	freed := false
	return func() {
		if !freed {
			freed = true
			<-s.resuming
		}
	}, nil
}

// takeOver tells the connection that has the session that it is this one's now.
// Whatever it sees of the topic after that is not for its client.
func (s *session) takeOver() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	_, err := s.server.publisher.Publish(ctx, relay.Message{
		Topic: s.topic,
		From:  s.idText(),
		Time:  time.Now(),
		Body:  append([]byte{bodyTakeover}, s.nonce[:]...),
	}, s.server.cfg.Retention)
	return err
}

// resumeUnkept goes on from the takeover, once it was heard: what was missed is lost.
func (s *session) resumeUnkept(heard <-chan struct{}) error {
	t := time.NewTimer(openTimeout)
	defer t.Stop()
	select {
	case <-heard:
	case <-t.C:
		return s.unserved(relay.ErrUnavailable)
	}
	s.conn.Do(func() { s.welcome(false, relay.Position{}) })
	return s.release()
}

// resumeKept sends what the history has after the given position. free is called
// when the client can be greeted.
func (s *session) resumeKept(from relay.Position, free func()) error {
	for first := true; ; first = false {
		s.conn.Do(func() { s.catching.readings++ })
		page, err := s.page(from)
		free()
		if err != nil {
			return s.unserved(err)
		}
		before := from
		s.conn.Do(func() {
			if first {
				s.welcome(page.Complete, before)
			} else if !page.Complete {
				s.tell(newID(), before, notRecovered)
			}
			s.epoch = page.Position.Epoch
		})
		for rest := page.Messages; len(rest) > 0; {
			piece := rest[:s.server.pieceOf(rest)]
			rest = rest[len(piece):]
			s.conn.Do(func() {
				for i := range piece {
					s.catching.remember(&piece[i])
					s.show(&piece[i])
				}
			})
			if err := s.conn.Flushed(); err != nil {
				return err
			}
		}
		from = page.Position
		overflow := make(chan bool, 1)
		s.conn.Do(func() {
			s.place = from.ID
			overflow <- s.catching.overflow
			s.catching.overflow = false // from here on it is held, and before this the next page has it
		})
		if err := s.conn.Flushed(); err != nil {
			return err
		}
		if !<-overflow && !page.More {
			return s.release()
		}
	}
}

// page reads a page of the history.
func (s *session) page(from relay.Position) (relay.Page, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return s.server.history.Since(ctx, s.topic, from, pageMessages)
}

// pieceOf is how many of the messages to queue at once: one at least.
func (s *Server) pieceOf(messages []relay.Message) int {
	bytes := 0
	for i := range messages {
		bytes += receiveSize + len(messages[i].Body)
		if bytes > s.piece && i > 0 {
			return i
		}
	}
	return len(messages)
}

// release has what was held sent, piece by piece, until nothing is left and the
// session is live.
func (s *session) release() error {
	live := make(chan bool, 1)
	for {
		s.conn.Do(func() { live <- s.releasePiece() })
		if err := s.conn.Flushed(); err != nil {
			return err
		}
		if <-live {
			return nil
		}
	}
}

// The rest of this file runs on the loop.

// welcome greets the client of a resumed session, whose position is p.
func (s *session) welcome(recovered bool, p relay.Position) {
	s.epoch, s.place, s.open = p.Epoch, p.ID, true
	s.standing = notRecovered
	if recovered {
		s.standing = wasRecovered
	}
	if s.greet {
		s.tell(newID(), p, s.standing)
	}
}

// detain keeps a message from the bus for later while the session catches up, and
// drops one that the client has got from the history; false when it is to be shown.
func (s *session) detain(m *relay.Message) bool {
	c := s.catching
	if c.live {
		known := c.known(m)
		if len(c.read) == 0 {
			s.catching = nil
		}
		return known
	}
	if nonce, ok := nonceOf(m); ok && !s.server.cfg.Retention.Kept() {
		s.takenOver(nonce) // which would be lost with what is held
		return true
	}
	c.hold(held{message: *m})
	return true
}

// releasePiece shows some of what was held; true when the session is live. What
// was read from the history is older than every takeover that comes now.
func (s *session) releasePiece() (live bool) {
	c := s.catching
	s.own = true
	for bytes := 0; bytes < s.server.piece; {
		h, ok := c.next()
		switch {
		case !ok:
			c.live, c.held = true, nil
			if len(c.read) == 0 {
				s.catching = nil
			}
			return true
		case h.gap && h.before < c.readings:
			// Of what was published before the last reading, that has told.
		case !h.gap && c.known(&h.message):
		case h.gap:
			s.missed(h.position)
		default:
			bytes += receiveSize + len(h.message.Body)
			s.show(&h.message)
		}
	}
	return false
}

// Gap implements hub.GapTaker: the client is told where messages may be missing.
func (s *session) Gap(p relay.Position) {
	switch {
	case !s.server.cfg.Retention.Kept():
		// Nothing is kept: the client has not been promised anything.
	case s.catching != nil && !s.catching.live:
		s.catching.hold(held{gap: true, position: p, before: s.catching.readings})
	case !s.open:
		s.epoch, s.place = p.Epoch, p.ID // of a new address, which nobody knows
	default:
		s.missed(p)
	}
}

// missed tells the client that messages before p may be missing.
func (s *session) missed(p relay.Position) {
	s.epoch, s.place = p.Epoch, p.ID
	s.tell(newID(), p, notRecovered)
}

// takenOver hears of a connection that has taken the session over. Those before
// this one did are of no interest; one that comes later ends this one.
func (s *session) takenOver(nonce [idLength]byte) {
	switch {
	case nonce == s.nonce:
		s.own = true
		if s.catching != nil && s.catching.heard != nil {
			close(s.catching.heard)
			s.catching.heard = nil
		}
	case s.own:
		s.conn.CloseHere(conn.CodeTakenOver, "taken over by another connection", conn.ReasonTakeover)
	}
}
