package account

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// tries are the counts that an attempt to sign in stands in.
type tries []string

// begin counts an attempt before anything is known of it, so that guesses that come
// together count as those that come one by one. It counts nothing when a limit is
// reached: then the error is *Limited.
func (a *Accounts) begin(ctx context.Context, address netip.Addr, email string) (t tries, err error) {
	for _, limit := range []struct {
		key  string
		most int
	}{
		{failureKey("address", network(address)), a.cfg.FailuresPerAddress},
		{failureKey("account", strings.ToLower(email)), a.cfg.FailuresPerAccount},
	} {
		if limit.most <= 0 {
			continue
		}
		wait, err := a.cfg.Meter.Take(ctx, limit.key, int64(limit.most), FailureWindow)
		if err == nil && wait > 0 {
			err = &Limited{wait}
		}
		if err != nil {
			a.giveBack(ctx, t)
			return nil, err
		}
		t = append(t, limit.key)
	}
	return t, nil
}

// giveBack takes an attempt back, also when its client has gone. What cannot be taken
// back counts until its window ends.
func (a *Accounts) giveBack(ctx context.Context, t tries) {
	ctx = context.WithoutCancel(ctx)
	for _, key := range slices.Backward(t) {
		if err := a.cfg.Meter.Return(ctx, key); err != nil {
			a.log.Debug("a sign-in that did not fail counts as one that did", "error", err)
			return
		}
	}
}

// failureKey is the key of a count. Whose it is stands there as a hash only.
func failureKey(of, whose string) string {
	sum := sha256.Sum256([]byte(whose))
	return "login/" + of + "/" + hex.EncodeToString(sum[:])
}

// network is what counts as one address: an IPv6 host has a /64 to itself.
func network(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
