package pull

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
)

// Config says what a Crowd is. Fixed before NewCrowd.
type Config struct {
	Client    *Client
	Nodes     []string // their bases; clients go on to the next one with each request
	Senders   []User
	Receivers []User // each is written to by every sender
	Ledger    *ledger.Ledger
	Nonce     uint32        // tells runs apart; 20 bits
	Size      int           // of a message, in bytes
	Wait      time.Duration // that polls ask for
	Slack     time.Duration // that an answer may take besides, before a client gives it up
	Most      int           // notifications that polls ask for
}

// Crowd is clients that write to each other by REST. Each sender writes to each receiver.
// A receiver polls, one node after the other, and pulls the conversation that a
// notification names. Every other one names the last notification that it has processed,
// and repeats a pull whose answer was lost, with its key. The rest leave their place to the
// fleet, and look at the conversation's pages for what was in an answer that was lost.
//
// Everything is in the ledger: a message is delivered when it was pulled, or found in the
// pages where an answer was lost.
type Crowd struct {
	// Fixed after NewCrowd.
	Config
	filler    []byte
	senders   []*sender
	receivers []*receiver
	running   sync.WaitGroup

	Delivered atomic.Int64 // messages that were pulled or found
	// Late are messages that came out of their sender's order, which had given up waiting
	// for their acknowledgement before it wrote others.
	Late atomic.Int64
	// Written counts what takes a request for a message, Pulled from the sending of a
	// message until it was pulled.
	Written, Pulled hist.Histogram

	mu       sync.Mutex
	failures map[string]int // requests that failed, by cause
	watch    *watch         // nil: nobody looks for how long it takes
}

// sender writes. One goroutine at a time may have it write.
type sender struct {
	User
	turn int // of the nodes
}

// receiver polls and pulls.
type receiver struct {
	User
	crowd   *Crowd
	index   int
	names   bool               // it names the last notification that it has processed
	streams map[string]*stream // by the sender's username; not changed after NewCrowd

	backlog atomic.Int64 // messages that were acknowledged, less those that were delivered

	// Owned by its goroutine.
	turn  int
	last  string
	pulls int // that had a key

	mu       sync.Mutex
	seen     map[string]bool // notifications, by id
	repeated int             // notifications that came again with the same id
	gaps     []time.Time     // when it was told that notifications may be missing
	polls    int             // answered
}

// stream is what one sender writes to one receiver.
type stream struct {
	*ledger.Stream
	sender *sender
	number int // among all streams

	mu       sync.Mutex
	sent     []sentMessage // by sequence number, from 1
	pulled   map[string]bool
	found    map[string]bool // in the pages, by message id
	notified []time.Time
	highest  uint64 // the latest message that came
	torn     bool   // owned by the receiver: an answer to a pull was lost
}

// sentMessage is when a message's sending began, and when it was acknowledged; zero: not.
type sentMessage struct {
	from, acked time.Time
	givenUp     bool // its sender waits for the acknowledgement no longer
	came        bool // to its receiver
}

// streamShift: a message says which stream it is of in the upper bits of its sequence
// number.
const streamShift = 24

// NewCrowd makes a crowd; Listen starts its receivers.
func NewCrowd(cfg Config) *Crowd {
	c := &Crowd{Config: cfg, filler: texto.Filler(max(cfg.Size-texto.IDLen, 0)), failures: map[string]int{}}
	for i, u := range cfg.Senders {
		c.senders = append(c.senders, &sender{User: u, turn: i})
	}
	for i, u := range cfg.Receivers {
		r := &receiver{User: u, crowd: c, index: i, turn: i, names: i%2 == 0, streams: map[string]*stream{}, seen: map[string]bool{}}
		for k, s := range c.senders {
			r.streams[s.Username] = &stream{Stream: cfg.Ledger.Open(fmt.Sprintf("sender %d", k+1), r.name()), sender: s,
				number: i*len(c.senders) + k, pulled: map[string]bool{}, found: map[string]bool{}}
		}
		c.receivers = append(c.receivers, r)
	}
	return c
}

// Listen starts the receivers, which end with ctx; Join waits for that.
func (c *Crowd) Listen(ctx context.Context) {
	for _, r := range c.receivers {
		c.running.Go(func() { r.listen(ctx) })
	}
}

// Join waits until the receivers have ended.
func (c *Crowd) Join() { c.running.Wait() }

// Write has a sender write to a receiver, through the node whose turn it is, and returns
// whether that was acknowledged. A refusal with 429 is one; after any other failure
// nobody knows.
func (c *Crowd) Write(ctx context.Context, from, to int) bool {
	s, r := c.senders[from], c.receivers[to]
	st := r.streams[s.Username]
	s.turn++
	ctx, cancel := context.WithTimeout(ctx, c.Slack)
	defer cancel()
	begin := time.Now()
	st.mu.Lock()
	seq := st.Send()
	st.sent = append(st.sent, sentMessage{from: begin})
	st.mu.Unlock()
	var id [texto.IDLen]byte
	texto.ID{Nonce: c.Nonce, Seq: uint64(st.number)<<streamShift | seq}.Put(&id)
	_, err := c.Client.Write(ctx, c.node(s.turn), s.User, r.ID, string(id[:])+string(c.filler))
	if err == nil {
		now := time.Now()
		st.Acknowledge(seq)
		st.mu.Lock()
		st.sent[seq-1].acked = now
		st.mu.Unlock()
		r.backlog.Add(1)
		c.Written.Record(now.Sub(begin))
		return true
	}
	st.mu.Lock()
	st.sent[seq-1].givenUp = true
	st.mu.Unlock()
	if f, ok := errors.AsType[*Failure](err); ok && f.Status == http.StatusTooManyRequests {
		st.Refuse(seq, f.Code)
	}
	c.fail("write", err)
	return false
}

func (c *Crowd) node(turn int) string { return c.Nodes[turn%len(c.Nodes)] }

// fail counts a request that failed.
func (c *Crowd) fail(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures[what+": "+Cause(err)]++
}

// Failures are the requests that failed, by cause.
func (c *Crowd) Failures() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]int{}
	for what, n := range c.failures {
		all[what] = n
	}
	return all
}

// Cause sums up why a request failed in a few words, the same for the same cause.
func Cause(err error) string {
	if f, ok := errors.AsType[*Failure](err); ok {
		return fmt.Sprintf("HTTP %d %s", f.Status, f.Code)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) {
		return "timed out"
	}
	return texto.Cause(err)
}

// pause is how long a client waits after a failure: some of it by chance.
const pause = 50 * time.Millisecond

// rest waits after a failure, for as long as the answer asks for.
func rest(ctx context.Context, err error) {
	d := pause + rand.N(pause)
	if f, ok := errors.AsType[*Failure](err); ok {
		d = max(d, f.Wait)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
