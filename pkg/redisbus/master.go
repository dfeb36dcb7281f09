package redisbus

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// finder tells where the master is now. It may ask the network.
type finder func(ctx context.Context) (addr string, err error)

// master is the Redis server that a link works with: at any time one, and all
// connections of the link lead to it. When it has moved they are closed.
type master struct {
	// Fixed.
	find    finder
	network string
	dial    dialFunc
	tls     func(addr string) *tls.Config // nil result: without

	mu    sync.Mutex
	addr  string // "" until it was found
	conns map[*masterConn]struct{}
}

func newMaster(find finder, network string, dial dialFunc, tls func(string) *tls.Config) *master {
	return &master{find: find, network: network, dial: dial, tls: tls, conns: map[*masterConn]struct{}{}}
}

// clientOptions are those of a client of the library that leads to the master.
func (m *master) clientOptions(o *Options, a *address) *redis.Options {
	options := clientOptions(&a.options)
	options.ClientName = "parley-" + o.Node
	options.Addr = a.hosts[0] // for messages; master knows better
	options.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) { return m.connect(ctx) }
	options.TLSConfig = nil // connect sees to that
	return options
}

// connect opens a connection to where the master is now.
func (m *master) connect(ctx context.Context) (net.Conn, error) {
	if _, err := m.follow(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	addr := m.addr
	m.mu.Unlock()
	nc, err := m.dial(ctx, m.network, addr)
	if err != nil {
		return nil, err
	}
	if config := m.tls(addr); config != nil {
		nc = tls.Client(nc, config)
	}
	c := &masterConn{Conn: nc, master: m}
	m.mu.Lock()
	moved := m.addr != addr
	if !moved {
		m.conns[c] = struct{}{}
	}
	m.mu.Unlock()
	if moved {
		_ = nc.Close()
		return nil, errMoved
	}
	if raw, ok := nc.(syscall.Conn); ok {
		return &rawMasterConn{c, raw}, nil
	}
	return c, nil
}

// follow asks where the master is, and if that is not where it was, closes what
// leads there. It returns whether it has moved.
func (m *master) follow(ctx context.Context) (moved bool, err error) {
	addr, err := m.find(ctx)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	moved = m.addr != "" && m.addr != addr
	m.addr = addr
	m.mu.Unlock()
	if moved {
		m.hangUp()
	}
	return moved, nil
}

// hangUp closes all connections.
func (m *master) hangUp() {
	m.mu.Lock()
	conns := m.conns
	m.conns = map[*masterConn]struct{}{}
	m.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // may have been closed
	}
}

// masterConn is one connection.
type masterConn struct {
	net.Conn
	master *master
}

func (c *masterConn) Close() error {
	c.master.mu.Lock()
	delete(c.master.conns, c)
	c.master.mu.Unlock()
	return c.Conn.Close()
}

// rawMasterConn lets the library look whether an idle connection still stands.
type rawMasterConn struct {
	*masterConn
	raw syscall.Conn
}

func (c *rawMasterConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }
