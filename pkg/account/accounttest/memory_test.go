package accounttest_test

import (
	"testing"

	"parley/pkg/account/accounttest"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// What stands in for Redis does what Redis does.
func TestStore(t *testing.T) {
	var s accounttest.Store
	relaytest.Values(t, func(testing.TB) relaytest.Shared { return &s })
}

// What stands in for a database does what a database does.
func TestUsers(t *testing.T) {
	relaytest.Users(t, func(_ testing.TB, nodes int) (all []relay.Users) {
		var u accounttest.Users
		for range nodes {
			all = append(all, &u)
		}
		return all
	})
}
