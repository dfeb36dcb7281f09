package relaytest

import (
	"testing"
	"time"
)

// Patience is how long a test waits for what must come, before it calls it
// missing. It is long, since it is no measure of speed: a machine may be busy
// with other things.
const Patience = 30 * time.Second

// Eventually waits until cond is true; the test fails when it is not within
// Patience. Cond is called every few milliseconds.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			tb.Fatalf("not within %v: %s", Patience, what)
		case <-tick.C:
		}
	}
}
