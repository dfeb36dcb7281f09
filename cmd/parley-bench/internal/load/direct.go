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

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/pace"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Direct sends directed messages: every pair is a sender and a receiver, on
// neighbouring targets when there are several. Each message is in the ledger.
type Direct struct {
	Fleet
	Probe probe.Probe

	Pairs int
	// Window is how many messages of a pair are on their way at once in a
	// closed loop: the next is sent when one has arrived.
	Window int
	// Rate, when above zero, makes an open loop: so many messages a second in
	// all, at even times, whatever has arrived.
	Rate float64
	// Size is the length of a text in bytes, at least texto.IDLen.
	Size int

	Warmup   time.Duration // before measuring
	Duration time.Duration // measured
	// Drain bounds the wait for what is still on its way at the end.
	Drain time.Duration
	// Linger is how long a run goes on listening when nothing is on its way
	// any more, so that late duplicates are seen.
	Linger time.Duration
	// GiveUp is when a closed loop stops waiting for a message and sends the
	// next in its place.
	GiveUp time.Duration

	// Progress, unless nil, gets a short line once a second.
	Progress func(line string)
}

// DirectResult is what a Direct run measured. Latencies are of the messages
// that were due in the measured time, deliveries those that arrived in it; the
// ledger covers the whole run, warm-up included.
type DirectResult struct {
	Seconds       float64 `json:"seconds"`
	Deliveries    uint64  `json:"deliveries"`
	PerSecond     float64 `json:"deliveries_per_second"`
	SentPerSecond float64 `json:"sent_per_second"`

	// Latency is from the moment a message was due to its arrival, Answer to
	// its acknowledgement. Lag is how late the generator itself sent (open
	// loop only): where it comes near the latency, the generator is the
	// bottleneck.
	Latency *Quantiles `json:"latency,omitempty"`
	Answer  *Quantiles `json:"acknowledged_after,omitempty"`
	Lag     *Quantiles `json:"sent_late_by,omitempty"`

	Cost Cost `json:"cost_per_delivery"`

	Connections int            `json:"connections"`
	Ended       int            `json:"connections_ended"`
	EndedBy     map[string]int `json:"connections_ended_by,omitempty"`

	Messages   ledger.Totals    `json:"messages"`
	Findings   []ledger.Finding `json:"findings"` // the worst; refusals are in Messages
	FoundInAll int              `json:"findings_in_all"`
	Notes      []string         `json:"notes,omitempty"`

	// Ledger has all findings.
	Ledger *ledger.Ledger `json:"-"`
}

// listed bounds the findings in a result.
const listed = 10

