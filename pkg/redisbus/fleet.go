package redisbus

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// leaseLife is how long a node is taken to be alive after it was last heard of.
	leaseLife = 8 * time.Second
	// renewEvery is the time between two renewals of a lease, and renewAgain that
	// until the next attempt when one has failed.
	renewEvery = 2 * time.Second
	renewAgain = 250 * time.Millisecond
	// lookEvery is the time between two looks for dead nodes. A lease that has
	// expired is reaped when it is seen twice: after Redis was away for as long as a
	// lease lasts, those who live renew theirs in between.
	lookEvery = 2 * time.Second
	// reapingLife is how long a reaper has for the claims that it releases at once;
	// another one may take over then.
	reapingLife = 6 * time.Second
	// releaseTimeout is how long the release of one claim may take.
	releaseTimeout = 4 * time.Second
	// releasesAtOnce is how many claims a reaper releases at the same time.
	releasesAtOnce = 16

	// fleetTimeout bounds a question about leases and claims, with all attempts; it
	// leaves room below the two seconds that relay.Claims promises.
	fleetTimeout = 1800 * time.Millisecond
	// claimsAtOnce is how many claims one script goes through.
	claimsAtOnce = 500

	// maxClaimName, maxClaimHolder and maxNodeID bound these, in bytes.
	maxClaimName   = 512
	maxClaimHolder = 512
	maxNodeID      = 128
)

var (
	//go:embed fleet.lua
	fleetSource string
	//go:embed lease.lua
	leaseSource string
	//go:embed claims.lua
	claimsSource string
	//go:embed reap.lua
	reapSource string

	fleetScript  = newScript(fleetSource)
	leaseScript  = newScript(leaseSource)
	claimsScript = newScript(claimsSource)
	reapScript   = newScript(reapSource)
)

// All keys of leases and claims share a slot of a Cluster: that of FleetTag.
const (
	FleetTag    = "fleet"
	fleetPrefix = keyPrefix + "{" + FleetTag + "}:"

	leasesKey    = fleetPrefix + "leases" // set: the leases that stand
	deadKey      = fleetPrefix + "dead"   // set: the leases that are reaped
	birthKey     = fleetPrefix + "birth"  // changes when Redis has lost its data
	namesKey     = fleetPrefix + "names"  // hash: who has each name
	leasePrefix  = fleetPrefix + "lease:"
	reaperPrefix = fleetPrefix + "reaper:"
	claimsPrefix = fleetPrefix + "claims:" // hash: a lease's claims
)

// FleetClient is as much of a client of the library as a Fleet needs.
type FleetClient interface {
	redis.Scripter
	Info(ctx context.Context, section ...string) *redis.StringCmd
}

// FleetOptions configure a Fleet. They are not changed after NewFleet.
type FleetOptions struct {
	Node    string                  // id of this node, unique in the fleet; no spaces
	Address string                  // where it is, for those who look at the fleet
	Version string                  // of its program
	Counts  func() map[string]int64 // what else it tells of itself; nil: nothing
	// Client returns a client that leads to the master which has the slot of
	// FleetTag now. It is called for each attempt.
	Client func(ctx context.Context) (FleetClient, error)
	Log    *slog.Logger

	times fleetTimes // zero: the constants above
}

// fleetTimes are those that tests shorten.
type fleetTimes struct {
	life, renew, look, reaping, release time.Duration
}

// Fleet is this node's part in the fleet: its lease, its claims, and the reaping of
// nodes that have died. It implements relay.Claims. All methods may be called from
// any goroutine.
type Fleet struct {
	// Fixed after NewFleet.
	options FleetOptions
	times   fleetTimes
	log     *slog.Logger
	metrics *FleetMetrics
	started time.Time
	wake    chan struct{} // has the keeper look after the lease at once
	anew    chan struct{} // has the watcher release what a former lease of this node has

	// Fixed before Run.
	onRelease map[string]func(context.Context, relay.Claim) error
	onLost    []func([]relay.Claim)

	// Owned by the keeper.
	replication string // which history of writes the master has
	complained  bool   // about a Redis that does not answer

	mu      sync.Mutex
	end     context.CancelFunc       // ends Run; nil before it
	ended   chan struct{}            // closed when Run has returned
	closed  bool                     // Close was called
	lease   string                   // its id; "" without
	former  []string                 // those before it, which Redis may still have
	birth   string                   // of the data in which it was taken
	renewed time.Time                // when its last renewal that succeeded was sent
	serving bool                     // claims may be taken
	held    map[string]string        // name to holder
	busy    map[string]chan struct{} // names about which Redis is asked; closed then
	idle    chan struct{}            // not nil: closed when nothing is busy
	// How often Redis came to have claims that nobody may hold, and how often it had
	// at the last two times that it was asked for them.
	littered int
	tidied   [2]int
}

var _ relay.Claims = (*Fleet)(nil)

