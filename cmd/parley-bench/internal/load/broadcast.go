package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/pace"
	"parley/cmd/parley-bench/internal/probe"
)

// Traffic is how messages are sent to many, and when what is measured.
type Traffic struct {
	// Window is how many messages of a publisher are on their way at once in a closed
	// loop: the next is sent when everybody has got one.
	Window int
	// Rate, when above zero, makes an open loop: so many messages a second in all, at
	// even times, whatever has arrived.
	Rate float64
	// Size is the length of a message in bytes, at least texto.IDLen.
	Size int

	Warmup   time.Duration // before measuring
	Duration time.Duration // measured
	Drain    time.Duration // longest wait for what is on its way at the end
	Linger   time.Duration // goes on listening when nothing is on its way any more
	GiveUp   time.Duration // a closed loop waits no longer for a message

	// Progress, unless nil, gets a short line once a second.
	Progress func(line string)
}

// Throughput is how much was delivered in the measured time, and at what cost.
type Throughput struct {
	Seconds       float64 `json:"seconds"`
	Deliveries    uint64  `json:"deliveries"`
	PerSecond     float64 `json:"deliveries_per_second"`
	SentPerSecond float64 `json:"sent_per_second"`

	// Latency is from the moment a message was due to its arrival at each receiver. Lag
	// is how late the generator itself sent (open loop only).
	Latency *Quantiles `json:"latency,omitempty"`
	Lag     *Quantiles `json:"sent_late_by,omitempty"`

	Cost Cost `json:"cost_per_delivery"`

	Connections int            `json:"connections"`
	Ended       int            `json:"connections_ended"`
	EndedBy     map[string]int `json:"connections_ended_by,omitempty"`
	Notes       []string       `json:"notes,omitempty"`
}

// failures says what ended, or that nothing came.
func (t *Throughput) failures() (failures []string) {
	if t.Ended > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d connections ended: %s", t.Ended, t.Connections, Counted(t.EndedBy)))
	}
	if t.Seconds > 0 && t.Deliveries == 0 {
		failures = append(failures, "nothing was delivered while measuring")
	}
	return failures
}

// account is what a broadcast asks of its ledger.
type account interface {
	Sent() uint64
	Delivered() uint64
	Settled() bool
}

// broadcast is a run in which publishers send messages to many.
type broadcast struct {
	stopwatch
	traffic    *Traffic
	probe      *probe.Probe
	account    account
	publishers []*publisher

	closing  atomic.Bool  // connections end because the run does
	speaking atomic.Int64 // publishers that are alive
	allEnded chan struct{}
	once     sync.Once // closes allEnded
	ended    causes

	latency, lag []hist.Histogram // shards: a connection uses one of each
}

// init starts the clock of a run with so many connections.
func (b *broadcast) init(t *Traffic, p *probe.Probe, connections int) {
	b.traffic, b.probe, b.allEnded = t, p, make(chan struct{})
	if t.Progress == nil {
		t.Progress = func(string) {}
	}
	b.reset()
	shards := min(connections, 4*runtime.GOMAXPROCS(0))
	b.latency, b.lag = make([]hist.Histogram, shards), make([]hist.Histogram, shards)
}

// window is that of a publisher: 0 in an open loop.
func (b *broadcast) window() int {
	if b.traffic.Rate > 0 {
		return 0
	}
	return b.traffic.Window
}

// end ends the run early: nobody sends any more, or nobody listens.
func (b *broadcast) end() { b.once.Do(func() { close(b.allEnded) }) }

// silence notes that a publisher's connection has ended.
func (b *broadcast) silence(p *publisher) {
	if !p.dead.Swap(true) && b.speaking.Add(-1) == 0 {
		b.end()
	}
}