// Failures says in words what broke, nothing when all is well.
func (r *DirectResult) Failures() (failures []string) {
	m := r.Messages
	for _, f := range []struct {
		n    uint64
		what string
	}{
		{m.Lost, "acknowledged and lost"},
		{m.Duplicated, "duplicated"},
		{m.Reordered, "out of order"},
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

// direct is a run of Direct.
type direct struct {
	*Direct
	epoch  time.Time
	ledger *ledger.Ledger
	pairs  []*pair

	from, to atomic.Int64 // the measured time, in nanoseconds since epoch
	closing  atomic.Bool  // connections end because the run does
	alive    atomic.Int64 // pairs that can still send and receive
	allEnded chan struct{}
	ended    causes

	latency, answer, lag []hist.Histogram // shards: a pair uses one of each
}

const never = 1<<63 - 1

// Run opens all connections, sends, measures and drains. An error means that
// nothing was measured.
func (d *Direct) Run(ctx context.Context) (*DirectResult, error) {
	shards := min(d.Pairs, 4*runtime.GOMAXPROCS(0))
	r := &direct{Direct: d, epoch: time.Now(), ledger: ledger.New(), allEnded: make(chan struct{}),
		latency: make([]hist.Histogram, shards), answer: make([]hist.Histogram, shards), lag: make([]hist.Histogram, shards)}
	if r.Progress == nil {
		r.Progress = func(string) {}
	}
	r.from.Store(never)
	r.to.Store(never)
	if err := d.admit(2 * d.Pairs); err != nil {
		return nil, err
	}
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r.measure(ctx), nil
}

// now returns nanoseconds since the run began.
func (r *direct) now() int64 { return int64(time.Since(r.epoch)) }

// connect opens the connections of all pairs, or none.
func (r *direct) connect(ctx context.Context) error {
	sessions := make([]*texto.Session, 2*r.Pairs) // receivers, then senders
	var failed causes
	var opened atomic.Int64
	r.Progress(fmt.Sprintf("opening %d connections", len(sessions)))
	const readBuffer = 4 << 10
	turn := func(i int) int {
		if i < r.Pairs {
			return i + 1
		}
		return i - r.Pairs
	}
	r.open(ctx, len(sessions), readBuffer, turn, func(i int, s *texto.Session, _ time.Duration, err error) bool {
		if err != nil {
			failed.add(err)
			return false
		}
		sessions[i] = s
		opened.Add(1)
		return true
	})
	if n := int(opened.Load()); n < len(sessions) {
		for _, s := range sessions {
			if s != nil {
				s.CloseNow()
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d of %d connections, before the first message", n, len(sessions))
		}
		return fmt.Errorf("only %d of %d connections could be opened: %s", n, len(sessions), failed.example())
	}
	filler := texto.Filler(r.Size - texto.IDLen)
	r.alive.Store(int64(r.Pairs))
	for i := range r.Pairs {
		receiver, sender := sessions[i], sessions[r.Pairs+i]
		shard := i % len(r.latency)
		r.pairs = append(r.pairs, &pair{
			run: r, sender: sender, receiver: receiver, filler: filler, nonce: rand.Uint32N(1 << 20),
			stream:  r.ledger.Open(sender.ClientID, receiver.ClientID),
			latency: &r.latency[shard], answer: &r.answer[shard], lag: &r.lag[shard],
			frame: sender.NewSend(receiver.ClientID, filler), credits: r.Window,
		})
	}
	return nil
}

// measure runs the traffic, and returns when all its goroutines have ended.
func (r *direct) measure(ctx context.Context) *DirectResult {
	result := &DirectResult{Connections: 2 * r.Pairs, Ledger: r.ledger, Notes: serverFiles(r.Probe, 2*r.Pairs)}
	note := func(err error) {
		if err != nil {
			result.Notes = append(result.Notes, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	var sending, senders, receivers sync.WaitGroup // the last two read
	for _, p := range r.pairs {
		senders.Go(func() { p.read(p.sender, "sender", p.fromServerToSender) })
		receivers.Go(func() { p.read(p.receiver, "receiver", p.fromServerToReceiver) })
	}
	start := time.Now()
	begin := r.now()
	stopRevive := make(chan struct{})
	if r.Rate > 0 {
		schedule := pace.Schedule{Rate: r.Rate, Streams: r.Pairs}
		lanes := min(r.Pairs, runtime.GOMAXPROCS(0))
		for i := range lanes {
			sending.Go(func() { r.sendAtRate(schedule.Lane(i, lanes), begin) })
		}
	} else {
		for _, p := range r.pairs {
			sending.Go(func() { p.free(0) })
		}
		sending.Go(func() { r.revive(stopRevive) })
	}

	progress := r.progress(start)
	complete := watch(ctx, start.Add(r.Warmup), r.allEnded, progress)
	var first, last moment
	var err error
	if complete {
		first, err = r.moment(ctx)
		note(err)
		// The end hangs on this moment and not on the start: a busy machine
		// makes the warm-up longer, not the measured time shorter.
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
	drain(ctx, r.Drain, r.Linger, sent, func() bool { return r.ledger.Unsettled() == 0 }, progress)
	r.closing.Store(true)
	leave(&senders, r.pairs, func(p *pair) *wsclient.Conn { return p.sender.Conn })
	leave(&receivers, r.pairs, func(p *pair) *wsclient.Conn { return p.receiver.Conn })
	<-sent

	if seconds := last.sample.At.Sub(first.sample.At).Seconds(); seconds > 0 {
		result.Seconds = seconds
		result.Deliveries = last.delivered - first.delivered
		result.PerSecond = float64(result.Deliveries) / seconds
		result.SentPerSecond = float64(last.sent-first.sent) / seconds
		result.Cost = costOf(first.sample, last.sample, result.Deliveries)
	}
	result.Latency, result.Answer, result.Lag = merged(r.latency), merged(r.answer), merged(r.lag)
	result.EndedBy, result.Ended = r.ended.all()
	result.Messages = r.ledger.Totals()
	result.Findings, result.FoundInAll = r.ledger.Worst(listed)
	return result
}

func merged(shards []hist.Histogram) *Quantiles {
	all := make([]*hist.Histogram, len(shards))
	for i := range shards {
		all[i] = &shards[i]
	}
	return quantiles(all...)
}

// moment is what can be counted at one time.
type moment struct {
	sample          probe.Sample
	sent, delivered uint64
}

func (r *direct) moment(ctx context.Context) (moment, error) {
	var m moment
	for _, p := range r.pairs {
		m.delivered += p.delivered.Load()
		m.sent += p.stream.Sent()
	}
	var err error
	m.sample, err = r.Probe.Read(ctx)
	return m, err
}

// sendAtRate sends what one lane of the schedule says, until the end of the
// measured time.
func (r *direct) sendAtRate(lane *pace.Lane, begin int64) {
	follow(lane, begin, r.now, func(due int64) bool {
		return r.alive.Load() == 0 || r.closing.Load() || due >= r.to.Load()
	}, func(stream int, due int64) {
		if p := r.pairs[stream]; !p.dead.Load() {
			p.mu.Lock()
			p.send(due)
			p.mu.Unlock()
		}
	})
}

// revive keeps a closed loop going: messages that nobody waits for any more,
// since they are lost, or were refused a moment ago, are replaced by new ones.
func (r *direct) revive(stop <-chan struct{}) {
	tick := time.NewTicker(revivePause)
	defer tick.Stop()
	ticks := max(int(r.GiveUp/revivePause), 1)
	sent := make([][]uint64, len(r.pairs)) // what was the last number, tick by tick
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for i, p := range r.pairs {
			free := int(p.refused.Swap(0))
			if sent[i] = append(sent[i], p.stream.Sent()); len(sent[i]) > ticks {
				free += p.stream.Abandon(sent[i][0])
				sent[i] = sent[i][1:]
			}
			if free > 0 {
				p.freeUnlessBusy(free)
			}
		}
	}
}

// revivePause is how long a pair waits after a refusal before it sends again.
const revivePause = 100 * time.Millisecond
