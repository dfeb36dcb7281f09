package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"parley/pkg/relay"
)

// watch looks for dead nodes until ctx ends, and reaps them.
func (f *Fleet) watch(ctx context.Context) {
	t := time.NewTimer(f.times.look)
	defer t.Stop()
	var missing map[string]bool // leases that had expired at the last look
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.anew:
			f.reapOwn(ctx)
			continue
		case <-t.C:
		}
		f.reapOwn(ctx) // should it have failed
		missing = f.look(ctx, missing)
		t.Reset(f.times.look)
	}
}

// reapOwn releases the claims of this node's former leases, which it has lost: lest its
// clients wait for the names until the lease has expired and was seen to have.
func (f *Fleet) reapOwn(ctx context.Context) {
	f.mu.Lock()
	former, me := f.former, f.lease
	ready := f.ready() == nil
	if ready {
		f.former = nil
	}
	f.mu.Unlock()
	if !ready {
		return // the next look does it
	}
	for _, lease := range former {
		if err := f.reap(ctx, lease, me, true); err != nil && ctx.Err() == nil {
			f.log.Warn("the claims of this node's former lease are not all released, trying again", "error", err)
			f.mu.Lock()
			f.former = append(f.former, lease)
			f.mu.Unlock()
		}
	}
}

// look reaps the leases that have expired and had at the last look, and those whose
// reaper has died. It returns the others that have expired.
func (f *Fleet) look(ctx context.Context, before map[string]bool) map[string]bool {
	if f.Ready() != nil {
		return nil // who is cut off does not judge others
	}
	f.mu.Lock()
	me := f.lease
	f.mu.Unlock()
	answer, err := f.askFor(ctx, fleetScript, []string{leasesKey, deadKey}, "look", leasePrefix, reaperPrefix,
		f.times.life.Milliseconds(), f.times.reaping.Milliseconds())
	if err != nil || len(answer) != 2 {
		return nil // the keeper tells
	}
	missing := map[string]bool{}
	due := texts(answer[1])
	for _, lease := range texts(answer[0]) {
		if before[lease] {
			due = append(due, lease)
		} else {
			missing[lease] = true
		}
	}
	for _, lease := range due {
		if lease == me {
			continue
		}
		if err := f.reap(ctx, lease, me, false); err != nil && ctx.Err() == nil {
			f.log.Warn("a dead node's claims are not all released, trying again", "node", nodeOf(lease), "error", err)
		}
	}
	return missing
}

// reap releases all claims of a lease and removes it, unless somebody else does. A
// lease that lasts is left alone, unless that is forced.
func (f *Fleet) reap(ctx context.Context, lease, me string, force bool) error {
	last := 0
	if force {
		last = 1
	}
	answer, err := f.askReaper(ctx, "take", lease, me, last)
	if err != nil || answer[0] != int64(1) {
		return err
	}
	var claims []relay.Claim
	if len(answer) == 2 {
		for pair := range slices.Chunk(texts(answer[1]), 2) {
			claims = append(claims, relay.Claim{Name: pair[0], Holder: pair[len(pair)-1], Node: nodeOf(lease)})
		}
	}
	if !force {
		f.log.Info("a node has died, releasing its claims", "node", nodeOf(lease), "claims", len(claims))
	}
	failed := f.release(ctx, lease, me, claims)
	// Also when ctx has ended: what is left, another one can do at once.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetTimeout)
	defer cancel()
	answer, err = f.askReaper(ending, "finish", lease, me)
	if err == nil && answer[0] == int64(1) && !force {
		f.metrics.nodesReaped.Inc()
	}
	return errors.Join(failed, err)
}

// release releases claims and deletes them, as long as the reaping is ours.
func (f *Fleet) release(ctx context.Context, lease, me string, claims []relay.Claim) error {
	var plain, ours []relay.Claim
	for _, c := range claims {
		if f.onRelease[c.Kind()] == nil {
			plain = append(plain, c)
		} else {
			ours = append(ours, c)
		}
	}
	for chunk := range slices.Chunk(plain, claimsAtOnce) {
		if err := f.drop(ctx, lease, me, chunk); err != nil {
			return err
		}
	}
	var errs []error
	failures := 0
	for wave := range slices.Chunk(ours, releasesAtOnce) {
		failed := make([]error, len(wave))
		limited, cancel := context.WithTimeout(ctx, f.times.release)
		var wg sync.WaitGroup
		for i, c := range wave {
			wg.Go(func() { failed[i] = f.onRelease[c.Kind()](limited, c) })
		}
		wg.Wait()
		cancel()
		var released []relay.Claim
		for i, c := range wave {
			if failed[i] == nil {
				released = append(released, c)
			} else if failures++; failures <= maxReleaseErrors {
				errs = append(errs, fmt.Errorf("%s: %w", c.Name, failed[i]))
			}
		}
		// Also when ctx has ended, so that none of them is released again.
		dropping, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetTimeout)
		err := f.drop(dropping, lease, me, released)
		cancel()
		if err = errors.Join(err, ctx.Err()); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	if failures > maxReleaseErrors {
		errs = append(errs, fmt.Errorf("and %d more", failures-maxReleaseErrors))
	}
	return errors.Join(errs...)
}

// maxReleaseErrors is how many errors of functions are told of one reaping.
const maxReleaseErrors = 3

// drop deletes claims that were released, and has the reaping go on.
func (f *Fleet) drop(ctx context.Context, lease, me string, claims []relay.Claim) error {
	args := make([]any, 0, 2*len(claims))
	for _, c := range claims {
		args = append(args, c.Name, c.Holder)
	}
	answer, err := f.askReaper(ctx, "drop", lease, me, args...)
	if err != nil {
		return err
	}
	if answer[0] != int64(1) {
		return errors.New("it took too long, another node goes on")
	}
	f.metrics.claimsReleased.Add(float64(len(claims)))
	return nil
}

// askReaper runs the script of reaping; the answer is never empty.
func (f *Fleet) askReaper(ctx context.Context, what, lease, me string, args ...any) ([]any, error) {
	keys := []string{namesKey, claimsPrefix + lease, leasesKey, deadKey, leasePrefix + lease, reaperPrefix + lease}
	answer, err := f.askFor(ctx, reapScript, keys,
		append([]any{what, lease, me, f.times.reaping.Milliseconds()}, args...)...)
	if err == nil && len(answer) == 0 {
		err = errors.New("a script answered nothing")
	}
	return answer, err
}
