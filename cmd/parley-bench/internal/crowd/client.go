package crowd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Client is one client over all its connections.
type Client struct {
	// Fixed after New.
	crowd   *Crowd
	number  int
	partner *Client
	out, in *ledger.Stream
	first   chan struct{} // closed at the first greeting

	// Owned by run.
	rng     *rand.Rand
	turn    int
	attempt int
	token   string
	last    string // the id of the last message that was handled
	seen    seen
	ended   time.Time // when the last connection did; zero: not waiting to be back
	scratch []byte

	address atomic.Pointer[string] // its client id, nil before the first greeting
	node    atomic.Pointer[string]

	mu      sync.Mutex
	session *texto.Session // nil while there is none
	frame   *texto.Send    // for session and frameTo
	frameTo string
	away    chan struct{} // not nil: stays away until it is closed
	asked   uint64        // registrations
}

func newClient(c *Crowd, i int) *Client {
	return &Client{crowd: c, number: i, turn: c.cfg.Home(i), first: make(chan struct{}),
		rng: rand.New(rand.NewPCG(c.cfg.Seed, uint64(i)<<8|0xff))}
}

func (c *Client) name() string { return fmt.Sprintf("client %d", c.crowd.cfg.Nonce+uint32(c.number)) }

// nonce marks the messages that the client sends.
func (c *Client) nonce() uint32 { return c.crowd.cfg.Nonce + uint32(c.number) }

// Connected tells whether the client has been greeted and its connection stands.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil
}

// Node is the name of the node that greeted the client last, "" before the
// first.
func (c *Client) Node() string {
	if n := c.node.Load(); n != nil {
		return *n
	}
	return ""
}

// Partner is the client that this one writes to.
func (c *Client) Partner() *Client { return c.partner }

// Leave cuts the connection and has the client stay away until Return.
func (c *Client) Leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away == nil {
		c.away = make(chan struct{})
	}
	if c.session != nil {
		c.session.CloseNow()
	}
}

// Return lets the client come back after Leave.
func (c *Client) Return() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away != nil {
		close(c.away)
		c.away = nil
	}
}

// run keeps the client connected until ctx ends.
func (c *Client) run(ctx context.Context) {
	first := true
	for ctx.Err() == nil {
		c.mu.Lock()
		away := c.away
		c.mu.Unlock()
		if away != nil {
			c.ended = time.Time{}
			select {
			case <-away:
			case <-ctx.Done():
				return
			}
		}
		if first {
			c.crowd.opening <- struct{}{}
		}
		s, err := c.open(ctx)
		if first {
			<-c.crowd.opening
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			c.crowd.events.refused(err)
			c.moveOn()
			c.wait(ctx, err)
			continue
		}
		c.greeted(s)
		if first {
			first = false
			close(c.first)
		}
		start := time.Now()
		err = c.read(ctx, s)
		if ctx.Err() != nil {
			s.CloseNow()
			return
		}
		c.left(s, err, start)
		c.moveOn()
		c.wait(ctx, err)
	}
}

// moveOn turns to any other target, so that the clients of one that is gone
// spread over the rest.
func (c *Client) moveOn() {
	if n := len(c.crowd.cfg.Targets); n > 1 {
		c.turn += 1 + c.rng.IntN(n-1)
	}
}

// open dials the client's target, with its token if it has one.
func (c *Client) open(ctx context.Context) (*texto.Session, error) {
	targets := c.crowd.cfg.Targets
	t := targets[c.turn%len(targets)]
	if c.token != "" {
		t = texto.Resuming(t, c.token, c.last)
	}
	s, _, err := texto.Open(ctx, &c.crowd.dialer, t, nil)
	return s, err
}

// The waits before a new attempt are those of the SDK: anything up to a bound
// that doubles, and a floor where the server asks for time.
const (
	backoffBase = time.Second
	backoffCap  = 30 * time.Second
)

