package relaytest

import (
	"testing"

	"parley/pkg/redisproc"
)

// Redis is a real redis-server on a free loopback port, without persistence.
type Redis struct {
	*redisproc.Server
}

// StartRedis runs a redis-server until the test ends. It returns when the server
// answers; the test fails when there is none or it does not start.
func StartRedis(tb testing.TB) *Redis {
	tb.Helper()
	return StartRedisWith(tb, redisproc.Options{Dir: tb.TempDir()})
}

// StartRedisWith is StartRedis with settings: persistence, for one.
func StartRedisWith(tb testing.TB, o redisproc.Options) *Redis {
	tb.Helper()
	s, err := redisproc.Start(o)
	if err != nil {
		tb.Fatal(err)
	}
	endWith(tb, s)
	return &Redis{s}
}

// Restart starts an empty server on the same port, after killing the one that
// runs, and returns when it answers.
func (r *Redis) Restart(tb testing.TB) {
	tb.Helper()
	if err := r.Server.Restart(); err != nil {
		tb.Fatal(err)
	}
}

// Stop suspends the server by SIGSTOP: connections to it stand, and new ones can
// be made, but nothing is answered until Cont.
func (r *Redis) Stop(tb testing.TB) {
	tb.Helper()
	if err := r.Server.Stop(); err != nil {
		tb.Fatal(err)
	}
}

// Cont has a stopped server go on.
func (r *Redis) Cont(tb testing.TB) {
	tb.Helper()
	if err := r.Server.Cont(); err != nil {
		tb.Fatal(err)
	}
}

// endWith ends servers with the test, and shows what they said if it has failed.
func endWith(tb testing.TB, s interface {
	Close() error
	Log() string
}) {
	tb.Helper()
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Errorf("ending redis-server: %v", err)
		}
		if tb.Failed() {
			tb.Logf("redis-server's log:\n%s", s.Log())
		}
	})
}
