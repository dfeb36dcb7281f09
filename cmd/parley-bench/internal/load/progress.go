package load

import (
	"fmt"
	"time"

	"parley/cmd/parley-bench/internal/hist"
)

// progress returns what reports the state of the run, to be called once a
// second by one goroutine.
func (r *direct) progress(start time.Time) func() {
	var before hist.Snapshot
	var delivered uint64
	at := start
	return func() {
		var now hist.Snapshot
		for i := range r.latency {
			now.Add(&r.latency[i])
		}
		interval := now.Since(before)
		var all uint64
		for _, p := range r.pairs {
			all += p.delivered.Load()
		}
		elapsed := time.Since(at)
		rate := float64(all-delivered) / elapsed.Seconds()
		t := r.ledger.Totals()
		phase := "measuring"
		switch done := time.Since(start); {
		case r.now() >= r.to.Load():
			phase = "draining"
		case done < r.Warmup:
			phase = "warming up"
		}
		line := fmt.Sprintf("%s/%s %s  %s/s", time.Since(start).Round(time.Second), (r.Warmup + r.Duration).Round(time.Second), phase, Short(rate))
		if interval.Count > 0 {
			line += fmt.Sprintf("  p50 %s p99 %s", Round(interval.Quantile(0.5)), Round(interval.Quantile(0.99)))
		}
		for _, n := range []struct {
			n    uint64
			what string
		}{
			{t.Refused, "refused"}, {t.Duplicated, "duplicated"}, {t.Reordered, "reordered"}, {t.Foreign, "foreign"},
		} {
			if n.n > 0 {
				line += fmt.Sprintf("  %d %s", n.n, n.what)
			}
		}
		if _, ended := r.ended.all(); ended > 0 {
			line += fmt.Sprintf("  %d connections ended", ended)
		}
		r.Progress(line)
		before, delivered, at = now, all, at.Add(elapsed)
	}
}

// Short writes a count with three or four digits: 987, 12.3k, 4.56M.
func Short(n float64) string {
	switch {
	case n < 10:
		return fmt.Sprintf("%.3g", n)
	case n < 10e3:
		return fmt.Sprintf("%.0f", n)
	case n < 100e3:
		return fmt.Sprintf("%.1fk", n/1e3)
	case n < 1e6:
		return fmt.Sprintf("%.0fk", n/1e3)
	}
	return fmt.Sprintf("%.2fM", n/1e6)
}

// Round writes a duration with about three digits.
func Round(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}
