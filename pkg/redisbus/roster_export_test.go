package redisbus

import (
	"context"
	"net"
)

// WithDial has a bus reach Redis through dial.
func (o Options) WithDial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Options {
	o.dial = dial
	return o
}

// Node is the id of the bus's node.
func (b *Bus) Node() string { return b.links[0].node }

// Flush has a Redis that is no Cluster lose its data.
func (b *Bus) Flush(ctx context.Context) error { return b.links[0].ask.FlushAll(ctx).Err() }
