// Package load drives a fleet: directed messages between pairs, a chat room, relay
// rooms, idle connections, connections one after the other. Each scenario is a
// struct of settings with a Run method that blocks until the run is over and
// returns what was measured; cancelling its context ends the run early, and
// what was measured so far is returned all the same.
package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Fleet says where connections go and how they are opened. Fixed before a run.
type Fleet struct {
	Targets     []wsclient.Target // at least one; connections take turns
	Sources     []net.IP          // source addresses that take turns; none: any
	Concurrency int               // connections being opened at once, at least one
	Timeout     time.Duration     // for one connection, up to its greeting
	TLS         *tls.Config       // nil: the default
}

func (f *Fleet) dialer(readBuffer int) *wsclient.Dialer {
	return &wsclient.Dialer{Timeout: f.Timeout, TLS: f.TLS, ReadBuffer: readBuffer}
}

// target returns the server whose turn it is.
func (f *Fleet) target(turn int) wsclient.Target { return f.Targets[turn%len(f.Targets)] }

// source returns the source address of the i-th connection; nil is any.
func (f *Fleet) source(i int) net.IP {
	if len(f.Sources) == 0 {
		return nil
	}
	return f.Sources[i%len(f.Sources)]
}

// spareFiles is what a run needs besides its connections.
const spareFiles = 64

// admit tells whether this machine lets the run hold so many connections.
func (f *Fleet) admit(connections int) error {
	if err := host.RaiseFiles(uint64(connections + spareFiles)); err != nil {
		return err
	}
	return host.CheckPorts(connections, max(len(f.Sources), 1), len(f.Targets))
}

// serverFiles says which server processes may not open enough files for their
// share of the connections. What /proc does not tell is left out.
func serverFiles(p probe.Probe, connections int) (notes []string) {
	share := uint64((connections + len(p.ServerPIDs) - 1) / max(len(p.ServerPIDs), 1))
	for _, pid := range p.ServerPIDs {
		if limit, err := host.FileLimit(pid); err == nil && limit < share {
			notes = append(notes, fmt.Sprintf("server process %d may open %d files (RLIMIT_NOFILE), and its share of the connections is %d",
				pid, limit, share))
		}
	}
	return notes
}

// open opens n sessions, Concurrency at once, and calls each for every one of
// them, or its error, from any of the opening goroutines. When each returns
// false no further ones are opened. turn gives the target's turn of the i-th.
// It returns when the last call of each has.
func (f *Fleet) open(ctx context.Context, n, readBuffer int, turn func(i int) int,
	each func(i int, s *texto.Session, took time.Duration, err error) bool) {
	d := f.dialer(readBuffer)
	openAll(ctx, f.Concurrency, n, func(i int) (*texto.Session, error) {
		s, _, err := texto.Open(ctx, d, f.target(turn(i)), f.source(i))
		return s, err
	}, each)
}

// openAll is open for any kind of session.
func openAll[S any](ctx context.Context, concurrency, n int, one func(i int) (S, error), each func(i int, s S, took time.Duration, err error) bool) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(concurrency, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= n || ctx.Err() != nil {
					return
				}
				start := time.Now()
				s, err := one(i)
				if !each(i, s, time.Since(start), err) {
					next.Store(int64(n))
					return
				}
			}
		})
	}
	wg.Wait()
}

// Quantiles sums up measured times, in microseconds.
type Quantiles struct {
	Count uint64  `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	Max   float64 `json:"max_us"`
}

// quantiles returns nil when nothing was counted.
func quantiles(histograms ...*hist.Histogram) *Quantiles {
	var s hist.Snapshot
	for _, h := range histograms {
		s.Add(h)
	}
	if s.Count == 0 {
		return nil
	}
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	return &Quantiles{Count: s.Count, Mean: us(s.Mean()), P50: us(s.Quantile(0.5)), P90: us(s.Quantile(0.9)),
		P99: us(s.Quantile(0.99)), P999: us(s.Quantile(0.999)), Max: us(s.Max)}
}

// causes counts failures by what they have in common. The zero value is ready.
type causes struct {
	mu    sync.Mutex
	count map[string]int
	first error
}

func (c *causes) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count, c.first = map[string]int{}, err
	}
	c.count[texto.Cause(err)]++
}

// all returns the counts, and how many failures there are.
func (c *causes) all() (map[string]int, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	for _, n := range c.count {
		total += n
	}
	return maps.Clone(c.count), total
}

// example returns the first failure as it was, "" without one.
func (c *causes) example() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		return ""
	}
	return c.first.Error()
}

// Counted writes counts as "2 closed with 1012, 1 timed out", the most
// frequent first.
func Counted(count map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		if d := count[b] - count[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%d %s", count[k], k)
	}
	return strings.Join(parts, ", ")
}

// watch waits until the moment given, or until ctx or done ends, and calls
// progress each second. It returns true when the moment was reached.
func watch(ctx context.Context, until time.Time, done <-chan struct{}, progress func()) bool {
	end := time.NewTimer(time.Until(until))
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return true
		case <-ctx.Done():
			return false
		case <-done:
			return false
		case <-tick.C:
			progress()
		}
	}
}
