package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/drill"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// The parts of the subcommand poll.
const (
	partPark    = "park"
	partLatency = "latency"
	partLedger  = "ledger"
)

var pollCommand = command{
	name:    "poll",
	summary: "REST clients that poll and pull: what a parked poll costs, latency, a ledger",
	about: `
Without --target it starts a fleet of its own, on free ports of loopback: one Redis,
nodes as processes of their own, their database in a file or at --database, and ends
all of it. With --target the fleet is there already; its nodes need --rate 0, and
--server-pids, --redis-pids and --metrics tell what it costs.

It has three parts, one after the other; --parts chooses:

  park     --polls polls wait on the first node, each on a connection of its own, while
           nothing happens: memory and goroutines that each costs (the increase over what
           the node had before), and how many connections Redis has before and meanwhile.
           In a fleet of its own each poll is another user's.
  latency  --pollers users poll on the last node; --rate messages a second are written to
           them through the first one, at even times whatever is answered. Latency is
           measured from the moment a message was due until the receiver's poll is
           answered. "sent late by" tells how late the generator itself was.
  ledger   --messages messages from --senders to --receivers users. A receiver polls on
           another node each time, and pulls the conversations that it is notified of;
           every other one names the last notification that it has processed (?after=),
           the rest leave that to the fleet. Nothing may be missed or come twice: neither
           messages, by their ids and numbers, nor notifications, by their ids.

A request that fails, a gap that is told and a notification that comes again make the
run fail, since nothing goes wrong here; "parley-bench drill poll-kill" has things go
wrong.

Examples:
  parley-bench poll
  parley-bench poll --parts latency --rate 200 --duration 30s
  parley-bench poll --parts ledger --database mysql://parley:password@127.0.0.1/parley
  parley-bench poll --target https://relay.example --parts latency --pollers 20 --rate 20
`,
	setup: func(s *settings) scenario {
		d := &pollScenario{settings: s, parts: []string{partPark, partLatency, partLedger}, nodes: 3, polls: 10_000, pollers: 100, rate: 100, messages: 100_000,
			senders: 4, receivers: 4, window: 200, size: 128, hold: 30 * time.Second, warmup: 2 * time.Second, duration: 10 * time.Second,
			drain: 30 * time.Second, timeout: 10 * time.Second, concurrency: 64}
		s.group("The load")
		s.list("parts", "which `parts` to run, separated by commas", func() { d.parts = nil }, func(item string) error {
			if item != partPark && item != partLatency && item != partLedger {
				return fmt.Errorf("%q is none of %s, %s, %s", item, partPark, partLatency, partLedger)
			}
			d.parts = append(d.parts, item)
			return nil
		}, func() string { return strings.Join(d.parts, ",") })
		s.number(&d.polls, "polls", 1, 1_000_000, "park: `polls` that wait")
		s.number(&d.pollers, "pollers", 1, 10_000, "latency: `users` who poll")
		s.rate(&d.rate, "rate", "latency: `messages` a second of all together")
		s.number(&d.messages, "messages", 1, 100_000_000, "ledger: `messages` to write")
		s.number(&d.senders, "senders", 1, 1000, "`users` who write, each one message at a time")
		s.number(&d.receivers, "receivers", 1, 1000, "ledger: `users` who are written to")
		s.number(&d.window, "window", 1, 900, "ledger: `messages` to a receiver that it has not pulled yet, for which its senders wait; 1000 notifications are kept")
		s.number(&d.size, "size", texto.IDLen, 60_000, "`bytes` of a message")
		s.group("Times")
		s.duration(&d.warmup, "warmup", 0, "`time` before measuring begins, of park and latency")
		s.duration(&d.hold, "hold", time.Millisecond, "park: `time` that the polls wait then")
		s.duration(&d.duration, "duration", time.Millisecond, "latency: measured `time`")
		s.duration(&d.drain, "drain", 0, "longest `time` to wait at the end for what is on its way")
		s.group("Servers")
		s.list("target", "a fleet that runs already, separated by commas: `host:port`, or http and https URLs", func() { d.targets = nil }, func(item string) error {
			t, err := wsclient.ParseTarget(item, "/")
			if err == nil {
				d.targets = append(d.targets, t)
			}
			return err
		}, func() string { return joined(d.targets) })
		s.number(&d.nodes, "nodes", 1, 50, "`nodes` of a fleet of its own")
		s.text(&d.parley, "parley", "the node's `program`; without it: beside this one, on the PATH, or built within the source tree")
		s.secret(&d.database, "database", "the `URL` of the database of a fleet of its own, as --database-url of the nodes; without it: a file that is removed in the end")
		s.duration(&d.timeout, "timeout", time.Millisecond, "`how long` a request may take, besides what a poll waits")
		s.number(&d.concurrency, "concurrency", 1, 100_000, "park: `polls` being sent at once")
		s.group("What the servers cost")
		pids(s, &d.probe.ServerPIDs, "server-pids", "with --target: `pids` of the nodes, in the order of their targets, separated by commas: their CPU time (user and system) and resident memory")
		pids(s, &d.probe.RedisPIDs, "redis-pids", "the same for `pids` of Redis")
		urls(s, &d.probe.Metrics, "metrics", "/metrics", "with --target: `URLs` of Prometheus pages, one a node in the same order: goroutines, and without --server-pids CPU time and memory")
		return d
	},
}

