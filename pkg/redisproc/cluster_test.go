package redisproc

import (
	"fmt"
	"strings"
	"testing"
)

func TestCluster(t *testing.T) {
	ctx := deadline(t)
	c, err := StartCluster(ctx, ClusterOptions{})
	must(t, err)
	finish(t, c)
	if !strings.HasPrefix(c.URL(), "redis+cluster://127.0.0.1:") || strings.Count(c.URL(), ",") != 5 {
		t.Errorf("URL is %q", c.URL())
	}
	const key = "{fleet}"
	n, err := c.Servers[0].Client().ClusterKeySlot(ctx, key).Result()
	must(t, err)
	slot := int(n)
	owner, err := c.SlotOwner(ctx, slot)
	must(t, err)
	const keys = 2*migrateBatch + 1
	for i := range keys {
		must(t, owner.Client().Set(ctx, fmt.Sprint(key, i), i, 0).Err())
	}

	masters, err := c.Masters(ctx)
	must(t, err)
	if len(masters) != 3 {
		t.Fatalf("%d masters, want 3", len(masters))
	}
	to := masters[0]
	if to == owner {
		to = masters[1]
	}
	must(t, c.MoveSlot(ctx, slot, to))
	must(t, c.MoveSlot(ctx, slot, to)) // is there
	if now, err := c.SlotOwner(ctx, slot); err != nil || now != to {
		t.Errorf("the slot's owner is %v (%v), want %s", now, err, to.Addr())
	}
	if n, err := to.Client().ClusterCountKeysInSlot(ctx, slot).Result(); err != nil || n != keys {
		t.Errorf("%d keys have moved (%v), want %d", n, err, keys)
	}
	// To and fro, at once.
	for range 3 {
		must(t, c.MoveSlot(ctx, slot, owner))
		must(t, c.MoveSlot(ctx, slot, to))
	}
	must(t, c.WaitReady(ctx))
	if now, err := c.SlotOwner(ctx, slot); err != nil || now != to {
		t.Errorf("the slot's owner is %v (%v), want %s", now, err, to.Addr())
	}

	killed, err := c.KillMaster(ctx, slot)
	must(t, err)
	if killed != to {
		t.Errorf("killed %s, the slot's owner was %s", killed.Addr(), to.Addr())
	}
	successor, err := c.WaitOwner(ctx, slot, killed)
	must(t, err)
	if n, err := successor.Client().ClusterCountKeysInSlot(ctx, slot).Result(); err != nil || n != keys {
		t.Errorf("the successor has %d keys (%v), want %d", n, err, keys)
	}
	must(t, killed.Restart())
	must(t, c.WaitReady(ctx))
	if err := c.MoveSlot(ctx, slot, killed); err == nil {
		t.Error("a slot was moved to a replica")
	}
}