// measure runs the traffic over connections that are being read from. leave closes them
// and returns when those who read have ended; measure returns when all its goroutines
// have, too.
func (b *broadcast) measure(ctx context.Context, connections int, leave func()) (t Throughput) {
	t.Connections, t.Notes = connections, serverFiles(*b.probe, connections)
	note := func(err error) {
		if err != nil {
			t.Notes = append(t.Notes, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	var sending sync.WaitGroup
	start, begin := time.Now(), b.now()
	stopRevive := make(chan struct{})
	if b.traffic.Rate > 0 {
		schedule := pace.Schedule{Rate: b.traffic.Rate, Streams: len(b.publishers)}
		lanes := min(len(b.publishers), runtime.GOMAXPROCS(0))
		for i := range lanes {
			sending.Go(func() { b.sendAtRate(schedule.Lane(i, lanes), begin) })
		}
	} else {
		for _, p := range b.publishers {
			sending.Go(func() { p.free(0) })
		}
		sending.Go(func() { reviveAll(b.publishers, b.traffic.GiveUp, stopRevive) })
	}

	progress := b.progress(start)
	complete := watch(ctx, start.Add(b.traffic.Warmup), b.allEnded, progress)
	var first, last moment
	var err error
	if complete {
		first, err = b.moment(ctx)
		note(err)
		// The end hangs on this moment and not on the start: a busy machine makes the
		// warm-up longer, not the measured time shorter.
		from := b.now()
		b.to.Store(from + int64(b.traffic.Duration))
		b.from.Store(from)
		complete = watch(ctx, b.epoch.Add(time.Duration(from)+b.traffic.Duration), b.allEnded, progress)
		last, err = b.moment(context.WithoutCancel(ctx))
		note(err)
	} else {
		note(errors.New("ended in the warm-up: nothing was measured"))
	}
	if !complete {
		b.to.Store(b.now())
	}
	close(stopRevive)
	sent := make(chan struct{})
	go func() { // ends with the last write, at the latest when leave unblocks it
		sending.Wait()
		close(sent)
	}()
	drain(ctx, b.traffic.Drain, b.traffic.Linger, sent, b.account.Settled, progress)
	if !b.account.Settled() {
		t.Notes = append(t.Notes, fmt.Sprintf("not everybody had all messages %v after the last was due: what counts as lost may have been late", b.traffic.Drain))
	}
	b.closing.Store(true)
	leave()
	<-sent

	if seconds := last.sample.At.Sub(first.sample.At).Seconds(); seconds > 0 {
		t.Seconds = seconds
		t.Deliveries = last.delivered - first.delivered
		t.PerSecond = float64(t.Deliveries) / seconds
		t.SentPerSecond = float64(last.sent-first.sent) / seconds
		t.Cost = costOf(first.sample, last.sample, t.Deliveries)
	}
	t.Latency, t.Lag = merged(b.latency), merged(b.lag)
	t.EndedBy, t.Ended = b.ended.all()
	return t
}

func (b *broadcast) moment(ctx context.Context) (moment, error) {
	m := moment{sent: b.account.Sent(), delivered: b.account.Delivered()}
	var err error
	m.sample, err = b.probe.Read(ctx)
	return m, err
}

func (b *broadcast) sendAtRate(lane *pace.Lane, begin int64) {
	follow(lane, begin, b.now, func(due int64) bool {
		return b.speaking.Load() == 0 || b.closing.Load() || due >= b.to.Load()
	}, func(stream int, due int64) {
		if p := b.publishers[stream]; !p.dead.Load() {
			p.mu.Lock()
			p.send(due)
			p.mu.Unlock()
		}
	})
}

// progress returns what reports the state of the run, to be called once a second by
// one goroutine.
func (b *broadcast) progress(start time.Time) func() {
	var before hist.Snapshot
	var delivered uint64
	at := start
	return func() {
		var now hist.Snapshot
		for i := range b.latency {
			now.Add(&b.latency[i])
		}
		interval, all, elapsed := now.Since(before), b.account.Delivered(), time.Since(at)
		phase := "measuring"
		switch done := time.Since(start); {
		case b.now() >= b.to.Load():
			phase = "draining"
		case done < b.traffic.Warmup:
			phase = "warming up"
		}
		line := fmt.Sprintf("%s/%s %s  %s/s", time.Since(start).Round(time.Second), (b.traffic.Warmup + b.traffic.Duration).Round(time.Second),
			phase, Short(float64(all-delivered)/elapsed.Seconds()))
		if interval.Count > 0 {
			line += fmt.Sprintf("  p50 %s p99 %s", Round(interval.Quantile(0.5)), Round(interval.Quantile(0.99)))
		}
		if _, ended := b.ended.all(); ended > 0 {
			line += fmt.Sprintf("  %d connections ended", ended)
		}
		b.traffic.Progress(line)
		before, delivered, at = now, all, at.Add(elapsed)
	}
}

// openOrNone opens n sessions, Concurrency at once, or none: what was opened is
// closed again by undo when one fails, or ctx ends.
func openOrNone[S any](ctx context.Context, f *Fleet, n int, one func(i int) (S, error), undo func(S)) ([]S, error) {
	sessions, good := make([]S, n), make([]bool, n)
	var failed causes
	var opened atomic.Int64
	openAll(ctx, f.Concurrency, n, one, func(i int, s S, _ time.Duration, err error) bool {
		if err != nil {
			failed.add(err)
			return false
		}
		sessions[i], good[i] = s, true
		opened.Add(1)
		return true
	})
	done := int(opened.Load())
	if done == n {
		return sessions, nil
	}
	for i, s := range sessions {
		if good[i] {
			undo(s)
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("interrupted after %d of %d connections, before the first message", done, n)
	}
	return nil, fmt.Errorf("only %d of %d connections could be opened: %s", done, n, failed.example())
}
