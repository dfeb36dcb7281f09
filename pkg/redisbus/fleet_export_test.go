package redisbus

import (
	"context"
	"time"
)

// WithTimes has everything about leases go so much faster, for tests.
func (o FleetOptions) WithTimes(life, renew, look, reaping, release time.Duration) FleetOptions {
	o.times = fleetTimes{life, renew, look, reaping, release}
	return o
}

// LastRelease is when the last claim of a dead node is released, if its release
// takes no time: the lease expires, is seen twice to have, and asked about.
const LastRelease = leaseLife + 2*lookEvery + fleetTimeout

// Look has the fleet look for dead nodes once; before and the result are the leases
// that had expired.
func (f *Fleet) Look(ctx context.Context, before map[string]bool) map[string]bool {
	return f.look(ctx, before)
}
