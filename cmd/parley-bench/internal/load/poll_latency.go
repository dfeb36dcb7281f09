package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/pace"
	"parley/cmd/parley-bench/internal/pull"
)

const (
	// noticeWait is what the polls of a PollLatency ask for.
	noticeWait = 60 * time.Second
	// noticeMost is how many notifications they take at once.
	noticeMost = 100
	// writers bounds the messages that are written at once.
	writers = 16
)

// PollLatency has users poll on the last node while others write to them through the first
// one, at even times, and tells how long it takes from a message until the answer to the
// receiver's poll.
type PollLatency struct {
	PullFleet
	Pollers  []pull.User
	Senders  []pull.User
	Rate     float64 // messages a second in all
	Size     int     // of a message, in bytes
	Warmup   time.Duration
	Duration time.Duration
	Drain    time.Duration // longest wait at the end for what is on its way
	Timeout  time.Duration // for a request, besides what a poll waits
}

// PollLatencyResult is what a PollLatency run measured: of the messages that were due in
// the measured time.
type PollLatencyResult struct {
	Pollers   int            `json:"pollers"`
	Seconds   float64        `json:"seconds"`
	Sent      uint64         `json:"sent"` // of the whole run
	Notified  uint64         `json:"notified"`
	PerSecond float64        `json:"messages_per_second"`
	Latency   *Quantiles     `json:"latency,omitempty"` // from when a message was due
	Written   *Quantiles     `json:"written,omitempty"` // from when it was due to its answer
	Lag       *Quantiles     `json:"lag,omitempty"`     // by how much it was sent late
	Failed    map[string]int `json:"requests_failed,omitempty"`
	Cost      Cost           `json:"cost_per_message"`
	Notes     []string       `json:"notes,omitempty"`
}

// Failures says in words what broke, nothing when all is well.
func (r *PollLatencyResult) Failures() (failures []string) {
	if len(r.Failed) > 0 {
		failures = append(failures, "requests failed: "+Counted(r.Failed))
	}
	if r.Notified != r.Sent {
		failures = append(failures, fmt.Sprintf("%d messages, and %d notifications of them", r.Sent, r.Notified))
	}
	return failures
}

// notices is a run of PollLatency.
type notices struct {
	*PollLatency
	epoch    time.Time
	from, to atomic.Int64 // of the measured time; from 0: not yet
	end      atomic.Int64 // nothing is due from then on
	failed   causes
	pollers  []*poller
	sent     atomic.Uint64

	latency, written, lag hist.Histogram
}

// poller is a user who polls.
type poller struct {
	pull.User
	notified atomic.Uint64

	mu  sync.Mutex
	due []int64 // of the messages to the user, in their order
}

func (r *notices) now() int64 { return int64(time.Since(r.epoch)) }

func (r *notices) measured(due int64) bool {
	from := r.from.Load()
	return from > 0 && due >= from && due < r.to.Load()
}

