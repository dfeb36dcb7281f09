package accounttest_test

import (
	"testing"

	"parley/pkg/account/accounttest"
	"parley/pkg/relaytest"
)

// What stands in for Redis does what Redis does.
func TestStore(t *testing.T) {
	var s accounttest.Store
	relaytest.Values(t, func(testing.TB) relaytest.Shared { return &s })
}
