package redisproc

import (
	"strings"
	"testing"
)

func TestSentinel(t *testing.T) {
	ctx := deadline(t)
	s, err := StartSentinel(ctx, SentinelOptions{})
	must(t, err)
	finish(t, s)
	if !strings.HasPrefix(s.URL(), "redis+sentinel://127.0.0.1:") || strings.Count(s.URL(), ",") != 2 || !strings.HasSuffix(s.URL(), "/mymaster") {
		t.Errorf("URL is %q", s.URL())
	}
	first, err := s.Master(ctx)
	must(t, err)
	if first != s.Servers[0] {
		t.Errorf("the master is %s, want %s", first.Addr(), s.Servers[0].Addr())
	}
	must(t, first.Client().Set(ctx, "k", "1", 0).Err())

	// Killed: another one takes over, the dead one comes back as its replica.
	killed, err := s.KillMaster(ctx)
	must(t, err)
	second, err := s.WaitMoved(ctx, killed)
	must(t, err)
	must(t, s.Rejoin(ctx, killed))
	if v, err := second.Client().Get(ctx, "k").Result(); err != nil || v != "1" {
		t.Errorf("after the failover: %q, %v", v, err)
	}
	must(t, s.WaitReady(ctx))

	// Demoted: the old master lives on, as a replica.
	from, to, err := s.Failover(ctx)
	must(t, err)
	if from != second || to == second {
		t.Errorf("failover from %s to %s, the master was %s", from.Addr(), to.Addr(), second.Addr())
	}
	must(t, s.WaitReady(ctx))
	if about, err := from.info(ctx, "replication"); err != nil || about["role"] != "slave" {
		t.Errorf("the old master is a %s (%v)", about["role"], err)
	}
}

func TestSentinelIsolate(t *testing.T) {
	ctx := deadline(t)
	s, err := StartSentinel(ctx, SentinelOptions{})
	must(t, err)
	finish(t, s)
	old, err := s.Master(ctx)
	must(t, err)
	client := old.Client() // is connected
	must(t, client.Set(ctx, "k", "before", 0).Err())
	must(t, s.Isolate(ctx, old))
	must(t, client.Set(ctx, "k", "into the void", 0).Err())
	now, err := s.WaitMoved(ctx, old)
	must(t, err)
	if v, err := now.Client().Get(ctx, "k").Result(); err != nil || v != "before" {
		t.Errorf("the new master has %q, %v", v, err)
	}
	if v, err := client.Get(ctx, "k").Result(); err != nil || v != "into the void" {
		t.Errorf("the old master has %q, %v", v, err)
	}
	if about, err := old.info(ctx, "replication"); err != nil || about["role"] != "master" {
		t.Errorf("the old master is a %s (%v) while it is cut off", about["role"], err)
	}
	must(t, s.Heal(ctx, old))
	must(t, s.WaitReady(ctx))
	if v, err := client.Get(ctx, "k").Result(); err != nil || v != "before" {
		t.Errorf("healed, the old master has %q, %v", v, err)
	}
}
