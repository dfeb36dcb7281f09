package redisproc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Slots is the number of slots of a Cluster.
const Slots = 1 << 14

// migrateBatch is how many keys are moved at once.
const migrateBatch = 100

// ClusterOptions configure a Cluster.
type ClusterOptions struct {
	Dir         string        // for the members' files; "": a temporary one each
	Masters     int           // 0: 3
	Replicas    int           // of each master; 0: 1, -1: none
	NodeTimeout time.Duration // of silence until a member is suspected; 0: 1s
	Args        []string      // more settings of every member
}

// Cluster is a Redis Cluster.
type Cluster struct {
	Servers []*Server // the masters at the start, then their replicas
}

// StartCluster runs one. It returns when every member says that the Cluster works
// and the replicas are in sync. End it with Close.
func StartCluster(ctx context.Context, o ClusterOptions) (_ *Cluster, err error) {
	o.Masters, o.Replicas = cmp.Or(o.Masters, 3), cmp.Or(o.Replicas, 1)
	o.NodeTimeout = cmp.Or(o.NodeTimeout, time.Second)
	o.Replicas = max(0, o.Replicas)
	c := new(Cluster)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	for range o.Masters * (1 + o.Replicas) {
		var portErr error
		server, err := start(Options{Dir: o.Dir, Args: o.Args}, func(port int) []string {
			var bus int
			bus, portErr = freePort()
			return []string{
				"cluster-enabled yes",
				"cluster-port " + strconv.Itoa(bus),
				fmt.Sprintf("cluster-config-file %d.nodes", port),
				fmt.Sprintf("cluster-node-timeout %d", o.NodeTimeout.Milliseconds()),
				"repl-diskless-sync-delay 0",
				"repl-ping-replica-period 1",
			}
		}, "Ready to accept connections")
		if err := errors.Join(err, portErr); err != nil {
			return c, err
		}
		c.Servers = append(c.Servers, server)
	}
	if err := c.form(ctx, o.Masters); err != nil {
		return c, err
	}
	return c, c.WaitReady(ctx)
}

