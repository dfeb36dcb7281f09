package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/texto"
)

// fillerText is a text without a meaning.
func fillerText(n int) []byte { return texto.Filler(n) }

// PollLedger has users write to others who poll, one node after the other, and pull what
// was written; and keeps account of every message and every notification.
type PollLedger struct {
	PullFleet
	Messages  int
	Senders   []pull.User
	Receivers []pull.User
	Window    int // messages to a receiver that it has not pulled, beyond which its senders wait
	Size      int
	Wait      time.Duration // that polls ask for
	Timeout   time.Duration // for a request, besides what a poll waits
	Drain     time.Duration
}

// PollLedgerResult is what a PollLedger run has found.
type PollLedgerResult struct {
	Nodes     int     `json:"nodes"`
	Senders   int     `json:"senders"`
	Receivers int     `json:"receivers"`
	Seconds   float64 `json:"seconds"` // until the last message was written
	PerSecond float64 `json:"messages_per_second"`

	Messages ledger.Totals  `json:"messages"`
	Notices  pull.Notices   `json:"notifications"`
	Failed   map[string]int `json:"requests_failed,omitempty"`
	Written  *Quantiles     `json:"written,omitempty"` // from the sending of a message to its answer
	Pulled   *Quantiles     `json:"pulled,omitempty"`  // from there until it was pulled
	Cost     Cost           `json:"cost_per_message"`

	Findings   []ledger.Finding `json:"findings"` // the first
	FoundInAll int              `json:"findings_in_all"`
	Notes      []string         `json:"notes,omitempty"`

	ledger *ledger.Ledger
}

// Ledger passes all findings to yield until that returns false.
func (r *PollLedgerResult) Ledger(yield func(ledger.Finding) bool) { r.ledger.Findings(yield) }

// Failures says in words what broke, nothing when all is well.
func (r *PollLedgerResult) Failures() (failures []string) {
	m, n := r.Messages, r.Notices
	for _, f := range []struct {
		n    uint64
		what string
	}{
		{m.Lost, "messages acknowledged and never pulled"},
		{m.Duplicated, "messages pulled more than once"},
		{m.Reordered, "messages out of their sender's order"},
		{m.Foreign, "foreign: no message sent explains them"},
		{n.Missed, "messages of which the receiver was not notified"},
		{n.Repeated, "notifications that came twice"},
		{n.Gaps, "times that a receiver was told of a gap"},
	} {
		if f.n > 0 {
			failures = append(failures, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	if len(r.Failed) > 0 {
		failures = append(failures, "requests failed: "+Counted(r.Failed))
	}
	return failures
}

// Run writes, polls, pulls and drains.
func (d *PollLedger) Run(ctx context.Context) (*PollLedgerResult, error) {
	var bases []string
	for i := range d.Targets {
		bases = append(bases, d.base(i))
	}
	l := ledger.New()
	c := pull.NewCrowd(pull.Config{Client: d.Client, Nodes: bases, Senders: d.Senders, Receivers: d.Receivers, Ledger: l,
		Nonce: rand.Uint32N(1 << 20), Size: max(d.Size, texto.IDLen), Wait: d.Wait, Slack: d.Timeout, Most: noticeMost})
	result := &PollLedgerResult{Nodes: len(bases), Senders: len(d.Senders), Receivers: len(d.Receivers), ledger: l}
	listening, stop := context.WithCancel(ctx)
	defer stop()
	c.Listen(listening)
	first := sample(ctx, &d.Probe, &result.Notes)
	var next atomic.Int64
	var sending sync.WaitGroup
	for i := range d.Senders {
		sending.Go(func() { d.write(ctx, c, i, &next) })
	}
	written := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		sending.Wait()
		close(written)
	})
	progress := d.progress(c, &next)
	const forever = 1000 * time.Hour
	watch(ctx, time.Now().Add(forever), written, progress)
	waiter.Wait()
	last := sample(ctx, &d.Probe, &result.Notes)
	drain(ctx, d.Drain, 0, written, c.Settled, progress)
	stop()
	c.Join()

	result.Seconds = last.At.Sub(first.At).Seconds()
	result.Messages, result.Notices, result.Failed = l.Totals(), c.Notices(), c.Failures()
	result.PerSecond = float64(result.Messages.Acknowledged) / result.Seconds
	result.Written, result.Pulled = quantiles(&c.Written), quantiles(&c.Pulled)
	result.Cost = costOf(first, last, result.Messages.Acknowledged)
	result.Findings, result.FoundInAll = l.Worst(listed)
	if result.Messages.Acknowledged == 0 {
		return nil, fmt.Errorf("no message was taken: %s", Counted(result.Failed))
	}
	return result, nil
}

// write has a sender write its part of the messages, to one receiver after the other.
func (d *PollLedger) write(ctx context.Context, c *pull.Crowd, sender int, next *atomic.Int64) {
	const look = 2 * time.Millisecond
	for to := sender; ctx.Err() == nil && next.Add(1) <= int64(d.Messages); to++ {
		receiver := to % len(d.Receivers)
		for c.Backlog(receiver) >= int64(d.Window) && ctx.Err() == nil {
			watch(ctx, time.Now().Add(look), nil, func() {})
		}
		if !c.Write(ctx, sender, receiver) {
			watch(ctx, time.Now().Add(50*time.Millisecond), nil, func() {})
		}
	}
}

func (d *PollLedger) progress(c *pull.Crowd, next *atomic.Int64) func() {
	before, at := int64(0), time.Now()
	return func() {
		now := c.Delivered.Load()
		rate := float64(now-before) / time.Since(at).Seconds()
		line := fmt.Sprintf("ledger: %d/%d written, %d pulled  %s/s", min(next.Load(), int64(d.Messages)), d.Messages, now, Short(rate))
		failed := 0
		for _, n := range c.Failures() {
			failed += n
		}
		if failed > 0 {
			line += fmt.Sprintf("  %d requests failed", failed)
		}
		d.Progress(line)
		before, at = now, time.Now()
	}
}
