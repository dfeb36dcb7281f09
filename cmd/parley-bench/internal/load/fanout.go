package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/pace"
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
	// Window is how many messages of a publisher are on their way at once in a closed
	// loop: the next is sent when everybody has got one.
	Window int
	// Rate, when above zero, makes an open loop: so many messages a second in all, at
	// even times, whatever has arrived.
	Rate float64
	// Size is the length of a content in bytes, at least texto.IDLen.
	Size int

	Warmup   time.Duration // before measuring
	Duration time.Duration // measured
	Drain    time.Duration // longest wait for what is on its way at the end
	Linger   time.Duration // goes on listening when nothing is on its way any more
	GiveUp   time.Duration // a closed loop waits no longer for a message

	// Progress, unless nil, gets a short line once a second.
	Progress func(line string)
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
	Seconds       float64 `json:"seconds"`
	Deliveries    uint64  `json:"deliveries"`
	PerSecond     float64 `json:"deliveries_per_second"`
	SentPerSecond float64 `json:"sent_per_second"`

	// Latency is from the moment a message was due to its arrival at each member,
	// Return to that at its publisher. Lag is how late the generator itself sent (open
	// loop only).
	Latency *Quantiles `json:"latency,omitempty"`
	Return  *Quantiles `json:"came_back_after,omitempty"`
	Lag     *Quantiles `json:"sent_late_by,omitempty"`

	Cost Cost `json:"cost_per_delivery"`

	Room        string         `json:"room"`
	Connections int            `json:"connections"`
	Ended       int            `json:"connections_ended"`
	EndedBy     map[string]int `json:"connections_ended_by,omitempty"`

	Messages   ledger.RoomTotals `json:"messages"`
	Findings   []ledger.Finding  `json:"findings"` // the first
	FoundInAll int               `json:"findings_in_all"`
	Notes      []string          `json:"notes,omitempty"`

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
	if r.Ended > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d connections ended: %s", r.Ended, r.Connections, Counted(r.EndedBy)))
	}
	if r.Seconds > 0 && r.Deliveries == 0 {
		failures = append(failures, "nothing was delivered while measuring")
	}
	return failures
}

// fanout is a run of Fanout.
type fanout struct {
	*Fanout
	stopwatch
	room       string
	nonce      uint32
	filler     []byte
	ledger     *ledger.Room
	publishers []*publisher
	members    []*member // publishers first

	closing  atomic.Bool  // connections end because the run does
	alive    atomic.Int64 // members
	speaking atomic.Int64 // publishers that are alive
	allEnded chan struct{}
	once     sync.Once // closes allEnded
	ended    causes

	latency, back, lag []hist.Histogram // shards: a connection uses one of each
}

// Run opens all connections, sends, measures and drains. An error means that nothing
// was measured.
func (d *Fanout) Run(ctx context.Context) (*FanoutResult, error) {
	shards := min(d.Subscribers+d.Publishers, 4*runtime.GOMAXPROCS(0))
	r := &fanout{Fanout: d, room: d.Room, nonce: rand.Uint32N(1 << 20), allEnded: make(chan struct{}),
		filler:  texto.Filler(d.Size - texto.IDLen),
		latency: make([]hist.Histogram, shards), back: make([]hist.Histogram, shards), lag: make([]hist.Histogram, shards)}
	if r.Progress == nil {
		r.Progress = func(string) {}
	}
	r.reset()
	if err := d.admit(d.Subscribers + d.Publishers); err != nil {
		return nil, err
	}
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx), nil
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
	sessions := make([]*chat.Session, r.Publishers+r.Subscribers)
	var failed causes
	var opened atomic.Int64
	r.Progress(fmt.Sprintf("opening %d connections", len(sessions)))
	const readBuffer = 4 << 10
	dialer := r.dialer(readBuffer)
	openAll(ctx, r.Concurrency, len(sessions), func(i int) (*chat.Session, error) {
		return chat.Open(ctx, dialer, r.target(i), r.source(i), cookies[i%len(cookies)])
	}, func(i int, s *chat.Session, _ time.Duration, err error) bool {
		if err != nil {
			failed.add(err)
			return false
		}
		sessions[i] = s
		opened.Add(1)
		return true
	})
	fail := func(err error) error {
		for _, s := range sessions {
			if s != nil {
				s.CloseNow()
			}
		}
		return err
	}
	if n := int(opened.Load()); n < len(sessions) {
		if ctx.Err() != nil {
			return fail(fmt.Errorf("interrupted after %d of %d connections, before the first message", n, len(sessions)))
		}
		return fail(fmt.Errorf("only %d of %d connections could be opened: %s", n, len(sessions), failed.example()))
	}
	if r.room == "" {
		r.room = sessions[0].Rooms[0].ID
	}
	var names []string
	for i, s := range sessions {
		if s.Room(r.room) == nil {
			return fail(fmt.Errorf("the server at %s has no room %q", r.target(i), r.room))
		}
		if i < r.Publishers {
			names = append(names, fmt.Sprintf("publisher %d", i+1))
		}
	}
	r.ledger = ledger.NewRoom(names...)
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
	window := r.Window
	if r.Rate > 0 {
		window = 0
	}
	frame := m.NewSend(r.room, r.filler)
	return newPublisher(&r.stopwatch, window, &r.alive, lag, func() uint64 { return r.ledger.Send(m.own) },
		func(due int64, seq uint64) {
			// A failure to write shows to the reader too, which says why.
			_ = m.WriteFrame(frame.Stamp(texto.ID{Due: due, Nonce: r.nonce, Seq: uint64(m.own)<<publisherShift | seq}))
		})
}