// form makes a Cluster of servers that do not know each other.
func (c *Cluster) form(ctx context.Context, masters int) error {
	first := c.Servers[0]
	for i, s := range c.Servers {
		if i < masters {
			err := errors.Join(
				s.Client().Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(),
				s.Client().ClusterAddSlotsRange(ctx, i*Slots/masters, (i+1)*Slots/masters-1).Err())
			if err != nil {
				return fmt.Errorf("%s: %w", s.Addr(), err)
			}
		}
		if s == first {
			continue
		}
		bus, err := s.Client().ConfigGet(ctx, "cluster-port").Result()
		if err != nil {
			return fmt.Errorf("%s: %w", s.Addr(), err)
		}
		if err := first.Client().Do(ctx, "CLUSTER", "MEET", host, s.port, bus["cluster-port"]).Err(); err != nil {
			return fmt.Errorf("%s: %w", s.Addr(), err)
		}
	}
	if err := await(ctx, "waiting for the members of the Cluster to meet", func() error {
		for _, s := range c.Servers {
			members, err := s.members(ctx)
			if err != nil {
				return err
			}
			if len(members) != len(c.Servers) || slices.ContainsFunc(members, func(m member) bool { return m.is("handshake") }) {
				return fmt.Errorf("%s knows %d of %d members", s.Addr(), len(members), len(c.Servers))
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for i, s := range c.Servers[masters:] {
		me, err := c.Servers[i%masters].myself(ctx)
		if err == nil {
			err = s.Client().ClusterReplicate(ctx, me.id).Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Addr(), err)
		}
	}
	return nil
}

// URL is where clients find it: "redis+cluster://h1,h2,h3", with all members.
func (c *Cluster) URL() string {
	var hosts []string
	for _, s := range c.Servers {
		hosts = append(hosts, s.Addr())
	}
	return "redis+cluster://" + strings.Join(hosts, ",")
}

// WaitReady waits until every member that runs says that the Cluster works, all of
// them name the same owners of all slots, and their replicas are in sync.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return await(ctx, "waiting for the Cluster", func() error {
		if err := c.agree(ctx); err != nil {
			return err
		}
		for _, s := range c.Servers {
			if !s.Running() {
				continue
			}
			text, err := s.Client().ClusterInfo(ctx).Result()
			if err != nil {
				return fmt.Errorf("%s: %w", s.Addr(), err)
			}
			if !strings.Contains(text, "cluster_state:ok") {
				return fmt.Errorf("%s: the Cluster does not work", s.Addr())
			}
			members, err := s.members(ctx)
			if err != nil {
				return err
			}
			for _, m := range members {
				if of := c.at(m.port); of != nil && of.Running() && (m.is("fail") || m.is("fail?") || m.is("handshake")) {
					return fmt.Errorf("%s does not reach %s", s.Addr(), of.Addr())
				}
			}
			if err := replicaInSync(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// agree returns an error unless all members that run name the same owners of all
// slots, and the same age of what each owner says of itself.
func (c *Cluster) agree(ctx context.Context) error {
	var owners string
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		members, err := s.members(ctx)
		if err != nil {
			return err
		}
		if said := ownersOf(members); owners == "" {
			owners = said
		} else if owners != said {
			return fmt.Errorf("%s has another map of the slots than the others", s.Addr())
		}
	}
	return nil
}

// ownersOf says who has which slots since when, in an order of its own.
func ownersOf(members []member) string {
	var lines []string
	for _, m := range members {
		if len(m.slots) > 0 {
			lines = append(lines, fmt.Sprint(m.id, m.epoch, m.slots))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func replicaInSync(ctx context.Context, s *Server) error {
	about, err := s.info(ctx, "replication")
	if err == nil && about["role"] == "slave" && about["master_link_status"] != "up" {
		err = fmt.Errorf("%s is not in sync with its master", s.Addr())
	}
	return err
}

// SlotOwner is the master that has a slot, by what the members say of themselves;
// when two claim it, the one with the later configuration.
func (c *Cluster) SlotOwner(ctx context.Context, slot int) (*Server, error) {
	var owner *Server
	var epoch uint64
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		me, err := s.myself(ctx)
		if err != nil {
			continue // stopped or on its way down
		}
		if me.is("master") && me.has(slot) && (owner == nil || me.epoch > epoch) {
			owner, epoch = s, me.epoch
		}
	}
	if owner == nil {
		return nil, fmt.Errorf("nobody in the Cluster has slot %d", slot)
	}
	return owner, nil
}

// Masters are the members that have slots and run.
func (c *Cluster) Masters(ctx context.Context) ([]*Server, error) {
	var masters []*Server
	for _, s := range c.Servers {
		if !s.Running() {
			continue
		}
		me, err := s.myself(ctx)
		if err != nil {
			return nil, err
		}
		if me.is("master") && len(me.slots) > 0 {
			masters = append(masters, s)
		}
	}
	return masters, nil
}

// KillMaster ends the master that has a slot by SIGKILL and returns which it was.
// It does not wait for the failover. After that Server.Restart makes it a replica,
// and WaitReady waits for it.
func (c *Cluster) KillMaster(ctx context.Context, slot int) (*Server, error) {
	owner, err := c.SlotOwner(ctx, slot)
	if err != nil {
		return nil, err
	}
	owner.Kill()
	return owner, nil
}

// WaitOwner waits until a slot belongs to another server than the given one, which
// may be dead.
func (c *Cluster) WaitOwner(ctx context.Context, slot int, not *Server) (owner *Server, err error) {
	err = await(ctx, "waiting for another master", func() error {
		if owner, err = c.SlotOwner(ctx, slot); err == nil && owner == not {
			err = fmt.Errorf("%s still has slot %d", not.Addr(), slot)
		}
		return err
	})
	return owner, err
}

// MoveSlot moves a slot and its keys to another master while clients go on. It
// returns when all members agree on that, since a slot that moves on before may be
// left to nobody; and it begins when they agree on the present owners.
func (c *Cluster) MoveSlot(ctx context.Context, slot int, to *Server) error {
	settled := func() error {
		return await(ctx, "waiting for the Cluster to agree on its slots", func() error { return c.agree(ctx) })
	}
	if err := settled(); err != nil {
		return err
	}
	from, err := c.SlotOwner(ctx, slot)
	if err != nil || from == to {
		return err
	}
	source, err := from.myself(ctx)
	if err != nil {
		return err
	}
	target, err := to.myself(ctx)
	if err != nil {
		return err
	}
	if !target.is("master") {
		return fmt.Errorf("slot %d cannot move to %s, a replica", slot, to.Addr())
	}
	if err := to.Client().Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id).Err(); err != nil {
		return fmt.Errorf("importing slot %d on %s: %w", slot, to.Addr(), err)
	}
	if err := from.Client().Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id).Err(); err != nil {
		return fmt.Errorf("migrating slot %d from %s: %w", slot, from.Addr(), err)
	}
	for {
		keys, err := from.Client().ClusterGetKeysInSlot(ctx, slot, migrateBatch).Result()
		if err != nil {
			return fmt.Errorf("listing slot %d of %s: %w", slot, from.Addr(), err)
		}
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", host, to.port, "", 0, askTimeout.Milliseconds(), "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := from.Client().Do(ctx, args...).Err(); err != nil {
			return fmt.Errorf("moving keys of slot %d from %s to %s: %w", slot, from.Addr(), to.Addr(), err)
		}
	}
	// First those two, the new owner before the old one, so that the slot always
	// has one.
	masters, err := c.Masters(ctx)
	if err != nil {
		return err
	}
	masters = slices.DeleteFunc(masters, func(s *Server) bool { return s == from || s == to })
	for _, s := range append([]*Server{to, from}, masters...) {
		if err := s.Client().Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", target.id).Err(); err != nil {
			return fmt.Errorf("telling %s of slot %d: %w", s.Addr(), slot, err)
		}
	}
	return settled()
}

// Close ends all members.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.Servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Log is the end of what all members have said.
func (c *Cluster) Log() string { return logs(c.Servers) }

func (c *Cluster) at(port int) *Server {
	for _, s := range c.Servers {
		if s.port == port {
			return s
		}
	}
	return nil
}
