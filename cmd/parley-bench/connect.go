package main

import (
	"context"
	"time"

	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/texto"
)

var connectCommand = command{
	name:    "connect",
	summary: "connections opened until their greeting and closed again",
	about: `
Each of --concurrency workers connects, does the handshake, waits for the
greeting, closes in good order, and begins anew, until --duration is over or
--connections have been made, whichever is first. With --rate they begin at even
times instead, as long as a worker is free, and times are measured from when a
connection was due.

"greeted after" is the whole way; TCP, TLS, upgrade and greeting are its steps.

Examples:
  parley-bench connect --connections 20000 --concurrency 32 --source-ips 8 --server-pids 123
  parley-bench connect --rate 500 --duration 1m --addr wss://relay.example
`,
	setup: func(s *settings) scenario {
		d := &connectScenario{settings: s, connect: load.Connect{Duration: 10 * time.Second}}
		s.group("The load")
		s.number(&d.connect.Connections, "connections", 0, 1_000_000_000, "end after so `many`; then --duration counts only when it is given too")
		s.rate(&d.connect.Rate, "rate", "`connections` a second that are begun; 0: as fast as the workers can")
		s.duration(&d.connect.Duration, "duration", time.Millisecond, "end after this `time`")
		d.fleet = declareFleet(s, texto.Path, 32)
		return d
	},
}

type connectScenario struct {
	settings *settings
	fleet    *fleetSettings
	connect  load.Connect
}

func (d *connectScenario) prepare(progress func(string)) (runner, []string) {
	problems := d.fleet.check()
	if d.connect.Connections > 0 && !d.settings.given("duration") {
		d.connect.Duration = 0
	}
	d.connect.Fleet, d.connect.Probe, d.connect.Progress = d.fleet.fleet, d.fleet.probe, progress
	return d, problems
}

func (d *connectScenario) run(ctx context.Context) (result, error) {
	r, err := d.connect.Run(ctx)
	if err != nil {
		return nil, err
	}
	return connectResult{r, d.connect.Concurrency}, nil
}

// connectResult is the result with how it is shown.
type connectResult struct {
	*load.ConnectResult
	concurrency int
}

func (r connectResult) table(t *table) {
	t.title("connect: %d at once, for %.1f s", r.concurrency, r.Seconds)
	t.row("greeted", "%s/s   %s of %s", load.Short(r.PerSecond), count(uint64(r.Greeted)), count(uint64(r.Attempts)))
	t.quantiles("greeted after", r.Total)
	t.quantiles("  TCP", r.TCP)
	t.quantiles("  TLS", r.TLS)
	t.quantiles("  upgrade", r.Upgrade)
	t.quantiles("  greeting", r.Greeting)
	t.quantiles("closed after", r.Close)
	t.cost("connection", r.Cost)
	if r.Example != "" {
		t.row("first failure", "%s", r.Example)
	}
	t.notes(r.Notes)
}
