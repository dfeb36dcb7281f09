package redisbus

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// fleetConns bounds the questions about the fleet's keys that are under way at once.
const fleetConns = 2

// fleetKeys lead to the master that has the fleet's keys: the only one, or that of
// their slot.
type fleetKeys struct {
	client *redis.Client
	master *master
}

// newFleetKeys is for a Cluster.
func newFleetKeys(o *Options, a *address, find finder) *fleetKeys {
	return fleetKeysOn(newMaster(find, a.options.Network, o.dial, a.tlsFor), o, a, nil)
}

// fleetKeysOn has connections of its own, so that no crowd of other questions delays
// a lease. greet, if it is not nil, is called for each.
func fleetKeysOn(m *master, o *Options, a *address, greet func(context.Context, *redis.Conn) error) *fleetKeys {
	options := m.clientOptions(o, a)
	options.PoolSize = fleetConns
	options.OnConnect = greet
	return &fleetKeys{client: redis.NewClient(options), master: m}
}

func (f *fleetKeys) close() error {
	return f.client.Close()
}

// FleetClient is for FleetOptions.Client. It fails when the master cannot be found.
func (b *Bus) FleetClient(ctx context.Context) (FleetClient, error) {
	if _, err := b.fleet.master.follow(ctx); err != nil {
		return nil, err
	}
	return b.fleet.client, nil
}