// pollScenario is the subcommand.
type pollScenario struct {
	settings *settings
	parts    []string
	targets  []wsclient.Target
	probe    probe.Probe
	progress func(string)

	parley, database                       string
	nodes, polls, pollers, messages        int
	senders, receivers, window, size       int
	concurrency                            int
	rate                                   float64
	hold, warmup, duration, drain, timeout time.Duration
}

func (d *pollScenario) prepare(progress func(string)) (runner, []string) {
	d.progress = progress
	var problems []string
	if len(d.parts) == 0 {
		problems = append(problems, "--parts names none")
	}
	// A parked poll is answered when its time is over; parking and looking take some of it.
	const spare = 20 * time.Second
	if most := load.ParkWait - spare; d.hold+d.warmup > most {
		problems = append(problems, fmt.Sprintf("--hold and --warmup are more than %s together: polls wait for %s at most", most, load.ParkWait))
	}
	if d.rate <= 0 && slices.Contains(d.parts, partLatency) {
		problems = append(problems, "--rate has to be more than 0")
	}
	for _, name := range []string{"nodes", "parley", "database"} {
		if d.targets != nil && d.settings.given(name) {
			problems = append(problems, fmt.Sprintf("--%s has no meaning with --target: nothing is started there", name))
		}
	}
	for _, name := range []string{"server-pids", "redis-pids", "metrics"} {
		if d.targets == nil && d.settings.given(name) {
			problems = append(problems, fmt.Sprintf("--%s is for a fleet that runs already: --target says where it is", name))
		}
	}
	return d, problems
}

