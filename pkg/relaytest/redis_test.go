package relaytest

import (
	"context"
	"errors"
	"os"
	"testing"

	"parley/pkg/redisproc"
)

func (r *Redis) ping() error { return r.Client().Ping(context.Background()).Err() }

func TestRedisLives(t *testing.T) {
	r := StartRedis(t)
	if want := "redis://" + r.Addr(); r.URL() != want {
		t.Errorf("URL is %q, want %q", r.URL(), want)
	}
	if err := r.ping(); err != nil {
		t.Errorf("after the start: %v", err)
	}

	addr := r.Addr()
	r.Kill()
	r.Kill() // is allowed
	if err := r.ping(); err == nil {
		t.Error("a server that was killed answers")
	}
	r.Restart(t)
	if r.Addr() != addr {
		t.Errorf("restarted on %s, was on %s", r.Addr(), addr)
	}
	if err := r.ping(); err != nil {
		t.Errorf("after the restart: %v", err)
	}

	r.Stop(t)
	if err := r.ping(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stopped server answers or refuses: %v", err)
	}
	r.Cont(t)
	Eventually(t, "the server goes on", func() bool { return r.ping() == nil })
}

func TestSentinelStarts(t *testing.T) {
	NoLeaks(t)
	s := StartSentinel(t, redisproc.SentinelOptions{Replicas: 1})
	master, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if replicas, err := master.Client().Wait(t.Context(), 1, 0).Result(); err != nil || replicas != 1 {
		t.Errorf("%d replicas follow (%v), want 1", replicas, err)
	}
}

func TestClusterStarts(t *testing.T) {
	NoLeaks(t)
	c := StartCluster(t, redisproc.ClusterOptions{Replicas: -1})
	masters, err := c.Masters(t.Context())
	if err != nil || len(masters) != 3 || len(c.Servers) != 3 {
		t.Errorf("%d masters of %d servers (%v), want 3 of 3", len(masters), len(c.Servers), err)
	}
}