// NewFleet makes one; Run makes it work.
func NewFleet(o FleetOptions) (*Fleet, error) {
	if o.Node == "" || len(o.Node) > maxNodeID || strings.ContainsAny(o.Node, " \n") {
		return nil, fmt.Errorf("node id %q: want 1 to %d bytes without a space", o.Node, maxNodeID)
	}
	if o.Client == nil {
		return nil, errors.New("a fleet needs a way to Redis: FleetOptions.Client")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{options: o, times: o.times, log: o.Log, started: time.Now(),
		wake: make(chan struct{}, 1), anew: make(chan struct{}, 1), ended: make(chan struct{}),
		onRelease: map[string]func(context.Context, relay.Claim) error{},
		held:      map[string]string{}, busy: map[string]chan struct{}{}}
	if f.times == (fleetTimes{}) {
		f.times = fleetTimes{leaseLife, renewEvery, lookEvery, reapingLife, releaseTimeout}
	}
	f.metrics = newFleetMetrics(func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(len(f.held))
	})
	return f, nil
}

// OnRelease has release called for each claim of a kind whose node has died, on one
// of the survivors, and for this node's own in Close: before the claim is deleted,
// until then nobody else can have the name. Without one a claim is just deleted.
// After an error it is called again, perhaps on another node: once for each claim as
// long as nothing fails in between, at least once else. It has to return soon when
// ctx ends. Several are called at the same time. Call OnRelease before Run.
func (f *Fleet) OnRelease(kind string, release func(ctx context.Context, c relay.Claim) error) {
	f.onRelease[kind] = release
}

// OnLost has lost called with claims that this node held and has no more, since it
// was cut off and others have released them, or since Redis has lost them and others
// have taken them. It must close the connections concerned, but wait for no client:
// until it has returned, nothing can be claimed and the lease is not renewed. Of
// several functions each is called with all claims. Call OnLost before Run.
func (f *Fleet) OnLost(lost func(claims []relay.Claim)) { f.onLost = append(f.onLost, lost) }

// Metrics are the fleet's figures, to be registered once.
func (f *Fleet) Metrics() *FleetMetrics { return f.metrics }

// Run keeps the node's lease and reaps others' until ctx ends or Close is called,
// and then returns nil. The lease is left to expire if Close is not called. Call it
// once.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	if f.end = cancel; f.closed {
		cancel()
	}
	f.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { f.keep(ctx) })
	wg.Go(func() { f.watch(ctx) })
	wg.Wait()
	close(f.ended)
	return nil
}

// Close ends Run, releases this node's claims through the functions given to
// OnRelease, and removes the lease. It returns when that is done or ctx ends; what is
// left then, the others do. From its call on Claim answers relay.ErrClosed.
func (f *Fleet) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed, f.serving = true, false
	end := f.end
	f.mu.Unlock()
	if end == nil {
		return nil // it never ran
	}
	end()
	<-f.ended
	if err := f.pause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	lease := f.lease
	f.lease, f.held = "", map[string]string{}
	f.mu.Unlock()
	if lease == "" {
		return nil
	}
	return f.reap(ctx, lease, lease, true)
}

// Ready tells whether claims can be taken.
func (f *Fleet) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready()
}

// ready is called with mu held.
func (f *Fleet) ready() error {
	switch {
	case f.closed:
		return relay.ErrClosed
	case f.lease == "":
		return fmt.Errorf("%w: the node has no lease", relay.ErrUnavailable)
	case !f.serving:
		return fmt.Errorf("%w: the node is finding out which claims it still has", relay.ErrUnavailable)
	case time.Since(f.renewed) >= f.times.life:
		return fmt.Errorf("%w: the node's lease is in doubt", relay.ErrUnavailable)
	}
	return nil
}

// inDoubt tells whether others may take this node for dead: no renewal has succeeded for
// as long as a lease lasts. It is true one look for dead nodes, or more, before one of
// them does so. A node that has never had a lease is not known to any other.
func (f *Fleet) inDoubt() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.renewed.IsZero() && time.Since(f.renewed) >= f.times.life
}

// ask runs a script that may run twice, until it succeeds or ctx or fleetTimeout
// ends. Errors wrap relay.ErrUnavailable.
func (f *Fleet) ask(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	pause := retryMin
	for {
		answer, err := f.askOnce(ctx, s, keys, args)
		if err == nil {
			return answer, nil
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
		case <-t.C:
		}
		pause = min(2*pause, retryMax)
	}
}

func (f *Fleet) askOnce(ctx context.Context, s script, keys []string, args []any) (any, error) {
	c, err := f.options.Client(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := c.EvalSha(ctx, s.hash, keys, args...).Result()
	if err != nil && noScript(err) {
		answer, err = c.Eval(ctx, s.source, keys, args...).Result()
	}
	return answer, err
}

// askFor is ask for a list.
func (f *Fleet) askFor(ctx context.Context, s script, keys []string, args ...any) ([]any, error) {
	answer, err := f.ask(ctx, s, keys, args...)
	if err != nil {
		return nil, err
	}
	list, ok := answer.([]any)
	if !ok {
		return nil, fmt.Errorf("a script answered %T, want a list", answer)
	}
	return list, nil
}

// texts are the strings of a list.
func texts(list any) []string {
	values, _ := list.([]any)
	all := make([]string, 0, len(values))
	for _, v := range values {
		text, _ := v.(string)
		all = append(all, text)
	}
	return all
}

// newLease is an id for a lease of a node, and nodeOf the node that one is of.
func newLease(node string) string { return node + "#" + rand.Text() }

func nodeOf(lease string) string {
	if i := strings.LastIndexByte(lease, '#'); i >= 0 {
		return lease[:i]
	}
	return lease
}
