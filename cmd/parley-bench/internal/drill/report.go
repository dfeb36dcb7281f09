package drill

import (
	"fmt"
	"slices"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
)

// Report is what a drill has found.
type Report struct {
	Drill   string  `json:"drill"`
	Passes  string  `json:"passes_when"`
	OK      bool    `json:"ok"`
	Seed    uint64  `json:"seed"`
	Quick   bool    `json:"quick,omitempty"` // with fewer rounds than the rule wants
	Rounds  int     `json:"rounds"`          // that were played
	Seconds float64 `json:"seconds"`
	// Failures are the promises that broke, or why the drill could not be played.
	Failures    []string `json:"failures"`
	Interrupted bool     `json:"interrupted,omitempty"`

	Messages ledger.Totals `json:"messages"`
	Clients  crowd.Events  `json:"clients"`
	// Back is the time from each fault to the first message that was sent after
	// it and both acknowledged and delivered; AllBack until that held for every
	// pair of clients that the fault concerned.
	Back      *Times `json:"service_back,omitempty"`
	AllBack   *Times `json:"all_pairs_back,omitempty"`
	Reconnect *Times `json:"reconnect,omitempty"`
	Answer    *Times `json:"answer,omitempty"`

	Checks   []Check          `json:"checks"`
	Findings []ledger.Finding `json:"findings"`
	Found    int              `json:"found_in_all"`
	Logs     string           `json:"logs,omitempty"` // the directory where they were left

	back, allBack []time.Duration
	ledger        *ledger.Ledger
	room          *ledger.Room // nil: the drill has none
}

// Check is one condition of a drill.
type Check struct {
	What  string `json:"what"`
	Got   string `json:"got"`
	Limit string `json:"limit,omitempty"` // "" for what is only told
	OK    bool   `json:"ok"`
}

// Times sums up measured times, in milliseconds.
type Times struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timesOf sums up a few times, nil for none. The p99 of fewer than a hundred is
// the longest.
func timesOf(all []time.Duration) *Times {
	if len(all) == 0 {
		return nil
	}
	all = slices.Sorted(slices.Values(all))
	at := func(q float64) float64 { return milliseconds(all[min(int(q*float64(len(all))), len(all)-1)]) }
	return &Times{Count: len(all), P50: at(0.5), P99: at(0.99), Max: milliseconds(all[len(all)-1])}
}

// timesIn sums up histograms, nil when nothing is in them.
func timesIn(all ...*hist.Histogram) *Times {
	var s hist.Snapshot
	for _, h := range all {
		s.Add(h)
	}
	if s.Count == 0 {
		return nil
	}
	return &Times{Count: int(s.Count), P50: milliseconds(s.Quantile(0.5)), P99: milliseconds(s.Quantile(0.99)),
		Max: milliseconds(s.Max)}
}

// Ledger is the account of the drill's messages, nil when it was not begun.
func (r *Report) Ledger() *ledger.Ledger { return r.ledger }

// Account passes all findings of the drill to yield until that returns false.
func (r *Report) Account(yield func(ledger.Finding) bool) {
	going := true
	r.ledger.Findings(func(f ledger.Finding) bool {
		going = yield(f)
		return going
	})
	if going && r.room != nil {
		r.room.Findings(yield)
	}
}

// broken returns the first findings that break a promise, and how many there are.
func (r *Report) broken() (first []ledger.Finding, all int) {
	first = []ledger.Finding{} // an empty list in JSON, not null
	for f := range r.Account {
		if f.Kind.Breaks() {
			if all++; all <= findingsShown {
				first = append(first, f)
			}
		}
	}
	return first, all
}

// tell notes a figure that nothing depends on.
func (r *Report) tell(what, format string, args ...any) {
	r.Checks = append(r.Checks, Check{What: what, Got: fmt.Sprintf(format, args...), OK: true})
}

// check notes a condition, and a failure when it does not hold.
func (r *Report) check(ok bool, what, got, limit string) {
	r.Checks = append(r.Checks, Check{What: what, Got: got, Limit: limit, OK: ok})
	if !ok {
		r.Failures = append(r.Failures, fmt.Sprintf("%s: %s, want %s", what, got, limit))
	}
}

// none checks that something has not happened.
func (r *Report) none(what string, n uint64) {
	r.check(n == 0, what, fmt.Sprint(n), "0")
}

// within checks a time against its bound.
func (r *Report) within(what string, got, bound time.Duration) {
	r.check(got <= bound, what, round(got), "at most "+round(bound))
}

// ratio checks that a time has not grown beyond so many times what it was.
func (r *Report) ratio(what string, before, after time.Duration, most float64) {
	times := 0.0
	if before > 0 {
		times = float64(after) / float64(before)
	}
	r.check(before > 0 && times <= most, what, fmt.Sprintf("%s, before it %s: %.2f times", round(after), round(before), times),
		fmt.Sprintf("at most %g times", most))
}

// round makes a time readable.
func round(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
