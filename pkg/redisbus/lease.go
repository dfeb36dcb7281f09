package redisbus

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

// What Redis says of a lease that was renewed.
const (
	leaseStood     = "stood"
	leaseExpired   = "expired"   // but nobody had begun to reap it
	leaseReaped    = "reaped"    // somebody had
	leaseForgotten = "forgotten" // Redis has lost its data
)

// keep renews the lease until ctx ends, and takes one when there is none.
func (f *Fleet) keep(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-f.wake:
		}
		pause := f.times.renew
		err := f.round(ctx)
		if err != nil && ctx.Err() == nil {
			pause = min(pause, renewAgain)
			if !f.complained {
				f.log.Warn("the node's lease could not be renewed, trying again", "error", err)
			}
		} else if err == nil && f.complained {
			f.log.Info("the node's lease is renewed again")
		}
		f.complained = err != nil
		t.Reset(pause)
	}
}

// round renews the lease, or takes one. When claims may have been lost, it finds out
// which, has them closed, and only then lets claims be taken again.
func (f *Fleet) round(ctx context.Context) error {
	f.mu.Lock()
	lease, birth, renewed, serving := f.lease, f.birth, f.renewed, f.serving
	f.mu.Unlock()
	if lease == "" {
		return f.enlist(ctx)
	}
	sent := time.Now()
	answer, err := f.askLease(ctx, "renew", lease, birth)
	if err != nil {
		return err
	}
	// For how long nobody can say whether the lease had expired.
	inDoubt := time.Since(renewed) >= f.times.life
	switch answer {
	case leaseReaped:
		f.log.Warn("the node was taken for dead, its claims are lost")
		return f.startAnew(ctx, true)
	case leaseForgotten:
		f.log.Warn("redis has lost the node's lease and claims")
		return f.startAnew(ctx, false)
	case leaseExpired:
		f.log.Warn("the node's lease had expired; nobody has reaped it")
	case leaseStood:
	default:
		return fmt.Errorf("redis says %q of a lease", answer)
	}
	replication, err := f.whichReplication(ctx)
	if err != nil {
		return err
	}
	moved := replication != f.replication
	if moved && inDoubt {
		// What one Redis says is no proof of what happened on the other.
		f.log.Warn("the node was cut off for too long, and redis has changed: its claims are lost")
		return f.startAnew(ctx, true)
	}
	f.mu.Lock()
	f.renewed = sent
	untidy := f.untidy()
	f.mu.Unlock()
	if moved || !serving {
		if err := f.settle(ctx); err != nil {
			return err
		}
		f.replication = replication
		return nil
	}
	if untidy {
		return f.tidy(ctx)
	}
	return nil
}

// startAnew takes a new lease. All that was held is lost, or else what others have
// taken, or all if the lease was in doubt.
func (f *Fleet) startAnew(ctx context.Context, all bool) error {
	f.metrics.leasesLost.Inc()
	if err := f.pause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	f.former = append(f.former, f.lease)
	f.lease = ""
	f.mu.Unlock()
	if all {
		f.loseAll()
	}
	return f.enlist(ctx)
}

// enlist takes a new lease, and what is held under it.
func (f *Fleet) enlist(ctx context.Context) error {
	f.mu.Lock()
	inDoubt := time.Since(f.renewed) >= f.times.life
	f.mu.Unlock()
	if inDoubt { // others may have reaped it before Redis lost its data
		f.loseAll()
	}
	replication, err := f.whichReplication(ctx)
	if err != nil {
		return err
	}
	lease, sent := newLease(f.options.Node), time.Now()
	birth, err := f.askLease(ctx, "take", lease, rand.Text())
	if err != nil {
		return err // if it was taken after all, it will be reaped
	}
	f.replication = replication
	f.mu.Lock()
	f.lease, f.birth, f.renewed = lease, birth, sent
	f.mu.Unlock()
	return f.settle(ctx)
}

