package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/pace"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/texto"
)

// Connect opens connections until their greeting and closes them again, one
// after the other in each of Concurrency workers.
type Connect struct {
	Fleet
	Probe probe.Probe
	// The run ends after so many connections or after this time, whichever
	// comes first; 0 leaves it to the other. Not both are 0.
	Connections int
	Duration    time.Duration
	// Rate, when above zero, starts so many a second at even times, as long as
	// a worker is free, and measures from the time a connection was due.
	Rate float64

	// Progress, unless nil, gets a short line once a second.
	Progress func(line string)
}

// ConnectResult is what a Connect run measured.
type ConnectResult struct {
	Seconds   float64        `json:"seconds"`
	Attempts  int            `json:"attempts"`
	Greeted   int            `json:"greeted"`
	PerSecond float64        `json:"greeted_per_second"`
	Failed    map[string]int `json:"failed,omitempty"`
	Example   string         `json:"first_failure,omitempty"`
	// Unclean closing handshakes, of connections that had been greeted.
	Unclean map[string]int `json:"closed_badly,omitempty"`

	Total    *Quantiles `json:"greeted_after,omitempty"` // from the start to the greeting
	TCP      *Quantiles `json:"tcp,omitempty"`           // the steps of it
	TLS      *Quantiles `json:"tls,omitempty"`
	Upgrade  *Quantiles `json:"upgrade,omitempty"`
	Greeting *Quantiles `json:"greeting,omitempty"`
	Close    *Quantiles `json:"close,omitempty"` // from our close frame to the end

	Cost  Cost     `json:"cost_per_connection"`
	Notes []string `json:"notes,omitempty"`
}

// Failures says in words what broke, nothing when all is well.
func (r *ConnectResult) Failures() (failures []string) {
	if n := r.Attempts - r.Greeted; n > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d connections failed: %s", n, r.Attempts, Counted(r.Failed)))
	}
	if len(r.Unclean) > 0 {
		failures = append(failures, "closed badly: "+Counted(r.Unclean))
	}
	return failures
}

// connects is a run of Connect.
type connects struct {
	*Connect
	start             time.Time
	next              atomic.Int64
	attempts, greeted atomic.Int64
	failed, unclean   causes

	total, tcp, tls, upgrade, greeting, closing hist.Histogram
}

// Run opens and closes connections until the number or the time is reached. An
// error means that nothing was measured.
func (d *Connect) Run(ctx context.Context) (*ConnectResult, error) {
	r := &connects{Connect: d}
	if r.Progress == nil {
		r.Progress = func(string) {}
	}
	if err := d.admit(d.Concurrency); err != nil {
		return nil, err
	}
	result := new(ConnectResult)
	sample := func() probe.Sample {
		s, err := d.Probe.Read(context.WithoutCancel(ctx))
		if err != nil {
			result.Notes = append(result.Notes, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return s
	}
	first := sample()
	r.start = time.Now()
	stop := each(r.progress())
	var workers sync.WaitGroup
	for range d.Concurrency {
		workers.Go(func() { r.work(ctx) })
	}
	workers.Wait()
	last := sample()
	stop()

	result.Seconds = last.At.Sub(first.At).Seconds()
	result.Attempts, result.Greeted = int(r.attempts.Load()), int(r.greeted.Load())
	result.PerSecond = float64(result.Greeted) / result.Seconds
	result.Failed, _ = r.failed.all()
	result.Example = r.failed.example()
	result.Unclean, _ = r.unclean.all()
	result.Total, result.TCP, result.TLS = quantiles(&r.total), quantiles(&r.tcp), quantiles(&r.tls)
	result.Upgrade, result.Greeting, result.Close = quantiles(&r.upgrade), quantiles(&r.greeting), quantiles(&r.closing)
	result.Cost = costOf(first, last, uint64(result.Greeted))
	if result.Attempts == 0 {
		return nil, errors.New("interrupted before the first connection")
	}
	return result, nil
}

// work is one worker. No connection is begun after the end; those begun are
// seen through.
func (r *connects) work(ctx context.Context) {
	const readBuffer = 512
	d := r.dialer(readBuffer)
	schedule := pace.Schedule{Rate: r.Rate, Streams: 1}
	for {
		i := int(r.next.Add(1) - 1)
		if r.Connections > 0 && i >= r.Connections {
			return
		}
		due := time.Now()
		if r.Rate > 0 {
			due = r.start.Add(schedule.Due(uint64(i)))
		}
		if r.Duration > 0 && due.Sub(r.start) >= r.Duration {
			return
		}
		if r.Rate > 0 {
			watch(ctx, due, nil, func() {})
		}
		if ctx.Err() != nil || r.Duration > 0 && time.Since(r.start) >= r.Duration {
			return
		}
		s, timing, err := texto.Open(ctx, d, r.target(i), r.source(i))
		if ctx.Err() != nil && err != nil {
			return // broken off by the end of the run
		}
		r.attempts.Add(1)
		if err != nil {
			r.failed.add(err)
			continue
		}
		r.greeted.Add(1)
		r.total.Record(time.Since(due))
		r.tcp.Record(timing.Connect)
		if timing.TLS > 0 {
			r.tls.Record(timing.TLS)
		}
		r.upgrade.Record(timing.Upgrade)
		r.greeting.Record(timing.Greeting)
		closing := time.Now()
		if err := s.Leave(leaveTimeout); err != nil {
			r.unclean.add(err)
			continue
		}
		r.closing.Record(time.Since(closing))
	}
}

func (r *connects) progress() func() {
	var before hist.Snapshot
	return func() {
		var now hist.Snapshot
		now.Add(&r.total)
		interval := now.Since(before)
		before = now
		line := time.Since(r.start).Round(time.Second).String()
		if r.Duration > 0 {
			line += "/" + r.Duration.Round(time.Second).String()
		}
		line += fmt.Sprintf("  %d greeted  %d/s", now.Count, interval.Count)
		if interval.Count > 0 {
			line += fmt.Sprintf("  p50 %s p99 %s", Round(interval.Quantile(0.5)), Round(interval.Quantile(0.99)))
		}
		if _, n := r.failed.all(); n > 0 {
			line += fmt.Sprintf("  %d failed", n)
		}
		r.Progress(line)
	}
}
