package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/pkg/conn"
	"parley/pkg/park"
	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// defaultTimeout is how long a poll waits that does not say, MaxTimeout how long one
	// that says more.
	defaultTimeout = 60 * time.Second
	MaxTimeout     = 120 * time.Second
	// maxNotifications is how many a poll gets at most, whatever it asks for.
	maxNotifications = 100
	// askTimeout bounds each question to Redis.
	askTimeout = 1800 * time.Millisecond
	// unsettledPatience is how long a poll waits for the node that is writing another
	// answer to the same session to say how that went; then that node is taken for dead.
	unsettledPatience = time.Second
	// unsettledPause is the first pause between two looks; the next one is twice as long.
	unsettledPause = 2 * time.Millisecond
	// maxDrained is the longest body that is read of a poll, which needs none.
	maxDrained = 16 << 10
)

// poll is one request for notifications.
type poll struct {
	// Fixed once it was made.
	user    int64
	session string
	most    int
	listed  bool      // the client has said how many
	after   *relay.ID // nil: the inbox knows
	until   time.Time
	expires time.Time // the session

	// Owned by the goroutine that answers it.
	place relay.Position // the client has what is up to here

	mu      sync.Mutex
	spot    *park.Spot // nil: not parked yet, or not any more
	from    relay.ID   // the client has what is up to here; only of a parked one
	waiting []relay.Message
	anew    bool // the topic may lack messages: ask Redis
	revoked bool // the session has ended
	let     bool // the client is to come again
}

// take notes a notification that came. Of a parked poll the first poll.most of them are
// enough: the next poll gets the others.
func (p *poll) take(m *relay.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.spot == nil && len(p.waiting) >= maxNotifications: // the inbox is being read; once more, then
		p.waiting, p.anew = nil, true
	case p.spot != nil && (m.ID.Compare(p.from) <= 0 || len(p.waiting) >= p.most):
		return
	}
	p.waiting = append(p.waiting, *m)
	p.wake()
}

func (p *poll) askAnew() { p.note(&p.anew) }
func (p *poll) revoke()  { p.note(&p.revoked) }
func (p *poll) release() { p.note(&p.let) }

func (p *poll) note(what *bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*what = true
	p.wake()
}

// wake is called with mu held.
func (p *poll) wake() {
	if p.spot != nil {
		p.spot.Wake()
	}
}

// news is why a poll was woken.
type news struct {
	messages       []relay.Message // after the client's place
	anew           bool
	revoked, leave bool
}

// look returns what has come, once.
func (p *poll) look() news {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := news{p.waiting, p.anew, p.revoked, p.let}
	p.waiting, p.anew = nil, false
	return n
}

// park has what comes after the poll's place wake it from now on, and what came since it
// was made.
func (p *poll) park(spot *park.Spot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spot, p.from = spot, p.place.ID
	p.waiting = slices.DeleteFunc(p.waiting, func(m relay.Message) bool { return m.ID.Compare(p.from) <= 0 })
	p.waiting = p.waiting[:min(len(p.waiting), p.most)]
	if len(p.waiting) > 0 || p.anew || p.revoked || p.let {
		spot.Wake()
	}
}

// unpark has nobody wake the poll any more.
func (p *poll) unpark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spot = nil
}

// pollOf reads what a client wants.
func (c *call) pollOf(now time.Time) (*poll, error) {
	p := &poll{user: c.id, session: c.session.Key, expires: c.session.Expires, most: 1}
	wait, err := seconds(c.query)
	if err != nil {
		return nil, err
	}
	if p.until = now.Add(wait); p.expires.Before(p.until) {
		p.until = p.expires
	}
	if p.listed = c.query.Has("max"); p.listed {
		if p.most, err = strconv.Atoi(c.query.Get("max")); err != nil && !errors.Is(err, strconv.ErrRange) || p.most < 1 {
			return nil, bad("max is a whole number from 1")
		}
		p.most = min(p.most, maxNotifications)
	}
	if c.query.Has("after") {
		id, err := relay.ParseID(c.query.Get("after"))
		if err != nil {
			return nil, bad("after is the id of a notification")
		}
		p.after = &id
	}
	return p, nil
}

// seconds reads how long a poll may wait.
func seconds(q url.Values) (time.Duration, error) {
	if !q.Has("timeout") {
		return defaultTimeout, nil
	}
	text := q.Get("timeout")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || n < 0 || strings.Trim(text, "0123456789.+-eE") != "" {
		return 0, bad("timeout is a number of seconds, 0 or more")
	}
	return time.Duration(min(n, MaxTimeout.Seconds()) * float64(time.Second)), nil
}

