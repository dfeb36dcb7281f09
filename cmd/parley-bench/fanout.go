package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/texto"
)

var fanoutCommand = command{
	name:    "fanout",
	summary: "a chat room of many gets messages from a few; each delivery is in a ledger",
	about: `
Some accounts are made, and all connections sign in with their sessions; the
servers need a database for that. Subscribers and publishers take turns on the
--addr. Everybody in the room gets each message, its publisher too: a message to
1,000 subscribers from one publisher is 1,001 deliveries. There are two ways to
load:

  A closed loop (--window n, the default): each publisher has n messages on their
  way, and sends the next when everybody has got one. It finds the throughput
  that the servers bear.

  An open loop (--rate r): r messages a second in all, at even times, whatever
  has arrived. Latency is measured from the moment a message was due, so a
  server that stalls cannot hide what waited for it. "sent late by" tells how
  late the generator itself was: near the latency, it is the bottleneck.

The ledger covers the whole run, warm-up included. Everybody must get each message
that anybody got, once, in the order in which its publisher sent it, and all must
see one order: the ids that the servers give rise, and are the same for all. A
message has come back when its publisher got it; error answers are counted by
their code, and do not say for which message they are. Each delivery that is
lost, duplicated or out of order is named by publisher, member and sequence
numbers, which count from 1 for each publisher; --ledger FILE gets all.

A message that a closed loop has not seen everywhere after 2 s is given up, and
the next one sent in its place. After a refusal a publisher pauses for 0.1 s.

The room keeps the messages: use one that is there to be written full.

Examples:
  parley-bench fanout --subscribers 1000 --window 16 --server-pids 123 --redis-pids 45
  parley-bench fanout --rate 100 --subscribers 500 --addr 127.0.0.1:8398,127.0.0.1:8399
  parley-bench fanout --addr wss://relay.example --room load --rate 20 --json
`,
	setup: func(s *settings) scenario {
		d := &fanoutScenario{settings: s, fanout: load.Fanout{Accounts: 2, Subscribers: 100, Publishers: 1,
			Traffic: load.Traffic{Window: 8, Size: 128, Warmup: 2 * time.Second, Duration: 10 * time.Second, Drain: 3 * time.Second,
				Linger: 250 * time.Millisecond, GiveUp: 2 * time.Second}}}
		s.group("The load")
		s.text(&d.fanout.Room, "room", "`id` of the room; the first one of the servers if none is named")
		s.number(&d.fanout.Subscribers, "subscribers", 0, 1_000_000, "`connections` that only listen")
		s.number(&d.fanout.Publishers, "publishers", 1, load.MaxPublishers, "`connections` that send, and listen too")
		s.number(&d.fanout.Accounts, "accounts", 1, 1000, "`accounts` to make; connections share their sessions")
		s.number(&d.fanout.Window, "window", 1, 10_000, "closed loop: `messages` of a publisher on their way at once")
		s.rate(&d.fanout.Rate, "rate", "open loop: `messages` a second of all publishers together; 0: a closed loop")
		s.number(&d.fanout.Size, "size", texto.IDLen, 16<<20, "`bytes` of content in a message")
		s.group("Times")
		s.duration(&d.fanout.Warmup, "warmup", 0, "`time` before measuring begins")
		s.duration(&d.fanout.Duration, "duration", time.Millisecond, "measured `time`")
		s.duration(&d.fanout.Drain, "drain", 0, "longest `time` to wait at the end for what is on its way")
		d.fleet = declareFleet(s, chat.Path, 64)
		return d
	},
}

type fanoutScenario struct {
	settings *settings
	fleet    *fleetSettings
	fanout   load.Fanout
}

func (d *fanoutScenario) prepare(progress func(string)) (runner, []string) {
	problems := d.fleet.check()
	if d.settings.given("rate") && d.settings.given("window") && d.fanout.Rate > 0 {
		problems = append(problems, "--rate and --window exclude each other: an open loop has no window")
	}
	d.fanout.Fleet, d.fanout.Probe, d.fanout.Progress = d.fleet.fleet, d.fleet.probe, progress
	return d, problems
}

func (d *fanoutScenario) run(ctx context.Context) (result, error) {
	r, err := d.fanout.Run(ctx)
	if err != nil {
		return nil, err
	}
	return fanoutResult{r, d.describe()}, nil
}

func (d *fanoutScenario) describe() string {
	f := &d.fanout
	what := fmt.Sprintf("%d subscribers, publishers: %d", f.Subscribers, f.Publishers)
	if f.Rate > 0 {
		return fmt.Sprintf("%s, %g messages/s, %d bytes", what, f.Rate, f.Size)
	}
	return fmt.Sprintf("%s with %d messages on their way each, %d bytes", what, f.Window, f.Size)
}

// fanoutResult is the result with how it is shown.
type fanoutResult struct {
	*load.FanoutResult
	what string
}

func (r fanoutResult) account() (any, iter.Seq[ledger.Finding]) {
	return r.Messages, r.Ledger.Findings
}

func (r fanoutResult) table(t *table) {
	t.title("fanout: room %s, %s; %.1f s measured", r.Room, r.what, r.Seconds)
	t.row("delivered", "%s/s   %s deliveries of %s messages/s", load.Short(r.PerSecond), count(r.Deliveries), load.Short(r.SentPerSecond))
	t.quantiles("latency", r.Latency)
	t.quantiles("came back after", r.Return)
	t.quantiles("sent late by", r.Lag)
	t.cost("delivery", r.Cost)

	m := r.Messages
	t.title("ledger, of the whole run")
	t.row("members", "%s", count(uint64(m.Members)))
	t.row("messages sent", "%s", count(m.Sent))
	t.row("came back", "%s", count(m.CameBack))
	t.row("refused", "%s", count(m.Refused))
	for _, code := range m.Codes() {
		t.row("  with "+code, "%s", count(m.RefusedBy[code]))
	}
	t.row("unanswered", "%s", count(m.Unanswered))
	t.row("deliveries", "%s", count(m.Delivered))
	t.row("  lost", "%s", count(m.Lost))
	t.row("  duplicated", "%s", count(m.Duplicates))
	t.row("  reordered", "%s", count(m.Reordered))
	t.row("  out of the room's order", "%s", count(m.Misplaced))
	t.row("members with another order", "%s", count(uint64(m.Differing)))
	t.row("foreign", "%s", count(m.Foreign))
	t.findings(r.Findings, r.FoundInAll)
	t.notes(r.Notes)
	if m.CameBack > 0 && m.Kept() {
		t.line("\nEverybody got every message once, and in one order.")
	}
}
