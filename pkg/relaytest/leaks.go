package relaytest

import (
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// NoLeaks has the test fail when, after all that was registered with Cleanup
// later on, goroutines or file descriptors are left that were not there when it
// was called. Call it first; not in a test that runs in parallel with others.
func NoLeaks(tb testing.TB) {
	tb.Helper()
	// The runtime's own descriptors come with the first network connection.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	before := Descriptors(tb)
	ours := goleak.IgnoreCurrent()
	tb.Cleanup(func() {
		deadline := time.Now().Add(Patience)
		for {
			err := goleak.Find(ours) // tries for a while by itself
			more := Descriptors(tb) - before
			if err == nil && more <= 0 {
				return
			}
			if time.Now().After(deadline) {
				tb.Errorf("left behind: %d file descriptors; goroutines: %v", more, err)
				return
			}
		}
	})
}

// Descriptors is the number of this process's open files and sockets.
func Descriptors(tb testing.TB) int {
	tb.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(open)
}
