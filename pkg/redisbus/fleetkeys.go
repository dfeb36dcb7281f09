package redisbus

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// fleetKeys lead to the master that has the fleet's keys: the only one, or that of
// their slot.
type fleetKeys struct {
	client *redis.Client
	master *master // nil: a link's, which looks after it
}

// newFleetKeys is for a Cluster.
func newFleetKeys(o *Options, a *address, find finder) *fleetKeys {
	f := &fleetKeys{master: newMaster(find, a.options.Network, o.dial, a.tlsFor)}
	options := clientOptions(&a.options)
	options.ClientName = "parley-" + o.Node
	options.Addr = a.hosts[0] // for messages; master knows better
	options.PoolSize = readConns
	options.TLSConfig = nil // master sees to that
	options.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { return f.master.connect(ctx) }
	f.client = redis.NewClient(options)
	return f
}

func (f *fleetKeys) close() error {
	if f.master == nil {
		return nil
	}
	return f.client.Close()
}

// FleetClient is for FleetOptions.Client. It fails when the master cannot be found.
func (b *Bus) FleetClient(ctx context.Context) (FleetClient, error) {
	if b.fleet.master != nil {
		if _, err := b.fleet.master.follow(ctx); err != nil {
			return nil, err
		}
	}
	return b.fleet.client, nil
}
