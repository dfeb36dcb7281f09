package main

import (
	"context"
	"fmt"
	"iter"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/texto"
)

var roomsCommand = command{
	name:    "rooms",
	summary: "relay rooms whose hosts broadcast; each delivery is in a ledger",
	about: `
Rooms are made over HTTP, and ended when the run is over. The clients of a room
take turns on the --addr, and so do the hosts of the rooms; the first client of a
room is its host, and what it broadcasts goes to all others: a message in a room
of ten is nine deliveries. There are two ways to load:

  A closed loop (--window n, the default): each host has n messages on their way,
  and sends the next when everybody has got one. It finds the throughput that the
  servers bear.

  An open loop (--rate r): r messages a second of all hosts together, at even
  times, whatever has arrived. Latency is measured from the moment a message was
  due, so a server that stalls cannot hide what waited for it. "sent late by" tells
  how late the generator itself was: near the latency, it is the bottleneck.

The ledger covers the whole run, warm-up included. Everybody must get each message
of its host, once and in order. The protocol acknowledges nothing: a message has
vanished when it came to nobody and no error answer can have been for it; one that
came to some and not to all is lost. Each delivery that is lost, duplicated or out
of order is named by host, client and sequence numbers, which count from 1 for each
host; --ledger FILE gets all.

A message that a closed loop has not seen everywhere after 2 s is given up, and
the next one sent in its place. After a refusal a host pauses for 0.1 s.

The servers must admit the rooms: --rooms-max-clients of theirs bounds the clients
of all rooms together, each rounded up to a multiple of five.

Examples:
  parley-bench rooms --rooms 10 --clients 10 --server-pids 123 --redis-pids 45
  parley-bench rooms --rate 500 --addr 127.0.0.1:8398,127.0.0.1:8399
  parley-bench rooms --addr wss://relay.example --token secret --rooms 2 --rate 20 --json
`,
	setup: func(s *settings) scenario {
		d := &roomsScenario{settings: s, rooms: load.Rooms{Rooms: 10, Clients: 10,
			Traffic: load.Traffic{Window: 8, Size: 128, Warmup: 2 * time.Second, Duration: 10 * time.Second, Drain: 3 * time.Second,
				Linger: 250 * time.Millisecond, GiveUp: 2 * time.Second}}}
		s.group("The load")
		s.number(&d.rooms.Rooms, "rooms", 1, load.MaxRooms, "`rooms` to make")
		s.number(&d.rooms.Clients, "clients", 2, 100_000, "`connections` in each room, its host's too")
		s.number(&d.rooms.Window, "window", 1, 10_000, "closed loop: `messages` of a host on their way at once")
		s.rate(&d.rooms.Rate, "rate", "open loop: `messages` a second of all hosts together; 0: a closed loop")
		s.number(&d.rooms.Size, "size", texto.IDLen, 16<<20, "`bytes` of data in a message")
		s.secret(&d.rooms.Token, "token", "the `token` that the servers want of who makes rooms (--rooms-api-token of theirs)")
		s.group("Times")
		s.duration(&d.rooms.Warmup, "warmup", 0, "`time` before measuring begins")
		s.duration(&d.rooms.Duration, "duration", time.Millisecond, "measured `time`")
		s.duration(&d.rooms.Drain, "drain", 0, "longest `time` to wait at the end for what is on its way")
		d.fleet = declareFleet(s, rooms.Path, 64)
		return d
	},
}

type roomsScenario struct {
	settings *settings
	fleet    *fleetSettings
	rooms    load.Rooms
}

func (d *roomsScenario) prepare(progress func(string)) (runner, []string) {
	problems := d.fleet.check()
	if d.settings.given("rate") && d.settings.given("window") && d.rooms.Rate > 0 {
		problems = append(problems, "--rate and --window exclude each other: an open loop has no window")
	}
	d.rooms.Fleet, d.rooms.Probe, d.rooms.Progress = d.fleet.fleet, d.fleet.probe, progress
	return d, problems
}

func (d *roomsScenario) run(ctx context.Context) (result, error) {
	r, err := d.rooms.Run(ctx)
	if err != nil {
		return nil, err
	}
	return roomsResult{r, d.describe()}, nil
}

func (d *roomsScenario) describe() string {
	f := &d.rooms
	what := fmt.Sprintf("%d of %d clients each", f.Rooms, f.Clients)
	if f.Rate > 0 {
		return fmt.Sprintf("%s, %g messages/s, %d bytes", what, f.Rate, f.Size)
	}
	return fmt.Sprintf("%s, with %d messages on their way each, %d bytes", what, f.Window, f.Size)
}

// roomsResult is the result with how it is shown.
type roomsResult struct {
	*load.RoomsResult
	what string
}

func (r roomsResult) account() (any, iter.Seq[ledger.Finding]) { return r.Messages, r.Ledger }

func (r roomsResult) table(t *table) {
	t.title("rooms: %s; %.1f s measured", r.what, r.Seconds)
	t.row("delivered", "%s/s   %s deliveries of %s messages/s", load.Short(r.PerSecond), count(r.Deliveries), load.Short(r.SentPerSecond))
	t.quantiles("latency", r.Latency)
	t.quantiles("sent late by", r.Lag)
	t.cost("delivery", r.Cost)

	m := r.Messages
	t.title("ledger, of the whole run")
	t.row("messages sent", "%s", count(m.Sent))
	t.row("came to somebody", "%s", count(m.Reached))
	t.row("refused", "%s", count(m.Refused))
	for _, code := range m.Codes() {
		t.row("  with "+code, "%s", count(m.RefusedBy[code]))
	}
	t.row("vanished", "%s", count(m.Vanished))
	t.row("deliveries", "%s", count(m.Delivered))
	t.row("  lost", "%s", count(m.Lost))
	t.row("  duplicated", "%s", count(m.Duplicates))
	t.row("  reordered", "%s", count(m.Reordered))
	t.row("foreign", "%s", count(m.Foreign))
	t.findings(r.Findings, r.FoundInAll)
	t.notes(r.Notes)
	if m.Delivered > 0 && m.Kept() {
		t.line("\nEverybody got every message of its host once, and in order.")
	}
}
