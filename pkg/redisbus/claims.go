package redisbus

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"parley/pkg/relay"
)

func claimKeys(lease string) []string {
	return []string{namesKey, claimsPrefix + lease, leasesKey}
}

// Claim implements relay.Claims. Calls for the same name wait for each other.
func (f *Fleet) Claim(ctx context.Context, name, holder string) (bool, error) {
	if err := checkClaim(name, holder); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	lease, err := f.begin(ctx, name)
	if err != nil {
		return false, err
	}
	defer f.done(name)
	f.mu.Lock()
	has := f.held[name]
	f.mu.Unlock()
	if has != "" && has != holder {
		return false, nil
	}
	// What Redis may have of an earlier claim of this node that nobody heard the end
	// of gives way.
	answer, err := f.askFor(ctx, claimsScript, claimKeys(lease), "claim", lease, name, holder)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
		f.litter()
		return false, err
	case len(answer) == 0:
		f.suspect()
		return false, fmt.Errorf("%w: the node's lease is gone", relay.ErrUnavailable)
	case answer[0] != int64(1):
		if has != "" {
			f.suspect() // what was held is another's
		}
		return false, nil
	}
	f.held[name] = holder
	return true, nil
}

// Release implements relay.Claims. Calls for the same name wait for each other.
func (f *Fleet) Release(ctx context.Context, name, holder string) error {
	if err := checkClaim(name, holder); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	lease, err := f.begin(ctx, name)
	if err != nil {
		f.giveUp(name, holder)
		return err
	}
	defer f.done(name)
	_, err = f.ask(ctx, claimsScript, claimKeys(lease), "release", lease, name, holder)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[name] == holder {
		delete(f.held, name)
	}
	if err != nil {
		f.litter()
	}
	return err
}

// Holder implements relay.Claims.
func (f *Fleet) Holder(ctx context.Context, name string) (relay.Claim, error) {
	if err := checkClaim(name, "x"); err != nil {
		return relay.Claim{}, err
	}
	answer, err := f.ask(ctx, claimsScript, claimKeys(""), "holder", "", name)
	if err != nil {
		return relay.Claim{}, err
	}
	value, _ := answer.(string)
	lease, holder, found := strings.Cut(value, " ")
	if !found {
		return relay.Claim{}, nil
	}
	return relay.Claim{Name: name, Holder: holder, Node: nodeOf(lease)}, nil
}

// begin waits until nobody asks about the name any more, and makes it busy; done
// ends that. It returns the lease to claim under.
func (f *Fleet) begin(ctx context.Context, name string) (lease string, err error) {
	for {
		f.mu.Lock()
		if err := f.ready(); err != nil {
			f.mu.Unlock()
			return "", err
		}
		other := f.busy[name]
		if other == nil {
			f.busy[name] = make(chan struct{})
			lease := f.lease
			f.mu.Unlock()
			return lease, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
		}
	}
}

func (f *Fleet) done(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		close(f.busy[name])
		delete(f.busy, name)
	}
	if len(f.busy) == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// giveUp has the node hold a name no more, and Redis told of it later.
func (f *Fleet) giveUp(name, holder string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.busy[name] != nil {
		other := f.busy[name]
		f.mu.Unlock()
		<-other // within fleetTimeout
		f.mu.Lock()
	}
	if f.held[name] == holder {
		delete(f.held, name)
		f.litter()
	}
}

// litter is called with mu held when Redis may have a claim that the node does not
// hold. What was asked for may still be on its way, so that one look is not enough.
func (f *Fleet) litter() { f.littered++ }

// untidy is called with mu held.
func (f *Fleet) untidy() bool { return f.tidied[1] != f.littered }

// suspect is called with mu held when claims may be lost: nothing is claimed until the
// keeper has found out, which it does at once.
func (f *Fleet) suspect() {
	f.serving = false
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// tidy gives back what is claimed under the lease but held by nobody here.
func (f *Fleet) tidy(ctx context.Context) error {
	f.mu.Lock()
	lease, littered := f.lease, f.littered
	f.mu.Unlock()
	answer, err := f.askFor(ctx, claimsScript, claimKeys(lease), "list", lease)
	if err != nil {
		return err
	}
	recorded := texts(answer)
	for chunk := range slices.Chunk(recorded, 2*claimsAtOnce) {
		if err := f.sweep(ctx, lease, chunk); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidied = [2]int{littered, f.tidied[0]}
	return nil
}

// sweep gives back those of some names, each followed by its holder, that are not
// held and about which nobody asks.
func (f *Fleet) sweep(ctx context.Context, lease string, recorded []string) error {
	args := []any{"release", lease}
	var names []string
	f.mu.Lock()
	for pair := range slices.Chunk(recorded, 2) {
		if name := pair[0]; len(pair) == 2 && f.busy[name] == nil && f.held[name] != pair[1] {
			f.busy[name] = make(chan struct{})
			names = append(names, name)
			args = append(args, name, pair[1])
		}
	}
	f.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	defer f.done(names...)
	_, err := f.ask(ctx, claimsScript, claimKeys(lease), args...)
	return err
}

// checkClaim tells what is wrong with a name or a holder.
func checkClaim(name, holder string) error {
	kind, rest, found := strings.Cut(name, "/")
	switch {
	case !found || kind == "" || rest == "":
		return fmt.Errorf("claim name %.64q: want kind/rest", name)
	case len(name) > maxClaimName:
		return fmt.Errorf("claim name %.64q...: %d bytes are more than %d", name, len(name), maxClaimName)
	case holder == "":
		return fmt.Errorf("claim %q: the holder is empty", name)
	case len(holder) > maxClaimHolder:
		return fmt.Errorf("claim %q: a holder of %d bytes is longer than %d", name, len(holder), maxClaimHolder)
	}
	return nil
}
