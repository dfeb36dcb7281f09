package node

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
)

// fleetAnswer bounds how long somebody who looks at the fleet waits for Redis, and
// leaseGoodbye how long a node that ends tries to give its lease back.
const (
	fleetAnswer  = 2 * time.Second
	leaseGoodbye = 2 * time.Second
)

// newFleet makes this node's part in the fleet: its lease, by which the others know
// that it lives.
func (n *Node) newFleet() (*redisbus.Fleet, error) {
	return redisbus.NewFleet(redisbus.FleetOptions{
		Node:    n.id,
		Address: n.public.Addr().String(),
		Version: Version,
		Counts: func() map[string]int64 {
			return map[string]int64{"connections": int64(n.group.Len()), "topics": int64(n.hub.Len())}
		},
		Client: n.bus.FleetClient,
		Log:    n.log,
	})
}

// leaveFleet gives the lease back; if Redis does not answer it expires by itself.
func (n *Node) leaveFleet() {
	ctx, cancel := context.WithTimeout(context.Background(), leaseGoodbye)
	defer cancel()
	if err := n.fleet.Close(ctx); err != nil {
		n.log.Debug("the lease is left to expire", "error", err)
	}
}

// fleetNode is a node as /fleet shows it.
type fleetNode struct {
	ID      string           `json:"id"`
	Address string           `json:"address"`
	Version string           `json:"version"`
	Started time.Time        `json:"started"`
	Counts  map[string]int64 `json:"counts"`
	Self    bool             `json:"self"`
}

// serveFleet lists the nodes that live, the oldest first.
func (n *Node) serveFleet(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), fleetAnswer)
	defer cancel()
	nodes, err := n.fleet.Nodes(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	slices.SortFunc(nodes, func(a, b relay.Node) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	all := make([]fleetNode, len(nodes))
	for i, x := range nodes {
		all[i] = fleetNode{x.ID, x.Address, x.Version, x.Started, x.Counts, x.ID == n.id}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all)
}
