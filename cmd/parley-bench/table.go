package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
)

// table is a report for people. The zero value is empty.
type table struct{ b strings.Builder }

// nameWidth is the width of the first column.
const nameWidth = 28

func (t *table) title(format string, args ...any) {
	if t.b.Len() > 0 {
		t.b.WriteByte('\n')
	}
	fmt.Fprintf(&t.b, format+"\n", args...)
}

func (t *table) row(name, format string, args ...any) {
	fmt.Fprintf(&t.b, "  %-*s %s\n", nameWidth, name, fmt.Sprintf(format, args...))
}

func (t *table) line(format string, args ...any) { fmt.Fprintf(&t.b, format+"\n", args...) }

func (t *table) notes(notes []string) {
	for _, n := range notes {
		t.line("note: %s", n)
	}
}

// findings writes the first of them, of so many in all.
func (t *table) findings(first []ledger.Finding, all int) {
	for _, f := range first {
		t.line("  %s", f)
	}
	if more := all - len(first); more > 0 {
		t.line("  and %s more; --ledger FILE lists all", count(uint64(more)))
	}
}

// quantiles writes a row of them, nothing for nil.
func (t *table) quantiles(name string, q *load.Quantiles) {
	if q == nil {
		return
	}
	d := func(us float64) string { return load.Round(time.Duration(us * float64(time.Microsecond))) }
	t.row(name, "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s  mean %s",
		d(q.P50), d(q.P90), d(q.P99), d(q.P999), d(q.Max), d(q.Mean))
}

// cost writes what one unit of work took.
func (t *table) cost(unit string, c load.Cost) {
	for _, who := range []struct {
		name       string
		cpu, cores *float64
		rss        *int64
	}{
		{"server", c.ServerCPU, c.ServerCores, c.ServerRSS},
		{"Redis", c.RedisCPU, c.RedisCores, c.RedisRSS},
		{"generator", c.OwnCPU, c.OwnCores, nil},
	} {
		var parts []string
		if who.cpu != nil {
			parts = append(parts, fmt.Sprintf("%.2f µs CPU a %s", *who.cpu, unit))
		}
		if who.cores != nil {
			parts = append(parts, fmt.Sprintf("%.2f cores", *who.cores))
		}
		if who.rss != nil {
			parts = append(parts, bytesText(*who.rss))
		}
		if len(parts) > 0 {
			t.row(who.name, "%s", strings.Join(parts, "   "))
		}
	}
}

// count writes a number with commas between thousands.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesText writes a size in megabytes.
func bytesText(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
