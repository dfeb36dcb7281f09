package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Fanout has a few publishers send messages to a room of many, spread over all
// targets. Everybody in the room gets each message, its publisher too: each of these
// deliveries is in the ledger.
type Fanout struct {
	Fleet
	Probe probe.Probe

	Room        string // "": the first one that the servers name
	Accounts    int    // that are made, and whose sessions all connections share; at least 1
	Subscribers int    // who only listen
	Publishers  int    // from 1 to MaxPublishers
	Traffic
}

// A message says which publisher sent it in the upper bits of its sequence number.
const (
	publisherShift = 28
	MaxPublishers  = 1 << 12
)

// FanoutResult is what a Fanout run measured. Latencies are of the messages that were
// due in the measured time, deliveries those that arrived in it; the ledger covers the
// whole run, warm-up included.
type FanoutResult struct {
	Throughput
	// Return is the latency at a message's own publisher.
	Return *Quantiles `json:"came_back_after,omitempty"`

	Room string `json:"room"`

	Messages   ledger.RoomTotals `json:"messages"`
	Findings   []ledger.Finding  `json:"findings"` // the first
	FoundInAll int               `json:"findings_in_all"`

	// Ledger has all findings.
	Ledger *ledger.Room `json:"-"`
}

// Failures says in words what broke, nothing when all is well.
func (r *FanoutResult) Failures() (failures []string) {
	m := r.Messages
	for _, f := range []struct {
		n    uint64
		what string
	}{
		{m.Lost, "deliveries lost"},
		{m.Duplicates, "deliveries duplicated"},
		{m.Reordered, "deliveries out of their publisher's order"},
		{m.Misplaced, "deliveries out of the room's order"},
		{uint64(m.Differing), "members saw another order than the others"},
		{m.Foreign, "foreign: no message sent explains them"},
	} {
		if f.n > 0 {
			failures = append(failures, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	return append(failures, r.failures()...)
}

// fanout is a run of Fanout.
type fanout struct {
	*Fanout
	broadcast
	room    string
	nonce   uint32
	filler  []byte
	ledger  *ledger.Room
	members []*member // publishers first

	alive atomic.Int64 // members

	back []hist.Histogram // shards
}

// Run opens all connections, sends, measures and drains. An error means that nothing
// was measured.
func (d *Fanout) Run(ctx context.Context) (*FanoutResult, error) {
	r := &fanout{Fanout: d, room: d.Room, nonce: rand.Uint32N(1 << 20), filler: texto.Filler(d.Size - texto.IDLen)}
	r.init(&d.Traffic, &d.Probe, d.Subscribers+d.Publishers)
	r.back = make([]hist.Histogram, len(r.latency))
	if err := d.admit(d.Subscribers + d.Publishers); err != nil {
		return nil, err
	}
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r.play(ctx), nil
}

// signUp makes the accounts.
func (r *fanout) signUp(ctx context.Context) (cookies []string, err error) {
	r.Progress(fmt.Sprintf("making %d accounts", r.Accounts))
	for i := range r.Accounts {
		ctx, cancel := context.WithTimeout(ctx, r.Timeout)
		cookie, err := chat.SignUp(ctx, r.target(i), r.TLS)
		cancel()
		if err != nil {
			return nil, err
		}
		cookies = append(cookies, cookie)
	}
	return cookies, nil
}

// connect opens all connections, or none.
func (r *fanout) connect(ctx context.Context) error {
	cookies, err := r.signUp(ctx)
	if err != nil {
		return err
	}
	n := r.Publishers + r.Subscribers
	r.Progress(fmt.Sprintf("opening %d connections", n))
	const readBuffer = 4 << 10
	dialer := r.dialer(readBuffer)
	sessions, err := openOrNone(ctx, &r.Fleet, n, func(i int) (*chat.Session, error) {
		return chat.Open(ctx, dialer, r.target(i), r.source(i), cookies[i%len(cookies)])
	}, func(s *chat.Session) { s.CloseNow() })
	if err != nil {
		return err
	}
	if r.room == "" {
		r.room = sessions[0].Rooms[0].ID
	}
	var names []string
	for i, s := range sessions {
		if s.Room(r.room) == nil {
			for _, s := range sessions {
				s.CloseNow()
			}
			return fmt.Errorf("the server at %s has no room %q", r.target(i), r.room)
		}
		if i < r.Publishers {
			names = append(names, fmt.Sprintf("publisher %d", i+1))
		}
	}
	r.ledger = ledger.NewRoom(names...)
	r.account = r.ledger
	r.alive.Store(int64(len(sessions)))
	r.speaking.Store(int64(r.Publishers))
	for i, s := range sessions {
		shard := i % len(r.latency)
		m := &member{run: r, Session: s, own: -1, latency: &r.latency[shard], back: &r.back[shard]}
		name := fmt.Sprintf("subscriber %d", i-r.Publishers+1)
		if i < r.Publishers {
			m.own, name = i, names[i]
			r.publishers = append(r.publishers, r.publisher(m, &r.lag[shard]))
		}
		m.account = r.ledger.Join(name, m.own)
		m.name = name
		r.members = append(r.members, m)
	}
	return nil
}

// publisher has a member send.
func (r *fanout) publisher(m *member, lag *hist.Histogram) *publisher {
	frame := m.NewSend(r.room, r.filler)
	return newPublisher(&r.stopwatch, r.window(), &r.alive, lag, func() uint64 { return r.ledger.Send(m.own) },
		func(due int64, seq uint64) {
			// A failure to write shows to the reader too, which says why.
			_ = m.WriteFrame(frame.Stamp(texto.ID{Due: due, Nonce: r.nonce, Seq: uint64(m.own)<<publisherShift | seq}))
		})
}

// play runs the traffic, and returns when all its goroutines have ended.
func (r *fanout) play(ctx context.Context) *FanoutResult {
	var senders, listeners sync.WaitGroup // who read
	for _, m := range r.members {
		if m.own >= 0 {
			senders.Go(m.read)
		} else {
			listeners.Go(m.read)
		}
	}
	result := &FanoutResult{Room: r.room, Ledger: r.ledger}
	result.Throughput = r.measure(ctx, len(r.members), func() {
		conn := func(m *member) *wsclient.Conn { return m.Conn }
		leave(&senders, r.members[:r.Publishers], conn)
		leave(&listeners, r.members[r.Publishers:], conn)
	})
	result.Return = merged(r.back)
	result.Messages = r.ledger.Totals()
	result.Findings, result.FoundInAll = r.ledger.Worst(listed)
	return result
}
