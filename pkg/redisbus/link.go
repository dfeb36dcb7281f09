package redisbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// lanes publish beside each other: while Redis works on the pipeline of one, the
	// next one's is made and the last one's is answered.
	lanes = 2
	// publishConns is for one pipeline of each lane, and for a connection that a
	// broken one is replaced by.
	publishConns = lanes + 1
	// readConns bounds the reads of histories that are under way at once.
	readConns = 8
)

// link is all that leads to one master: connections, what is published over them,
// and what is subscribed to. A Cluster has one for each partition.
type link struct {
	// Fixed after newLink.
	log     *slog.Logger
	metrics *Metrics
	node    string
	keys    keyspace
	sharded bool // sharded pub/sub
	moves   bool // the master may be another server later
	waits   int  // replicas that must have a message before it counts
	canary  string
	master  *master
	pub     *redis.Client // for the lane
	ask     *redis.Client // for everything else but subscriptions
	sub     *redis.Client
	lanes   []*lane
	hearing *gate // open while this node hears its topics
	table   *table
	healer  *healer
	dials   dialPermit
	started time.Time

	heard     atomic.Int64          // when the canary last came, ns since started; 0: never
	connected atomic.Bool           // the subscriber connection stands
	failure   atomic.Pointer[error] // of the last attempt to connect
	attached  chan struct{}         // a subscriber connection was made: sing at once
	epoch     atomic.Uint64         // of the history that Redis holds; 0: not known yet
	outdated  atomic.Bool           // the receiver is to have outdated topics healed
	former    atomic.Uint64         // epoch, before it changed
	renewed   atomic.Int64          // when epoch changed, ns since started; 0: what came of it is done

	// Owned by the receiver.
	complained time.Time // about a message that is not as it should be
}

func newLink(b *Bus, o *Options, a *address, k keyspace, find finder) *link {
	l := &link{log: b.log, metrics: b.metrics, node: o.Node, keys: k, sharded: a.mode == modeCluster, moves: a.mode != modeSingle, waits: o.WaitReplicas,
		canary: k.canary(o.Node), started: time.Now(), attached: make(chan struct{}, 1)}
	network := a.options.Network
	l.master = newMaster(find, network, o.dial, a.tlsFor)
	common := l.master.clientOptions(o, a)
	pub := *common
	pub.PoolSize = publishConns
	pub.ReadTimeout = publishTimeout // the deadline of a pipeline is what counts
	pub.OnConnect = l.greet
	l.pub = redis.NewClient(&pub)
	ask := *common
	ask.PoolSize = readConns
	ask.OnConnect = l.greet
	l.ask = redis.NewClient(&ask)
	sub := *common
	sub.ClientName += "-sub"
	sub.Dialer = l.dials.dialer(common.Dialer)
	l.sub = redis.NewClient(&sub)
	l.hearing = newGate()
	l.table = newTable(l)
	l.table.keeps = b.keeps
	l.healer = newHealer(l)
	elsewhere := func(addr string) *redis.Client {
		other := *clientOptions(&a.options)
		other.ClientName = common.ClientName
		other.Addr, other.PoolSize, other.TLSConfig = addr, 1, nil
		other.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
			nc, err := o.dial(ctx, network, addr)
			if config := a.tlsFor(addr); err == nil && config != nil {
				nc = tls.Client(nc, config)
			}
			return nc, err
		}
		return redis.NewClient(&other)
	}
	count := lanes
	if l.sharded {
		count = 1 // there are other links
	}
	for range count {
		a := newLane(l, o.WaitReplicas, o.WaitTimeout)
		a.askElsewhere = elsewhere
		l.lanes = append(l.lanes, a)
	}
	return l
}

// laneOf is the one that publishes a topic's messages, in order. What Redis does not
// keep costs it so little that one lane, with longer pipelines, is faster.
func (l *link) laneOf(t relay.Topic) *lane {
	if len(l.lanes) == 1 || !l.table.keeps(t) {
		return l.lanes[0]
	}
	return l.lanes[hashOf(t)/partitions%uint32(len(l.lanes))]
}

// run works until ctx ends.
func (l *link) run(ctx context.Context, r relay.Receiver) {
	var wg sync.WaitGroup
	for _, a := range l.lanes {
		a.flush = r.Flush
		wg.Go(func() { a.run(ctx) })
	}
	wg.Go(func() { l.table.run(ctx) })
	wg.Go(func() { l.healer.run(ctx, r) })
	wg.Go(func() { l.sing(ctx) })
	wg.Go(func() { l.watch(ctx) })
	l.receive(ctx, r)
	wg.Wait()
	for _, a := range l.lanes {
		a.closeWith(relay.ErrClosed)
	}
}