// settle claims again all that the node holds, gives back what it does not, and
// lets claims be taken.
func (f *Fleet) settle(ctx context.Context) error {
	if err := f.pause(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	lease := f.lease
	names := slices.Collect(maps.Keys(f.held))
	f.mu.Unlock()
	for chunk := range slices.Chunk(names, claimsAtOnce) {
		args := []any{"claim", lease}
		f.mu.Lock()
		for _, name := range chunk {
			args = append(args, name, f.held[name])
		}
		f.mu.Unlock()
		taken, err := f.askFor(ctx, claimsScript, claimKeys(lease), args...)
		if err != nil {
			return err
		}
		if len(taken) != len(chunk) {
			return fmt.Errorf("%w: the lease is gone again", relay.ErrUnavailable)
		}
		var lost []string
		for i, name := range chunk {
			if taken[i] == int64(0) {
				lost = append(lost, name)
			}
		}
		f.lose(lost)
	}
	if err := f.tidy(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	f.serving = !f.closed
	anew := len(f.former) > 0
	f.mu.Unlock()
	if anew {
		select {
		case f.anew <- struct{}{}:
		default:
		}
	}
	return nil
}

// pause has no claim taken from now on, and waits for those under way.
func (f *Fleet) pause(ctx context.Context) error {
	f.mu.Lock()
	f.serving = false
	if len(f.busy) == 0 {
		f.mu.Unlock()
		return nil
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loseAll and lose tell that claims are held no more. Nothing is busy.
func (f *Fleet) loseAll() {
	f.mu.Lock()
	names := slices.Collect(maps.Keys(f.held))
	f.mu.Unlock()
	f.lose(names)
}

func (f *Fleet) lose(names []string) {
	if len(names) == 0 {
		return
	}
	slices.Sort(names)
	var lost []relay.Claim
	f.mu.Lock()
	for _, name := range names {
		lost = append(lost, relay.Claim{Name: name, Holder: f.held[name], Node: f.options.Node})
		delete(f.held, name)
	}
	f.mu.Unlock()
	f.log.Warn("claims are lost", "claims", len(lost))
	f.metrics.claimsLost.Add(float64(len(lost)))
	for _, tell := range f.onLost {
		tell(slices.Clone(lost))
	}
}

// askLease takes or renews the lease.
func (f *Fleet) askLease(ctx context.Context, what, lease, birth string) (string, error) {
	n := relay.Node{ID: f.options.Node, Address: f.options.Address, Version: f.options.Version, Started: f.started}
	if f.options.Counts != nil {
		n.Counts = f.options.Counts()
	}
	about, err := json.Marshal(n)
	if err != nil {
		return "", err
	}
	answer, err := f.ask(ctx, leaseScript, []string{leasesKey, leasePrefix + lease, birthKey},
		what, lease, about, f.times.life.Milliseconds(), birth)
	if err != nil {
		return "", err
	}
	text, _ := answer.(string)
	return text, nil
}

// whichReplication names the history of writes of the present master. Another one
// may lack the last of what was claimed.
func (f *Fleet) whichReplication(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	c, err := f.options.Client(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	text, err := c.Info(ctx, "replication").Result()
	var e redis.Error
	if errors.As(err, &e) && !refused(err) {
		return "", nil // the embedded Redis does not tell, and has but one
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", relay.ErrUnavailable, err)
	}
	_, rest, _ := strings.Cut(text, "master_replid:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, nil
}

// Nodes returns what the nodes that live tell of themselves, ordered by their ids.
func (f *Fleet) Nodes(ctx context.Context) ([]relay.Node, error) {
	answer, err := f.askFor(ctx, fleetScript, []string{leasesKey, deadKey}, "nodes", leasePrefix, reaperPrefix)
	if err != nil {
		return nil, err
	}
	var nodes []relay.Node
	for _, about := range texts(answer) {
		var n relay.Node
		if err := json.Unmarshal([]byte(about), &n); err != nil {
			return nil, fmt.Errorf("a node tells of itself: %w", err)
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b relay.Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes, nil
}