// poll answers GET /me: at once when something waits, else when it comes, or at the end of
// the time. What waits is read after the node has heard that it gets what comes, so that
// nothing falls between.
func (s *Server) poll(w http.ResponseWriter, c *call) (*answer, error) {
	p, err := c.pollOf(time.Now())
	if err != nil {
		return nil, err
	}
	if err := drainBody(w, c.Request); err != nil {
		return nil, err
	}
	if !p.expires.After(time.Now()) {
		return nil, errSessionEnded
	}
	if s.deps.Lot.Draining() {
		return nil, s.sendAway(w)
	}
	client := s.cfg.Proxies.Client(c.Request)
	switch s.deps.Admission.Admit(client) {
	case conn.Admitted:
	case conn.Draining:
		return nil, s.sendAway(w)
	case conn.NodeFull:
		return nil, unavailable("this node has all the connections that it takes (--max-connections)", retryBusy)
	case conn.AddressFull:
		return nil, tooMany("too many connections from your address (--max-connections-per-ip)", retryBusy)
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	topic, end := relay.UserTopic(p.user), func() { s.deps.Admission.Leave(client) }
	if p.until.After(time.Now()) {
		center, err := s.enter(ctx, p)
		if err != nil {
			s.deps.Admission.Leave(client)
			return nil, err
		}
		end = func() {
			s.leave(center, p)
			s.deps.Admission.Leave(client)
		}
	}
	parked := false
	var all []notification
	defer func() {
		if parked {
			return
		}
		if p.after == nil && len(all) > 0 {
			s.settle(topic, p, false) // nobody has got it
		}
		end()
	}()
	if all, err = s.collect(ctx, topic, p); err != nil {
		return nil, err
	}
	guest := park.Guest{}
	next := func(spot *park.Spot, _ park.Cause) bool { s.answerParked(topic, p, spot, all); return false }
	switch {
	case p.after == nil && len(all) > 0: // whether it was taken is seen on a connection of our own only
	case len(all) > 0 || !p.until.After(time.Now()):
		s.answerNow(w, topic, p, all)
		return nil, nil
	default:
		guest.Until, guest.Parked = p.until, p.park
		next = func(spot *park.Spot, cause park.Cause) bool { return s.next(topic, p, spot, cause) }
	}
	guest.Answer = func(spot *park.Spot, cause park.Cause) (again bool) {
		defer func() {
			if !again {
				p.unpark()
				end()
			}
		}()
		defer s.recoveredParked(p, spot)
		return next(spot, cause)
	}
	// Its end may have been told before this poll was there to hear of it.
	switch standing, err := s.deps.Accounts.Standing(ctx, p.session); {
	case err != nil:
		return nil, err
	case !standing[0]:
		return nil, errSessionEnded
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	err = s.deps.Lot.Park(w, c.Request, guest)
	switch {
	case err == nil:
		parked = true
		return nil, nil
	case errors.Is(err, park.ErrDraining):
		return nil, s.sendAway(w)
	}
	return nil, err
}

// drainBody reads what a poll's body has, lest it be taken for the next request.
func drainBody(w http.ResponseWriter, r *http.Request) error {
	_, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxDrained))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return errTooLong
	case err != nil: // where the next request begins is not known: the connection ends
		return fmt.Errorf("%w: %w", web.ErrCutOff, err)
	}
	return nil
}

// sendAway has a client come again, to another node.
func (s *Server) sendAway(w http.ResponseWriter) error {
	s.metrics.polls.WithLabelValues(pollDrained).Inc()
	w.Header().Set("Connection", "close")
	writeRaw(w, answerOf(nil, false))
	return nil
}

func writeRaw(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // what is wrong shows when it is flushed
}

// collect reads what waits for a client, and notes where it is.
func (s *Server) collect(ctx context.Context, t relay.Topic, p *poll) ([]notification, error) {
	reading := relay.Reading{Reader: p.session, After: p.after}
	began := time.Now()
	for pause := unsettledPause; ; pause *= 2 {
		c, err := s.deps.Inbox.Collect(ctx, t, reading, p.most)
		if err != nil {
			return nil, fmt.Errorf("reading notifications: %w", err)
		}
		if !c.Unsettled {
			all := s.collected(p, c)
			return all, s.offer(ctx, t, p, c)
		}
		if time.Since(began) >= unsettledPatience {
			reading.Insist = true
			continue
		}
		t := time.NewTimer(min(pause, unsettledPatience-time.Since(began)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
		}
	}
}

// offer has the inbox know what is written of what it has offered to a client that leaves
// its place to it, if that is less.
func (s *Server) offer(ctx context.Context, t relay.Topic, p *poll, c relay.Collected) error {
	if p.after != nil || len(c.Messages) == 0 || p.place == c.End {
		return nil
	}
	if err := s.deps.Inbox.Settle(ctx, t, p.session, c.End, false); err != nil {
		return err
	}
	return s.deps.Inbox.Offer(ctx, t, p.session, p.place)
}

// collected is what an answer has to say. The poll's place becomes where that ends.
func (s *Server) collected(p *poll, c relay.Collected) (all []notification) {
	p.place = c.End
	messages := c.Messages
	if !c.Complete {
		before := c.End.ID
		if len(messages) > 0 {
			before = c.Before
		}
		all = append(all, gapAt(before))
		if len(messages) >= p.most { // there is room for so many
			messages = messages[:p.most-1]
			p.place.ID = before
			if n := len(messages); n > 0 {
				p.place.ID = messages[n-1].ID
			}
		}
	}
	return notificationsOf(all, messages)
}

// settles tells whether the inbox wants to know how an answer ends: when it keeps the
// client's place, and when it knows of a gap.
func (p *poll) settles(all []notification) bool {
	return len(all) > 0 && (p.after == nil || all[0].Kind == gapNotification)
}

// answerNow answers a poll whose client has a place of its own, or that has nothing to say.
func (s *Server) answerNow(w http.ResponseWriter, t relay.Topic, p *poll, all []notification) {
	writeRaw(w, answerOf(all, p.listed))
	s.ended(t, p, all, http.NewResponseController(w).Flush() == nil)
}

// ended counts an answer and notes how it went.
func (s *Server) ended(t relay.Topic, p *poll, all []notification, written bool) {
	result := pollEmpty
	switch {
	case !written:
		result = pollBroken
	case len(all) > 0:
		result = pollNotified
	}
	s.metrics.polls.WithLabelValues(result).Inc()
	if written && len(all) > 0 && all[0].Kind == gapNotification {
		s.metrics.gaps.Inc()
	}
	if p.settles(all) {
		s.settle(t, p, written)
	}
}

// settle notes how an answer went, whether its client waits or not.
func (s *Server) settle(t relay.Topic, p *poll, written bool) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := s.deps.Inbox.Settle(ctx, t, p.session, p.place, written); err != nil {
		// The next poll takes the answer for one that was not written.
		s.log.Debug("notifications may be told twice", "protocol", Protocol, "user", p.user, "error", err)
	}
}