// backoff is the wait after err, at the given attempt since the last good
// connection, from 1.
func backoff(err error, attempt int, random float64) time.Duration {
	spread := min(backoffBase<<min(attempt-1, 10), backoffCap)
	var floor time.Duration
	if e, ok := errors.AsType[*wsclient.HandshakeError](err); ok {
		floor = min(e.RetryAfter, backoffCap)
	}
	if e, ok := errors.AsType[*wsclient.CloseError](err); ok {
		switch e.Code {
		case CloseRestart:
			spread = backoffBase
		case closeTryLater:
			floor = backoffBase
		}
	}
	return floor + time.Duration(random*float64(spread))
}

// Close codes of the server that the waits depend on.
const (
	CloseRestart  = 1012 // a node drains
	closeTryLater = 1013
)

func (c *Client) wait(ctx context.Context, err error) {
	c.attempt++
	Sleep(ctx, backoff(err, c.attempt, c.rng.Float64()))
}

// greeted begins a session: what the greeting says of the past goes to the
// ledger before anything newer comes.
func (c *Client) greeted(s *texto.Session) {
	if !c.ended.IsZero() {
		c.crowd.Reconnects.Record(time.Since(c.ended))
		c.ended = time.Time{}
	}
	c.token = s.Resume
	c.node.Store(&s.Node)
	was := c.address.Load()
	// Who writes counts a message first and looks the address up then: a message
	// to the old address is among those that TellWhole finds.
	c.address.Store(&s.ClientID)
	switch {
	case was == nil:
	case *was != s.ClientID:
		c.last = ""
		c.crowd.events.fresh.Add(1)
		c.in.TellWhole()
	case s.Recovered == texto.RecoveredAll:
		c.crowd.events.recovered.Add(1)
		c.in.Vouch()
	default:
		if s.Recovered == texto.RecoveredUnsaid {
			c.crowd.cfg.Ledger.Foreign(c.name(), "the greeting of a resumed session does not say whether it has recovered")
		}
		c.crowd.events.notRecovered.Add(1)
		c.in.TellWhole()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.frame = s, nil
	if c.away != nil {
		s.CloseNow()
	}
}

// replayTime is how long a connection has to stand before it must have brought
// what its client had missed.
const replayTime = 2 * time.Second

// goodConnection is how long a connection has to stand for the next wait to be a
// short one again. An SDK takes ten seconds; here a fault comes every few.
const goodConnection = 2 * time.Second

// left notes the end of a connection.
func (c *Client) left(s *texto.Session, err error, start time.Time) {
	s.CloseNow()
	c.mu.Lock()
	c.session = nil
	c.mu.Unlock()
	c.ended = time.Now()
	if c.ended.Sub(start) < replayTime {
		c.in.Unvouch()
	}
	if c.ended.Sub(start) >= goodConnection {
		c.attempt = 0
	}
	c.crowd.events.ended(End{At: c.ended, Client: c, Node: s.Node, Code: closeCode(err), Cause: texto.Cause(err)})
}

// closeCode is the code of the server's close frame, 0 without one.
func closeCode(err error) int {
	if e, ok := errors.AsType[*wsclient.CloseError](err); ok && e.Err == nil {
		return e.Code
	}
	return 0
}

// read passes on what comes until the connection ends, and returns why.
func (c *Client) read(ctx context.Context, s *texto.Session) error {
	stop := context.AfterFunc(ctx, s.CloseNow)
	defer stop()
	var m texto.Message
	for {
		_, frame, err := s.ReadMessage()
		if err != nil {
			return err
		}
		if err := texto.Parse(frame, &m); err != nil {
			c.crowd.cfg.Ledger.Foreign(c.name(), "malformed: %v: %.100q", err, frame)
			continue
		}
		switch string(m.Kind) {
		case texto.KindReceive:
			c.receive(s, &m)
		case texto.KindAck, texto.KindError:
			c.answered(&m)
		case texto.KindConnection:
			c.told(&m)
		default:
			c.crowd.cfg.Ledger.Foreign(c.name(), "a message of kind %.40q", m.Kind)
		}
	}
}

// receive handles a message from the partner: once, and it is acknowledged each
// time.
func (c *Client) receive(s *texto.Session, m *texto.Message) {
	c.scratch = s.AppendAck(c.scratch[:0], m.ID)
	_ = s.WriteMessage(wsclient.Text, c.scratch) // a failure shows to the next read
	again := c.seen.add(m.ID)
	c.last = string(m.ID)
	id, ok := texto.ParseID(m.Text[:min(len(m.Text), texto.IDLen)])
	switch {
	case !ok || id.Nonce != c.partner.nonce() || !bytes.Equal(m.Text[texto.IDLen:], c.crowd.filler):
		c.crowd.cfg.Ledger.Foreign(c.name(), "an altered or misdirected text from %.40q: %.60q", m.Sender, m.Text)
		return
	case again:
		c.in.SentAgain()
		return
	}
	result := c.in.Deliver(id.Seq)
	if !result.Known {
		c.crowd.cfg.Ledger.Foreign(c.name(), "a message that was never sent: %.60q", m.Text)
		return
	}
	now := c.crowd.now()
	if h := c.crowd.latency.Load(); h != nil && result.First {
		h.Record(time.Duration(now - id.Due))
	}
	if result.Settles {
		c.crowd.settled(c.partner, id.Due)
	}
}

// answered handles the answer to a message that the client has sent.
func (c *Client) answered(m *texto.Message) {
	id, ok := texto.ParseID(m.ID)
	if !ok || id.Nonce != c.nonce() {
		c.crowd.cfg.Ledger.Foreign(c.name(), "an answer to no request: %.40q %.40q %.100q", m.Kind, m.Code, m.Description)
		return
	}
	if id.Seq == 0 { // a registration that was refused
		return
	}
	var result ledger.Result
	if string(m.Kind) == texto.KindAck {
		result = c.out.Acknowledge(id.Seq)
	} else {
		result = c.out.Refuse(id.Seq, string(m.Code))
	}
	switch {
	case !result.Known:
		c.crowd.cfg.Ledger.Foreign(c.name(), "an answer to a message that was never sent: %.40q", m.ID)
	case result.First:
		c.crowd.Answers.Record(time.Duration(c.crowd.now() - id.Due))
	}
	if result.Settles {
		c.crowd.settled(c, id.Due)
	}
}

// told handles a connection message: the answer to a registration, which brings
// a fresh token, or an unasked one, which tells a gap at this place.
func (c *Client) told(m *texto.Message) {
	if len(m.Resume) > 0 {
		c.token = string(m.Resume)
	}
	if id, ok := texto.ParseID(m.ID); ok && id.Nonce == c.nonce() {
		return
	}
	if m.Recovered == texto.RecoveredNot {
		c.crowd.events.gaps.Add(1)
		c.in.TellHere()
	}
}

// writeTimeout ends a connection that takes nothing any more.
const writeTimeout = 2 * time.Second

// send writes the next message to the partner, if there is a connection and
// nobody else is writing.
func (c *Client) send() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if c.session == nil {
		return
	}
	seq := c.out.Send()
	to := *c.partner.address.Load()
	if c.frame == nil || c.frameTo != to {
		c.frame, c.frameTo = c.session.NewSend(to, c.crowd.filler), to
	}
	c.write(c.frame.Stamp(texto.ID{Due: c.crowd.now(), Nonce: c.nonce(), Seq: seq}))
}

// register asks for a fresh token. Number 0 marks it: messages count from 1.
func (c *Client) register() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if c.session == nil {
		return
	}
	c.asked++
	b := c.session.AppendRegistration(nil, texto.ID{Due: int64(c.asked), Nonce: c.nonce()})
	c.timed(func() error { return c.session.WriteMessage(wsclient.Text, b) })
}

// write sends a frame. The caller holds mu.
func (c *Client) write(frame []byte) {
	c.timed(func() error { return c.session.WriteFrame(frame) })
}

// timed writes within writeTimeout, or ends the connection. The caller holds mu.
func (c *Client) timed(write func() error) {
	_ = c.session.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails on a dead socket only
	if err := write(); err != nil && !errors.Is(err, wsclient.ErrClosing) {
		c.session.CloseNow()
	}
	// What the reader writes, such as the answer to a ping, has no deadline.
	_ = c.session.SetWriteDeadline(time.Time{})
}