// measure runs the traffic, and returns when all its goroutines have ended.
func (r *fanout) measure(ctx context.Context) *FanoutResult {
	result := &FanoutResult{Room: r.room, Connections: len(r.members), Ledger: r.ledger, Notes: serverFiles(r.Probe, len(r.members))}
	note := func(err error) {
		if err != nil {
			result.Notes = append(result.Notes, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	var sending, senders, listeners sync.WaitGroup // the last two read
	for _, m := range r.members {
		if m.own >= 0 {
			senders.Go(m.read)
		} else {
			listeners.Go(m.read)
		}
	}
	start, begin := time.Now(), r.now()
	stopRevive := make(chan struct{})
	if r.Rate > 0 {
		schedule := pace.Schedule{Rate: r.Rate, Streams: r.Publishers}
		lanes := min(r.Publishers, runtime.GOMAXPROCS(0))
		for i := range lanes {
			sending.Go(func() { r.sendAtRate(schedule.Lane(i, lanes), begin) })
		}
	} else {
		for _, p := range r.publishers {
			sending.Go(func() { p.free(0) })
		}
		sending.Go(func() { reviveAll(r.publishers, r.GiveUp, stopRevive) })
	}

	progress := r.progress(start)
	complete := watch(ctx, start.Add(r.Warmup), r.allEnded, progress)
	var first, last moment
	var err error
	if complete {
		first, err = r.moment(ctx)
		note(err)
		// The end hangs on this moment and not on the start: a busy machine makes the
		// warm-up longer, not the measured time shorter.
		from := r.now()
		r.to.Store(from + int64(r.Duration))
		r.from.Store(from)
		complete = watch(ctx, r.epoch.Add(time.Duration(from)+r.Duration), r.allEnded, progress)
		last, err = r.moment(context.WithoutCancel(ctx))
		note(err)
	} else {
		note(errors.New("ended in the warm-up: nothing was measured"))
	}
	if !complete {
		r.to.Store(r.now())
	}
	close(stopRevive)
	sent := make(chan struct{})
	go func() { // ends with the last write, at the latest when leave unblocks it
		sending.Wait()
		close(sent)
	}()
	drain(ctx, r.Drain, r.Linger, sent, r.ledger.Settled, progress)
	if !r.ledger.Settled() {
		result.Notes = append(result.Notes, fmt.Sprintf("not everybody had all messages %v after the last was due: what counts as lost may have been late", r.Drain))
	}
	r.closing.Store(true)
	conn := func(m *member) *wsclient.Conn { return m.Conn }
	leave(&senders, r.members[:r.Publishers], conn)
	leave(&listeners, r.members[r.Publishers:], conn)
	<-sent

	if seconds := last.sample.At.Sub(first.sample.At).Seconds(); seconds > 0 {
		result.Seconds = seconds
		result.Deliveries = last.delivered - first.delivered
		result.PerSecond = float64(result.Deliveries) / seconds
		result.SentPerSecond = float64(last.sent-first.sent) / seconds
		result.Cost = costOf(first.sample, last.sample, result.Deliveries)
	}
	result.Latency, result.Return, result.Lag = merged(r.latency), merged(r.back), merged(r.lag)
	result.EndedBy, result.Ended = r.ended.all()
	result.Messages = r.ledger.Totals()
	result.Findings, result.FoundInAll = r.ledger.Worst(listed)
	return result
}

func (r *fanout) moment(ctx context.Context) (moment, error) {
	m := moment{sent: r.ledger.Sent(), delivered: r.ledger.Delivered()}
	var err error
	m.sample, err = r.Probe.Read(ctx)
	return m, err
}

func (r *fanout) sendAtRate(lane *pace.Lane, begin int64) {
	follow(lane, begin, r.now, func(due int64) bool {
		return r.speaking.Load() == 0 || r.closing.Load() || due >= r.to.Load()
	}, func(stream int, due int64) {
		if p := r.publishers[stream]; !p.dead.Load() {
			p.mu.Lock()
			p.send(due)
			p.mu.Unlock()
		}
	})
}

// progress returns what reports the state of the run, to be called once a second by
// one goroutine.
func (r *fanout) progress(start time.Time) func() {
	var before hist.Snapshot
	var delivered uint64
	at := start
	return func() {
		var now hist.Snapshot
		for i := range r.latency {
			now.Add(&r.latency[i])
		}
		interval, all, elapsed := now.Since(before), r.ledger.Delivered(), time.Since(at)
		phase := "measuring"
		switch done := time.Since(start); {
		case r.now() >= r.to.Load():
			phase = "draining"
		case done < r.Warmup:
			phase = "warming up"
		}
		line := fmt.Sprintf("%s/%s %s  %s/s", time.Since(start).Round(time.Second), (r.Warmup + r.Duration).Round(time.Second),
			phase, Short(float64(all-delivered)/elapsed.Seconds()))
		if interval.Count > 0 {
			line += fmt.Sprintf("  p50 %s p99 %s", Round(interval.Quantile(0.5)), Round(interval.Quantile(0.99)))
		}
		if _, ended := r.ended.all(); ended > 0 {
			line += fmt.Sprintf("  %d connections ended", ended)
		}
		r.Progress(line)
		before, delivered, at = now, all, at.Add(elapsed)
	}
}
