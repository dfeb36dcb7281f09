package main

import (
	"context"
	"math"
	"time"

	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/texto"
)

var idleCommand = command{
	name:    "idle",
	summary: "connections that do nothing; what each costs the servers",
	about: `
Opens the connections, waits for each greeting, and holds them for --duration.
Pings are answered, nothing else is sent. Memory and goroutines are the increase
over what the servers had before, divided by the connections: start the servers
afresh for it. "just opened" is after --warmup, "at the end" after --duration,
when the garbage of the handshakes has been collected.

Examples:
  parley-bench idle --connections 10000 --server-pids 123 --metrics http://127.0.0.1:9398
  parley-bench idle --connections 100000 --source-ips 8 --duration 2m --server-pids 123
`,
	setup: func(s *settings) scenario {
		d := &idleScenario{idle: load.Idle{Connections: 10000, Settle: time.Second, Hold: 60 * time.Second}}
		s.group("The load")
		s.number(&d.idle.Connections, "connections", 1, 10_000_000, "how `many` to hold")
		s.group("Times")
		s.duration(&d.idle.Settle, "warmup", 0, "`time` between the last greeting and the first look")
		s.duration(&d.idle.Hold, "duration", time.Millisecond, "`time` the connections are held then")
		d.fleet = declareFleet(s, texto.Path, 64)
		return d
	},
}

type idleScenario struct {
	fleet *fleetSettings
	idle  load.Idle
}

func (d *idleScenario) prepare(progress func(string)) (runner, []string) {
	problems := d.fleet.check()
	d.idle.Fleet, d.idle.Probe, d.idle.Progress = d.fleet.fleet, d.fleet.probe, progress
	return d, problems
}

func (d *idleScenario) run(ctx context.Context) (result, error) {
	r, err := d.idle.Run(ctx)
	if err != nil {
		return nil, err
	}
	return idleResult{r}, nil
}

// idleResult is the result with how it is shown.
type idleResult struct{ *load.IdleResult }

func (r idleResult) table(t *table) {
	t.title("idle: %s connections held for %.1f s", count(uint64(r.Opened)), r.Seconds)
	t.row("opened", "%s/s, in %.1f s", load.Short(r.PerSec), r.Opening)
	t.quantiles("greeted after", r.Greeted)
	kb := func(name string, v *float64) {
		if v != nil {
			t.row(name, "%.1f KB a connection", math.Round(*v/102.4)/10+0) // + 0: no -0.0
		}
	}
	kb("memory, just opened", r.MemoryJustOpened)
	kb("memory, at the end", r.Memory)
	kb("memory of Redis", r.RedisMemory)
	if r.Goroutines != nil {
		t.row("goroutines", "%.2f a connection", *r.Goroutines)
	}
	if r.ServerCores != nil {
		t.row("CPU while held", "%.3f cores", *r.ServerCores)
	}
	if r.ServerRSS != nil {
		t.row("memory in all", "%s", bytesText(*r.ServerRSS))
	}
	t.row("ended while held", "%d", r.Ended)
	if r.Example != "" {
		t.row("first failure", "%s", r.Example)
	}
	t.notes(r.Notes)
}
