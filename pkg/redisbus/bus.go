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
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"parley/pkg/relay"
)

const (
	// publishTimeout bounds the wait of one publish, queueing included; it
	// leaves room below the two seconds that relay.Publisher promises.
	publishTimeout = 1800 * time.Millisecond
	// dialTimeout bounds one attempt to connect, the handshake included.
	dialTimeout = time.Second
	// canaryInterval is the time between two messages of a node to itself.
	canaryInterval = time.Second
	// canarySilence is how long the canary may be silent before the subscriber
	// connection is replaced.
	canarySilence = 3 * time.Second
	// reconnectMin and reconnectMax bound the pause between two attempts.
	reconnectMin = 25 * time.Millisecond
	reconnectMax = 400 * time.Millisecond
)

// The library writes a line of its own to standard error for every failed dial.
// All that it tells comes back as errors too, which are logged here.
func init() { logging.Disable() }

// Options configure a Bus. They are not changed after New.
type Options struct {
	URL  string // redis:// or rediss://
	Node string // id of this node, unique in the fleet and to this start
	Log  *slog.Logger

	dial dialFunc // nil: over the network
}

// dialFunc makes a connection to Redis.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Bus is a relay.Broker on Redis. All methods may be called from any goroutine.
type Bus struct {
	// Fixed after New.
	log     *slog.Logger
	canary  string // channel
	metrics *Metrics
	pub     *redis.Client
	sub     *redis.Client
	lane    *lane
	table   *table
	dials   dialPermit
	started time.Time

	heard     atomic.Int64  // when the canary last came, ns since started; 0: never
	connected atomic.Bool   // the subscriber connection stands
	attached  chan struct{} // a subscriber connection was made: sing at once

	// Owned by the receiver.
	complained time.Time // about an unreadable message
}

var _ relay.Broker = (*Bus)(nil)

// New makes a bus; it does not connect. Run makes it work.
func New(o Options) (*Bus, error) {
	options, err := redis.ParseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	b := &Bus{log: o.Log, started: time.Now(), canary: canaryChannel(o.Node), attached: make(chan struct{}, 1)}
	b.metrics = newMetrics(func() float64 { return b.CanaryAge().Seconds() })
	options.ClientName = "parley-" + o.Node
	options.DialTimeout = dialTimeout
	options.ReadTimeout = dialTimeout
	options.WriteTimeout = dialTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1   // a publish sent twice would be a message doubled
	options.DialerRetries = 1 // Run and the lane have their own pace
	options.Protocol = 2      // pub/sub needs no more, and parses faster
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	dial := dialFunc((&net.Dialer{Timeout: dialTimeout}).DialContext)
	pub := *options
	pub.PoolSize = 4
	pub.ReadTimeout = publishTimeout // the deadline of a pipeline is what counts
	if o.dial != nil {
		dial, pub.Dialer = o.dial, o.dial
	}
	b.pub = redis.NewClient(&pub)
	sub := *options
	sub.ClientName += "-sub"
	sub.Dialer = b.dials.dialer(dial, sub.TLSConfig)
	b.sub = redis.NewClient(&sub)
	hearing := newGate()
	b.lane = newLane(b.pub, b.metrics, hearing)
	b.table = newTable(b.metrics, hearing)
	return b, nil
}

// Metrics are the bus's figures, to be registered once.
func (b *Bus) Metrics() *Metrics { return b.metrics }

// CanaryAge is the time since the node last heard itself through Redis, or since
// its start when it never has.
func (b *Bus) CanaryAge() time.Duration {
	if at := b.heard.Load(); at != 0 {
		return time.Since(b.started) - time.Duration(at)
	}
	return time.Since(b.started)
}

// Ready tells whether Redis answers: the subscriber connection stands and the
// canary has been heard lately.
func (b *Bus) Ready() error {
	switch age := b.CanaryAge(); {
	case b.heard.Load() == 0:
		return fmt.Errorf("%w: not connected yet", relay.ErrUnavailable)
	case !b.connected.Load():
		return fmt.Errorf("%w: subscriber connection lost", relay.ErrUnavailable)
	case age > canarySilence:
		return fmt.Errorf("%w: the node has not heard itself for %s", relay.ErrUnavailable, age.Round(time.Millisecond))
	}
	return nil
}

// Run implements relay.Broker.
func (b *Bus) Run(ctx context.Context, r relay.Receiver) error {
	b.lane.flush = r.Flush
	var wg sync.WaitGroup
	wg.Go(func() { b.lane.run(ctx) })
	wg.Go(func() { b.table.run(ctx) })
	wg.Go(func() { b.sing(ctx) })
	b.receive(ctx, r)
	wg.Wait()
	b.lane.closeWith(relay.ErrClosed)
	return errors.Join(b.pub.Close(), b.sub.Close())
}

// sing publishes the canary until ctx ends.
func (b *Bus) sing(ctx context.Context) {
	tick := time.NewTicker(canaryInterval)
	defer tick.Stop()
	for {
		b.lane.enqueue(publication{channel: b.canary, payload: "1", at: time.Now()})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-b.attached:
		}
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

var errNotArmed = errors.New("subscriber connection lost")

func (g *dialPermit) dialer(dial dialFunc, tlsConfig *tls.Config) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !g.armed.CompareAndSwap(true, false) {
			return nil, errNotArmed
		}
		nc, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if tlsConfig != nil {
			nc = tls.Client(nc, tlsConfig)
		}
		c := &idleConn{Conn: nc}
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

// idleConn calls a function before each read from the network, which is when
// the library has consumed all that it had read.
type idleConn struct {
	net.Conn
	beforeRead func() error // set by the goroutine that reads, before it does
}

func (c *idleConn) Read(p []byte) (int, error) {
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
