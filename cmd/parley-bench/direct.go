package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/texto"
)

var directCommand = command{
	name:    "direct",
	summary: "pairs of clients send each other messages; each is in a ledger",
	about: `
Every pair is a sender and a receiver with a connection each; with several --addr
the two are on different servers. There are two ways to load:

  A closed loop (--window n, the default): each pair has n messages on their way,
  and sends the next when one has arrived. It finds the throughput that the
  servers bear. Latency then says little: the more is on its way, the longer it
  takes.

  An open loop (--rate r): r messages a second in all, at even times, whatever
  has arrived. Latency is measured from the moment a message was due, so a
  server that stalls cannot hide what waited for it. "sent late by" tells how
  late the generator itself was: near the latency, it is the bottleneck.

The ledger covers the whole run, warm-up included. An acknowledged message must
arrive once, and in the order sent. The report tells apart: sent, acknowledged,
refused (by error code), unanswered, delivered, duplicated, reordered (came after
a later one), lost though acknowledged, delivered though not acknowledged, and
foreign: what arrived and nobody sent, such as an altered text or another's
message. It names the first of them by sender and sequence numbers, which count
from 1 for each pair; --ledger FILE gets all.

A message that a closed loop has not seen after 2 s is given up, and the next
one sent in its place. After a refusal a pair pauses for 0.1 s.

Examples:
  parley-bench direct --pairs 50 --window 4 --server-pids 123 --redis-pids 45
  parley-bench direct --rate 10000 --pairs 100 --duration 5m --addr 127.0.0.1:8398,127.0.0.1:8399
  parley-bench direct --addr wss://relay.example --pairs 500 --rate 200 --json
`,
	setup: func(s *settings) scenario {
		d := &directScenario{settings: s, direct: load.Direct{Pairs: 50, Window: 4, Size: 128,
			Warmup: 2 * time.Second, Duration: 10 * time.Second, Drain: 3 * time.Second,
			Linger: 250 * time.Millisecond, GiveUp: 2 * time.Second}}
		s.group("The load")
		s.number(&d.direct.Pairs, "pairs", 1, 1_000_000, "`pairs` of a sender and a receiver")
		s.number(&d.direct.Window, "window", 1, 100_000, "closed loop: `messages` of a pair on their way at once")
		s.rate(&d.direct.Rate, "rate", "open loop: `messages` a second of all pairs together; 0: a closed loop")
		s.number(&d.direct.Size, "size", texto.IDLen, 16<<20, "`bytes` of text in a message")
		s.group("Times")
		s.duration(&d.direct.Warmup, "warmup", 0, "`time` before measuring begins")
		s.duration(&d.direct.Duration, "duration", time.Millisecond, "measured `time`")
		s.duration(&d.direct.Drain, "drain", 0, "longest `time` to wait at the end for what is on its way")
		d.fleet = declareFleet(s, texto.Path, 64)
		return d
	},
}

type directScenario struct {
	settings *settings
	fleet    *fleetSettings
	direct   load.Direct
}

func (d *directScenario) prepare(progress func(string)) (runner, []string) {
	problems := d.fleet.check()
	if d.settings.given("rate") && d.settings.given("window") && d.direct.Rate > 0 {
		problems = append(problems, "--rate and --window exclude each other: an open loop has no window")
	}
	d.direct.Fleet, d.direct.Probe, d.direct.Progress = d.fleet.fleet, d.fleet.probe, progress
	return d, problems
}

func (d *directScenario) run(ctx context.Context) (result, error) {
	r, err := d.direct.Run(ctx)
	if err != nil {
		return nil, err
	}
	return directResult{r, d.describe()}, nil
}

func (d *directScenario) describe() string {
	if d.direct.Rate > 0 {
		return fmt.Sprintf("%d pairs, %g messages/s, %d bytes", d.direct.Pairs, d.direct.Rate, d.direct.Size)
	}
	return fmt.Sprintf("%d pairs with %d messages on their way each, %d bytes", d.direct.Pairs, d.direct.Window, d.direct.Size)
}

// directResult is the result with how it is shown.
type directResult struct {
	*load.DirectResult
	what string
}

func (r directResult) account() (any, iter.Seq[ledger.Finding]) {
	return r.Ledger.Totals(), r.Ledger.Findings
}

func (r directResult) table(t *table) {
	t.title("direct: %s; %.1f s measured", r.what, r.Seconds)
	t.row("delivered", "%s/s   %s messages", load.Short(r.PerSecond), count(r.Deliveries))
	t.quantiles("latency", r.Latency)
	t.quantiles("acknowledged after", r.Answer)
	t.quantiles("sent late by", r.Lag)
	t.cost("message", r.Cost)

	m := r.Messages
	t.title("ledger, of the whole run")
	t.row("sent", "%s", count(m.Sent))
	t.row("acknowledged", "%s", count(m.Acknowledged))
	t.row("refused", "%s", count(m.Refused))
	for _, code := range m.Codes() {
		t.row("  with "+code, "%s", count(m.RefusedBy[code]))
	}
	t.row("unanswered", "%s", count(m.Unanswered))
	t.row("delivered", "%s", count(m.Delivered))
	t.row("lost though acknowledged", "%s", count(m.Lost))
	t.row("duplicated", "%s", count(m.Duplicated))
	t.row("reordered", "%s", count(m.Reordered))
	t.row("delivered, not acknowledged", "%s", count(m.Unacknowledged))
	if m.Denied > 0 {
		t.row("  of these refused", "%s", count(m.Denied))
	}
	if m.AnsweredAgain > 0 {
		t.row("answered more than once", "%s", count(m.AnsweredAgain))
	}
	t.row("foreign", "%s", count(m.Foreign))
	t.findings(r.Findings, r.FoundInAll)
	t.notes(r.Notes)
	if m.Acknowledged > 0 && m.Kept() {
		t.line("\nEvery acknowledged message arrived once and in order.")
	}
}