// run starts the fleet, if there is none, and runs the parts.
func (d *pollScenario) run(ctx context.Context) (result, error) {
	fleet := load.PullFleet{Targets: d.targets, Client: pull.NewClient(nil, d.pollers+d.receivers+d.senders), Probe: d.probe, Progress: d.progress}
	defer fleet.Client.Close()
	people := d.signUp(&fleet)
	if d.targets == nil {
		program, done, err := findParley(ctx, d.parley)
		if err != nil {
			return nil, err
		}
		defer done()
		d.progress(fmt.Sprintf("starting %d nodes", d.nodes))
		own, err := drill.StartOwn(ctx, program, d.nodes, d.database, "--rate", "0", "--log-level", "warn")
		if err != nil {
			return nil, err
		}
		defer func() { _ = own.Close() }() // what was measured stands
		for _, addr := range own.Addrs() {
			fleet.Targets = append(fleet.Targets, wsclient.Target{Addr: addr, Host: addr})
		}
		fleet.Probe = probe.Probe{ServerPIDs: own.PIDs(), RedisPIDs: []int{own.RedisPID()}, Metrics: own.Metrics()}
		fleet.Redis = own.RedisConnections
		people = own.Users
	}
	r := &pollResult{scenario: d}
	for _, part := range d.parts {
		var err error
		switch part {
		case partPark:
			r.Park, err = d.park(ctx, fleet, people)
		case partLatency:
			r.Latency, err = d.measure(ctx, fleet, people)
		case partLedger:
			r.Ledger, err = d.keep(ctx, fleet, people)
		}
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return r, nil
}

// makeUsers makes n users.
type makeUsers func(ctx context.Context, n int) ([]pull.User, error)

// signUp makes users of a fleet as clients do.
func (d *pollScenario) signUp(fleet *load.PullFleet) makeUsers {
	return func(ctx context.Context, n int) (all []pull.User, err error) {
		for i := range n {
			d.progress(fmt.Sprintf("signing up %d/%d", i, n))
			asked, cancel := context.WithTimeout(ctx, d.timeout)
			u, err := fleet.Client.SignUp(asked, pull.Base(fleet.Targets[i%len(fleet.Targets)]))
			cancel()
			if err != nil {
				return nil, err
			}
			all = append(all, u)
		}
		return all, nil
	}
}

// pollsOfUser is how many polls a user of a fleet that is not ours has: less than a node
// allows, and enough that few users have to sign up.
const pollsOfUser = 10

func (d *pollScenario) park(ctx context.Context, fleet load.PullFleet, people makeUsers) (*load.ParkResult, error) {
	n := d.polls
	if d.targets != nil {
		n = (n + pollsOfUser - 1) / pollsOfUser
	}
	users, err := people(ctx, n)
	if err != nil {
		return nil, err
	}
	// One node is looked at.
	fleet.Probe.ServerPIDs, fleet.Probe.Metrics = fleet.Probe.ServerPIDs[:min(1, len(fleet.Probe.ServerPIDs))], fleet.Probe.Metrics[:min(1, len(fleet.Probe.Metrics))]
	p := load.Park{PullFleet: fleet, Polls: d.polls, Users: users, Concurrency: d.concurrency, Timeout: d.timeout, Settle: d.warmup, Hold: d.hold}
	if len(fleet.Probe.Metrics) > 0 {
		p.Waiting = func(ctx context.Context) (int, error) {
			n, err := probe.Value(ctx, fleet.Probe.Metrics[0], "parley_polls_parked")
			return int(n), err
		}
	}
	return p.Run(ctx)
}

func (d *pollScenario) measure(ctx context.Context, fleet load.PullFleet, people makeUsers) (*load.PollLatencyResult, error) {
	users, err := people(ctx, d.pollers+d.senders)
	if err != nil {
		return nil, err
	}
	p := load.PollLatency{PullFleet: fleet, Pollers: users[d.senders:], Senders: users[:d.senders], Rate: d.rate, Size: d.size, Warmup: d.warmup,
		Duration: d.duration, Drain: d.drain, Timeout: d.timeout}
	return p.Run(ctx)
}

// ledgerWait is what the polls of the ledger ask for: short, so that many end without a
// notification, too.
const ledgerWait = 5 * time.Second

func (d *pollScenario) keep(ctx context.Context, fleet load.PullFleet, people makeUsers) (*load.PollLedgerResult, error) {
	users, err := people(ctx, d.senders+d.receivers)
	if err != nil {
		return nil, err
	}
	p := load.PollLedger{PullFleet: fleet, Messages: d.messages, Senders: users[:d.senders], Receivers: users[d.senders:], Window: d.window, Size: d.size,
		Wait: ledgerWait, Timeout: d.timeout, Drain: d.drain}
	return p.Run(ctx)
}

// pollResult is what the parts have found; nil: a part was not run.
type pollResult struct {
	Park    *load.ParkResult        `json:"park,omitempty"`
	Latency *load.PollLatencyResult `json:"latency,omitempty"`
	Ledger  *load.PollLedgerResult  `json:"ledger,omitempty"`

	scenario *pollScenario
}

// Failures says in words what broke, nothing when all is well.
func (r *pollResult) Failures() (failures []string) {
	add := func(part string, more []string) {
		for _, f := range more {
			failures = append(failures, part+": "+f)
		}
	}
	if r.Park != nil {
		add(partPark, r.Park.Failures())
	}
	if r.Latency != nil {
		add(partLatency, r.Latency.Failures())
	}
	if r.Ledger != nil {
		add(partLedger, r.Ledger.Failures())
	}
	return failures
}

func (r *pollResult) account() (any, iter.Seq[ledger.Finding]) {
	if r.Ledger == nil {
		return ledger.Totals{}, func(func(ledger.Finding) bool) {}
	}
	return r.Ledger.Messages, r.Ledger.Ledger
}

func (r *pollResult) table(t *table) {
	if r.Park != nil {
		parkTable(t, r.Park)
	}
	if r.Latency != nil {
		p := r.Latency
		t.title("latency: %s pollers, %g messages/s, %d bytes; %.1f s measured", count(uint64(p.Pollers)), r.scenario.rate, r.scenario.size, p.Seconds)
		t.row("sent, notified", "%s, %s", count(p.Sent), count(p.Notified))
		t.quantiles("poll answered", p.Latency)
		t.quantiles("message answered", p.Written)
		t.quantiles("sent late by", p.Lag)
		t.cost("message", p.Cost)
		t.notes(p.Notes)
	}
	if r.Ledger != nil {
		pollLedgerTable(t, r.Ledger)
	}
}

func parkTable(t *table, p *load.ParkResult) {
	t.title("park: %s polls of %s users held for %.1f s", count(uint64(p.Parked)), count(uint64(p.Users)), p.Seconds)
	t.row("parked", "%s/s, in %.1f s", load.Short(p.PerSec), p.Parking)
	kb := func(name string, v *float64) {
		if v != nil {
			t.row(name, "%.1f KB a poll", *v/1024)
		}
	}
	kb("memory, just parked", p.MemoryJustParked)
	kb("memory, at the end", p.Memory)
	kb("memory of Redis", p.RedisMemory)
	if p.Goroutines != nil {
		t.row("goroutines", "%.2f a poll", *p.Goroutines)
	}
	if p.RedisBefore != nil && p.RedisAfter != nil {
		t.row("connections of Redis", "%d, and %d before", *p.RedisAfter, *p.RedisBefore)
	}
	if p.ServerCores != nil {
		t.row("CPU while held", "%.3f cores", *p.ServerCores)
	}
	if p.ServerRSS != nil {
		t.row("memory in all", "%s", bytesText(*p.ServerRSS))
	}
	t.row("answered while held", "%d", p.Answered)
	if p.Example != "" {
		t.row("first failure", "%s", p.Example)
	}
	t.notes(p.Notes)
}

func pollLedgerTable(t *table, p *load.PollLedgerResult) {
	t.title("ledger: %d senders, %d receivers on %d nodes in turns", p.Senders, p.Receivers, p.Nodes)
	m, n := p.Messages, p.Notices
	t.row("written", "%s/s   %s in %.1f s", load.Short(p.PerSecond), count(m.Acknowledged), p.Seconds)
	t.quantiles("message answered", p.Written)
	t.quantiles("message pulled", p.Pulled)
	t.cost("message", p.Cost)
	t.row("unanswered", "%s", count(m.Unanswered))
	t.row("pulled", "%s", count(m.Delivered))
	t.row("  never", "%s", count(m.Lost))
	t.row("  twice", "%s", count(m.Duplicated))
	t.row("  out of order", "%s", count(m.Reordered))
	t.row("polls answered", "%s", count(n.Polls))
	t.row("notifications", "%s", count(n.Came))
	t.row("  missed", "%s", count(n.Missed))
	t.row("  twice by id", "%s", count(n.Repeated))
	t.row("  without a message", "%s", count(n.Surplus))
	t.row("gaps told", "%s", count(n.Gaps))
	if len(p.Failed) > 0 {
		t.row("requests that failed", "%s", load.Counted(p.Failed))
	}
	t.findings(p.Findings, p.FoundInAll)
	t.notes(p.Notes)
	if len(p.Failures()) == 0 {
		t.line("\nEvery message was pulled once and in order, and every notification came once.")
	}
}