// Run polls, writes, measures and drains.
func (d *PollLatency) Run(ctx context.Context) (*PollLatencyResult, error) {
	r := &notices{PollLatency: d, epoch: time.Now()}
	r.end.Store(1 << 62)
	for _, u := range d.Pollers {
		r.pollers = append(r.pollers, &poller{User: u})
	}
	result := &PollLatencyResult{Pollers: len(r.pollers)}
	polling, stop := context.WithCancel(ctx)
	defer stop()
	var all, sending sync.WaitGroup
	for _, p := range r.pollers {
		all.Go(func() { r.poll(polling, p) })
	}
	start, begin := time.Now(), r.now()
	schedule := pace.Schedule{Rate: d.Rate, Streams: len(r.pollers)}
	lanes := min(len(r.pollers), writers)
	for i := range lanes {
		sending.Go(func() {
			follow(schedule.Lane(i, lanes), begin, r.now, func(due int64) bool { return due >= r.end.Load() || ctx.Err() != nil },
				func(to int, due int64) { r.write(ctx, d.Senders[i%len(d.Senders)], r.pollers[to], due) })
		})
	}
	progress := r.progress(start)
	complete := watch(ctx, start.Add(d.Warmup), nil, progress)
	first := sample(ctx, &d.Probe, &result.Notes)
	from := max(r.now(), 1)
	r.to.Store(from + int64(d.Duration))
	r.from.Store(from)
	if complete {
		watch(ctx, r.epoch.Add(time.Duration(from)+d.Duration), nil, progress)
	}
	r.end.Store(r.now())
	last := sample(ctx, &d.Probe, &result.Notes)
	sending.Wait()
	sent := make(chan struct{})
	close(sent)
	drain(ctx, d.Drain, 0, sent, func() bool { return r.notified() >= r.sent.Load() }, progress)
	stop()
	all.Wait()
	result.Seconds = last.At.Sub(first.At).Seconds()
	result.Sent, result.Notified = r.sent.Load(), r.notified()
	result.Latency, result.Written, result.Lag = quantiles(&r.latency), quantiles(&r.written), quantiles(&r.lag)
	result.Failed, _ = r.failed.all()
	if result.Latency != nil {
		result.PerSecond = float64(result.Latency.Count) / result.Seconds
		result.Cost = costOf(first, last, result.Latency.Count)
	}
	return result, nil
}

func (r *notices) notified() (n uint64) {
	for _, p := range r.pollers {
		n += p.notified.Load()
	}
	return n
}

// write sends a message that was due, through the first node. Those to one user come one
// after the other: a lane has all of them.
func (r *notices) write(ctx context.Context, from pull.User, to *poller, due int64) {
	if r.measured(due) {
		r.lag.Record(time.Duration(r.now() - due))
	}
	to.mu.Lock()
	to.due = append(to.due, due)
	to.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Timeout)
	defer cancel()
	r.sent.Add(1)
	if _, err := r.Client.Write(ctx, r.base(0), from, to.ID, string(fillerText(r.Size))); err != nil {
		r.failed.add(fmt.Errorf("write: %s", pull.Cause(err)))
		return
	}
	if r.measured(due) {
		r.written.Record(time.Duration(r.now() - due))
	}
}

// poll takes notifications on the last node. The k-th one is of the k-th message.
func (r *notices) poll(ctx context.Context, p *poller) {
	last := ""
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, noticeWait+r.Timeout)
		got, err := r.Client.Poll(asked, r.base(len(r.Targets)-1), p.User, noticeWait, noticeMost, last)
		cancel()
		now := r.now()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.failed.add(fmt.Errorf("poll: %s", pull.Cause(err)))
			watch(ctx, time.Now().Add(time.Second), nil, func() {}) // once a second is often enough
			continue
		}
		for _, n := range got {
			last = n.ID
			if n.Kind != pull.KindPrivate {
				r.failed.add(fmt.Errorf("a notification of another kind: %s", n.Kind))
				continue
			}
			k := p.notified.Add(1)
			p.mu.Lock()
			due := int64(-1)
			if k <= uint64(len(p.due)) {
				due = p.due[k-1]
			}
			p.mu.Unlock()
			if due >= 0 && r.measured(due) {
				r.latency.Record(time.Duration(now - due))
			}
		}
	}
}

func (r *notices) progress(start time.Time) func() {
	var before hist.Snapshot
	return func() {
		var now hist.Snapshot
		now.Add(&r.latency)
		interval := now.Since(before)
		line := fmt.Sprintf("%s/%s latency: %d messages, %d notifications", time.Since(start).Round(time.Second),
			(r.Warmup + r.Duration).Round(time.Second), r.sent.Load(), r.notified())
		if interval.Count > 0 {
			line += fmt.Sprintf("  p50 %s p99 %s", Round(interval.Quantile(0.5)), Round(interval.Quantile(0.99)))
		}
		r.Progress(line)
		before = now
	}
}