// recoveredParked answers a poll whose handling has panicked, perhaps too late.
func (s *Server) recoveredParked(p *poll, spot *park.Spot) {
	if v := recover(); v != nil {
		s.log.Error("request failed", "protocol", Protocol, "route", "/me", "user", p.user, "error", fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		_ = spot.Answer(errInternal.status, encode(failure{errInternal}))
	}
}

// next answers a parked poll when there is something, or its time is over; else it is to
// wait on.
func (s *Server) next(t relay.Topic, p *poll, spot *park.Spot, cause park.Cause) (again bool) {
	switch cause {
	case park.Gone:
		s.metrics.polls.WithLabelValues(pollGone).Inc()
		return false
	case park.Late, park.Input:
		if time.Now().Before(p.expires) {
			s.answerParked(t, p, spot, nil)
		} else {
			s.endSession(spot)
		}
		return false
	case park.Woken:
	}
	n := p.look()
	var all []notification
	var err error
	switch {
	case n.revoked:
		s.endSession(spot)
		return false
	case n.anew:
		all, err = s.askAnew(t, p)
	case len(n.messages) > 0:
		all, err = s.live(t, p, n.messages)
	}
	switch {
	case len(all) > 0:
		s.answerParked(t, p, spot, all)
	case s.deps.Lot.Draining():
		s.metrics.polls.WithLabelValues(pollDrained).Inc()
		_ = spot.Answer(http.StatusOK, answerOf(nil, false)) // else it is gone
	case err != nil || n.leave: // the client comes again
		s.answerParked(t, p, spot, nil)
	default:
		p.park(spot) // further on
		return true
	}
	return false
}

// askAnew reads the inbox again for a parked poll.
func (s *Server) askAnew(t relay.Topic, p *poll) ([]notification, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	all, err := s.collect(ctx, t, p)
	if err != nil && !errors.Is(err, relay.ErrUnavailable) {
		s.log.Error("request failed", "protocol", Protocol, "route", "/me", "error", err)
	}
	return all, err
}

// live is what an answer of messages has to say that came while the poll was parked. The
// inbox is told of it before it is written when it keeps the client's place.
func (s *Server) live(t relay.Topic, p *poll, messages []relay.Message) (all []notification, err error) {
	messages = messages[:min(len(messages), p.most)]
	all = notificationsOf(nil, messages)
	p.place.ID = messages[len(messages)-1].ID
	if p.after != nil {
		return all, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	if err := s.deps.Inbox.Offer(ctx, t, p.session, p.place); err != nil {
		return nil, err // the client comes again, and gets them
	}
	return all, nil
}

// endSession answers a parked poll whose session has ended.
func (s *Server) endSession(spot *park.Spot) {
	s.metrics.polls.WithLabelValues(pollEnded).Inc()
	_ = spot.Answer(errSessionEnded.status, encode(failure{errSessionEnded}), errSessionEnded.fields()...) // else it is gone
}

// takenPatience is how long an answer may be on its way to a client that leaves its place
// to the inbox, before it counts as lost; below what another node waits for it.
const takenPatience = unsettledPatience * 9 / 10

// answerParked answers a parked poll.
func (s *Server) answerParked(t relay.Topic, p *poll, spot *park.Spot, all []notification) {
	written := spot.Answer(http.StatusOK, answerOf(all, p.listed)) == nil
	if p.after == nil && len(all) > 0 {
		written = written && spot.Taken(takenPatience)
	}
	s.ended(t, p, all, written)
}