func (l *link) close() error {
	return errors.Join(l.pub.Close(), l.ask.Close(), l.sub.Close())
}

func (l *link) canaryAge() time.Duration {
	if at := l.heard.Load(); at != 0 {
		return time.Since(l.started) - time.Duration(at)
	}
	return time.Since(l.started)
}

func (l *link) ready() error {
	switch age := l.canaryAge(); {
	case l.heard.Load() == 0:
		return l.because("not connected yet")
	case !l.connected.Load():
		return l.because("subscriber connection lost")
	case age > canarySilence:
		return fmt.Errorf("the node has not heard itself for %s", age.Round(time.Millisecond))
	}
	return nil
}

// because adds why the last attempt to connect has failed.
func (l *link) because(what string) error {
	if err := l.failure.Load(); err != nil {
		return fmt.Errorf("%s: %w", what, *err)
	}
	return errors.New(what)
}

// sing publishes the canary until ctx ends.
func (l *link) sing(ctx context.Context) {
	tick := time.NewTicker(canaryInterval)
	defer tick.Stop()
	for {
		l.lanes[0].enqueue(publication{channel: l.canary, payload: "1", at: time.Now()})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-l.attached:
		}
	}
}

// watch asks each second whether the master is still where it was, and whether it
// still is one and holds the history that it held. A master that was demoted and
// lives on tells nobody by itself.
func (l *link) watch(ctx context.Context) {
	tick := time.NewTicker(canaryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !l.connected.Load() {
			continue // the receiver looks for it already
		}
		if at := l.renewed.Load(); at != 0 && time.Since(l.started)-time.Duration(at) >= lateness {
			l.renewed.CompareAndSwap(at, 0)
			l.outdated.Store(true)
		}
		limited, cancel := context.WithTimeout(ctx, canaryInterval)
		moved, err := l.master.follow(limited)
		if moved {
			l.log.Warn("redis has another master, following it")
		} else if err != nil {
			l.log.Debug("nobody tells where the redis master is", "error", err)
		} else if err = l.refresh(limited, l.ask); errors.Is(err, errNotMaster) {
			l.log.Warn("redis is no master any more, looking for the new one")
			l.master.hangUp()
		}
		cancel()
	}
}

// dialPermit lets the subscriber client dial once for each time it is armed. The
// library's PubSub reconnects by itself and subscribes to everything in one
// command; here the receiver decides when to connect, and the table subscribes
// in batches, so that the library's own attempts are refused.
type dialPermit struct {
	armed atomic.Bool
	conn  atomic.Pointer[idleConn] // the connection that was dialled last
}

var (
	errNotArmed = errors.New("subscriber connection lost")
	errMoved    = errors.New("the redis master has moved")
)

func (g *dialPermit) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !g.armed.CompareAndSwap(true, false) {
			return nil, errNotArmed
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &idleConn{Conn: nc, slowly: true}
		g.conn.Store(c)
		if err := ctx.Err(); err != nil { // hangUp may have come too early
			_ = c.Close()
			return nil, err
		}
		return c, nil
	}
}

// hangUp closes the connection that was dialled last, in whatever state it is;
// the library's Close would wait for a handshake under way.
func (g *dialPermit) hangUp() {
	if c := g.conn.Load(); c != nil {
		_ = c.Close() // may have been closed
	}
}

// idleConn is a subscriber's connection. It calls a function before each read from the
// network, which is when all that was read before has been worked on. The library reads
// the handshake, and slowly: it must not have more than that in its buffer when our own
// reader goes on. It is read by one goroutine at a time.
type idleConn struct {
	net.Conn
	beforeRead func() error // set by the goroutine that reads, before it does
	slowly     bool         // give out one byte at a time
	early      []byte       // read from the network and not given out yet
}

func (c *idleConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 && !c.slowly {
		return c.read(p)
	}
	if len(c.early) == 0 {
		b := make([]byte, 1<<10)
		n, err := c.read(b)
		if n == 0 {
			return 0, err
		}
		c.early = b[:n]
	}
	if c.slowly && len(p) > 1 {
		p = p[:1]
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// read reads from the network.
func (c *idleConn) read(p []byte) (int, error) {
	if c.beforeRead != nil {
		if err := c.beforeRead(); err != nil {
			return 0, err
		}
		if err := c.Conn.SetReadDeadline(time.Now().Add(canarySilence)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// SetReadDeadline is the library's, once a message; from the moment that
// beforeRead is set, Read keeps the deadline, once a read.
func (c *idleConn) SetReadDeadline(t time.Time) error {
	if c.beforeRead != nil {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}
