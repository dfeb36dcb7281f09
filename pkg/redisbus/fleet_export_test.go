package redisbus

import "time"

// WithTimes has everything about leases go so much faster, for tests.
func (o FleetOptions) WithTimes(life, renew, look, reaping, release time.Duration) FleetOptions {
	o.times = fleetTimes{life, renew, look, reaping, release}
	return o
}

// LastRelease is when the last claim of a dead node is released, if its release
// takes no time: the lease expires, is seen twice to have, and asked about.
const LastRelease = leaseLife + 2*lookEvery + fleetTimeout
