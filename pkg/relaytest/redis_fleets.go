package relaytest

import (
	"context"
	"testing"

	"parley/pkg/redisproc"
)

// StartSentinel runs a master, its replicas and Sentinels until the test ends. It
// returns when all know each other; the test fails when that does not happen
// within twice Patience.
func StartSentinel(tb testing.TB, o redisproc.SentinelOptions) *redisproc.Sentinel {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*Patience)
	defer cancel()
	s, err := redisproc.StartSentinel(ctx, o)
	if err != nil {
		tb.Fatalf("%v\n%s", err, s.Log())
	}
	endWith(tb, s)
	return s
}

// StartCluster runs a Redis Cluster until the test ends. It returns when it works;
// the test fails when that does not happen within twice Patience.
func StartCluster(tb testing.TB, o redisproc.ClusterOptions) *redisproc.Cluster {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 2*Patience)
	defer cancel()
	c, err := redisproc.StartCluster(ctx, o)
	if err != nil {
		tb.Fatalf("%v\n%s", err, c.Log())
	}
	endWith(tb, c)
	return c
}
