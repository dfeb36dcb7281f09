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
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Idle opens connections, holds them, and tells what each costs the servers.
// Pings are answered, nothing else is sent.
type Idle struct {
	Fleet
	Probe       probe.Probe
	Connections int
	// Settle is the wait between the last greeting and the first look.
	Settle time.Duration
	// Hold is how long the connections are held then; CPU is measured in it.
	Hold time.Duration

	// Progress, unless nil, gets a short line once a second.
	Progress func(line string)
}

// IdleResult is what an Idle run measured. Memory and goroutines are the
// increase over what the servers had before, for each connection.
type IdleResult struct {
	Asked    int            `json:"connections_asked"`
	Opened   int            `json:"connections"`
	Failed   map[string]int `json:"connections_failed,omitempty"`
	Example  string         `json:"first_failure,omitempty"`
	Opening  float64        `json:"opening_seconds"`
	PerSec   float64        `json:"opened_per_second"`
	Greeted  *Quantiles     `json:"greeted_after,omitempty"`
	Seconds  float64        `json:"held_seconds"`
	Ended    int            `json:"connections_ended"` // while held
	EndedBy  map[string]int `json:"connections_ended_by,omitempty"`
	Messages uint64         `json:"messages_received"` // none are expected

	MemoryJustOpened *float64 `json:"server_bytes_per_connection_just_opened,omitempty"`
	Memory           *float64 `json:"server_bytes_per_connection,omitempty"` // at the end
	RedisMemory      *float64 `json:"redis_bytes_per_connection,omitempty"`
	Goroutines       *float64 `json:"server_goroutines_per_connection,omitempty"`
	ServerCores      *float64 `json:"server_cores,omitempty"` // while held
	RedisCores       *float64 `json:"redis_cores,omitempty"`
	ServerRSS        *int64   `json:"server_rss_bytes,omitempty"`
	RedisRSS         *int64   `json:"redis_rss_bytes,omitempty"`
	Notes            []string `json:"notes,omitempty"`
}

// Failures says in words what broke, nothing when all is well.
func (r *IdleResult) Failures() (failures []string) {
	if len(r.Failed) > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d connections could not be opened: %s", r.Asked-r.Opened, r.Asked, Counted(r.Failed)))
	}
	if r.Ended > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d connections ended: %s", r.Ended, r.Opened, Counted(r.EndedBy)))
	}
	if r.Messages > 0 {
		failures = append(failures, fmt.Sprintf("%d messages came to connections that nobody wrote to", r.Messages))
	}
	return failures
}

// Run opens the connections, holds them and closes them. An error means that
// nothing was measured.
func (d *Idle) Run(ctx context.Context) (*IdleResult, error) {
	progress := d.Progress
	if progress == nil {
		progress = func(string) {}
	}
	if err := d.admit(d.Connections); err != nil {
		return nil, err
	}
	r := &IdleResult{Asked: d.Connections, Notes: serverFiles(d.Probe, d.Connections)}
	sample := func(p probe.Probe) probe.Sample {
		s, err := p.Read(context.WithoutCancel(ctx))
		if err != nil {
			r.Notes = append(r.Notes, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return s
	}

	before := sample(d.Probe)
	held := holder{}
	var greeted hist.Histogram
	var failed causes
	start := time.Now()
	stop := each(func() {
		n := held.opened.Load()
		progress(fmt.Sprintf("opening %d/%d  %s/s", n, d.Connections, Short(float64(n)/time.Since(start).Seconds())))
	})
	const readBuffer = 512 // greetings are all that comes
	d.open(ctx, d.Connections, readBuffer, func(i int) int { return i }, func(_ int, s *texto.Session, took time.Duration, err error) bool {
		if err == nil {
			greeted.Record(took)
			held.hold(s)
		} else if ctx.Err() == nil {
			failed.add(err)
		}
		return true
	})
	stop()
	r.Opening = time.Since(start).Seconds()
	r.Opened = int(held.opened.Load())
	r.PerSec = float64(r.Opened) / r.Opening
	r.Greeted = quantiles(&greeted)
	r.Failed, _ = failed.all()
	r.Example = failed.example()

	var opened, after probe.Sample
	if r.Opened > 0 {
		from := time.Now()
		line := func() {
			progress(fmt.Sprintf("%s/%s holding %d", time.Since(from).Round(time.Second), (d.Settle + d.Hold).Round(time.Second), held.open.Load()))
		}
		complete := watch(ctx, from.Add(d.Settle), nil, line)
		// A profile of so many goroutines is not taken here: it costs the
		// server memory, which would count as the connections'.
		light := d.Probe
		light.Pprof = nil
		opened = sample(light)
		if complete {
			watch(ctx, opened.At.Add(d.Hold), nil, line)
		} else {
			r.Notes = append(r.Notes, "ended before the connections were held")
		}
		after = sample(d.Probe)
		r.Seconds = after.At.Sub(opened.At).Seconds()
	}
	held.leave()
	r.EndedBy, r.Ended = held.ended.all()
	r.Messages = held.messages.Load()
	r.compare(before, opened, after)
	if r.Opened == 0 {
		if ctx.Err() != nil {
			return nil, errors.New("interrupted before the first connection")
		}
		return nil, fmt.Errorf("none of %d connections could be opened: %s", d.Connections, r.Example)
	}
	return r, nil
}

// compare fills in what the samples tell.
func (r *IdleResult) compare(before, opened, after probe.Sample) {
	per := func(a, b *int64) *float64 {
		if a == nil || b == nil || r.Opened == 0 {
			return nil
		}
		return new(float64(*b-*a) / float64(r.Opened))
	}
	r.MemoryJustOpened = per(before.ServerRSS, opened.ServerRSS)
	r.Memory = per(before.ServerRSS, after.ServerRSS)
	r.RedisMemory = per(before.RedisRSS, after.RedisRSS)
	r.Goroutines = per(before.Goroutines, after.Goroutines)
	cost := costOf(opened, after, 0)
	r.ServerCores, r.RedisCores, r.ServerRSS, r.RedisRSS = cost.ServerCores, cost.RedisCores, cost.ServerRSS, cost.RedisRSS
}

// each calls f once a second until the function that it returns is called,
// which waits for the last call.
func each(f func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// holder holds sessions, each read by a goroutine of its own. The zero value is
// ready.
type holder struct {
	opened, open atomic.Int64
	messages     atomic.Uint64
	closing      atomic.Bool
	ended        causes

	mu       sync.Mutex
	sessions []*texto.Session
	readers  sync.WaitGroup
}

func (h *holder) hold(s *texto.Session) {
	h.opened.Add(1)
	h.open.Add(1)
	h.mu.Lock()
	h.sessions = append(h.sessions, s)
	h.mu.Unlock()
	h.readers.Go(func() {
		defer s.CloseNow()
		for {
			if _, _, err := s.ReadMessage(); err != nil {
				h.open.Add(-1)
				if !h.closing.Load() {
					h.ended.add(err)
				}
				return
			}
			h.messages.Add(1)
		}
	})
}

// leave closes all sessions in good order and waits for their readers. Nothing
// is added any more.
func (h *holder) leave() {
	h.closing.Store(true)
	deadline := time.Now().Add(leaveTimeout)
	for _, s := range h.sessions {
		_ = s.SetDeadline(deadline)
	}
	for _, s := range h.sessions {
		_ = s.StartClose(wsclient.CloseNormal, "")
	}
	h.readers.Wait()
}
