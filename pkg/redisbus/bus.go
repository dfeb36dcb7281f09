package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
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
	// followMax is reconnectMax where another server may be the master at any
	// moment, which is found out before each attempt.
	followMax = 100 * time.Millisecond
	// MaxWaitTimeout is the most that replicas may be waited for: what is left of
	// publishTimeout is for the way to Redis and back.
	MaxWaitTimeout = 1500 * time.Millisecond
)

// The library writes a line of its own to standard error for every failed dial.
// All that it tells comes back as errors too, which are logged here.
func init() { logging.Disable() }

// Options configure a Bus. They are not changed after New.
type Options struct {
	URL         string // see CheckURL
	Credentials Credentials
	Node        string // id of this node, unique in the fleet and to this start
	// WaitReplicas is how many replicas must have a message before its sender is
	// told that it was accepted; 0: none. All nodes of a fleet need the same.
	WaitReplicas int
	WaitTimeout  time.Duration // for that; at most 1.5 s
	// Keeps tells which topics have all their messages kept, so that none heard of
	// means that there was none; nil: none does.
	Keeps func(relay.Topic) bool
	Log   *slog.Logger

	dial dialFunc // nil: over the network
}

// Check tells what is wrong with the options, nothing of which is a secret. It
// reads Credentials.CAFile.
func (o Options) Check() error {
	if o.WaitReplicas < 0 || o.WaitReplicas > 0 && (o.WaitTimeout < time.Millisecond || o.WaitTimeout > MaxWaitTimeout) {
		return fmt.Errorf("waiting for %d replicas for %s: want a number from 0 and a time from 1ms to %s", o.WaitReplicas, o.WaitTimeout, MaxWaitTimeout)
	}
	_, err := parseAddress(o.URL, o.Credentials)
	return err
}

// dialFunc makes a connection to Redis.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Bus is a relay.Broker, a relay.History and a relay.Journal on Redis. All methods
// may be called from any goroutine.
type Bus struct {
	// Fixed after New.
	log     *slog.Logger
	metrics *Metrics
	keeps   func(relay.Topic) bool
	links   []*link      // one, or with a Cluster one for each partition
	finders func() error // closes what finds the masters
	keep    keptCache
	fleet   *fleetKeys
}

var (
	_ relay.Broker  = (*Bus)(nil)
	_ relay.History = (*Bus)(nil)
)

// New makes a bus; it does not connect. Run makes it work.
func New(o Options) (*Bus, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	a, err := parseAddress(o.URL, o.Credentials)
	if err != nil {
		return nil, err
	}
	if o.Keeps == nil {
		o.Keeps = func(relay.Topic) bool { return false }
	}
	if o.dial == nil {
		o.dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	b := &Bus{log: o.Log, keeps: o.Keeps, finders: func() error { return nil }}
	b.metrics = newMetrics(func() float64 { return b.CanaryAge().Seconds() })
	switch a.mode {
	case modeSingle:
		b.links = []*link{newLink(b, &o, &a, oneKeyspace, func(context.Context) (string, error) { return a.hosts[0], nil })}
		b.fleet = fleetKeysOn(b.links[0].master, &o, &a, b.links[0].greet)
	case modeSentinel:
		s := newSentinels(&a, o.dial)
		b.finders = s.close
		b.links = []*link{newLink(b, &o, &a, oneKeyspace, s.find)}
		b.fleet = fleetKeysOn(b.links[0].master, &o, &a, b.links[0].greet)
	case modeCluster:
		c := newCluster(&a)
		b.finders = c.close
		for i := range partitions {
			k := partitionKeyspace(i)
			b.links = append(b.links, newLink(b, &o, &a, k, c.find(k.slot())))
		}
		b.fleet = newFleetKeys(&o, &a, c.find(keySlot(fleetPrefix)))
	}
	return b, nil
}

// clientOptions are those of a client of the library for a bus: it tries nothing
// twice, since a publish sent twice would be a message doubled, and since Run and
// the lanes have a pace of their own.
func clientOptions(from *redis.Options) *redis.Options {
	o := *from
	o.DialTimeout = dialTimeout
	o.ReadTimeout = dialTimeout
	o.WriteTimeout = dialTimeout
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.Protocol = 2 // pub/sub needs no more, and parses faster
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &o
}

// link is the one that a topic belongs to.
func (b *Bus) link(t relay.Topic) *link {
	if len(b.links) == 1 {
		return b.links[0]
	}
	return b.links[partitionOf(t)]
}

// Metrics are the bus's figures, to be registered once.
func (b *Bus) Metrics() *Metrics { return b.metrics }

// CanaryAge is the time since the node last heard itself through Redis, or since
// its start when it never has; in a Cluster, through the partition that has been
// silent for longest.
func (b *Bus) CanaryAge() (age time.Duration) {
	for _, l := range b.links {
		age = max(age, l.canaryAge())
	}
	return age
}

// Ready tells whether Redis answers: the subscriber connections stand and the
// canary has been heard lately on each.
func (b *Bus) Ready() error {
	for _, l := range b.links {
		if err := l.ready(); err != nil {
			return fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
		}
	}
	return nil
}

// Run implements relay.Broker.
func (b *Bus) Run(ctx context.Context, r relay.Receiver) error {
	var wg sync.WaitGroup
	for _, l := range b.links {
		wg.Go(func() { l.run(ctx, r) })
	}
	wg.Wait()
	errs := []error{b.fleet.close(), b.finders()}
	for _, l := range b.links {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}
