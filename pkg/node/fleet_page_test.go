package node

import (
	"encoding/json"
	"net/http"
	"testing"

	"parley/pkg/relaytest"
)

// Every node shows all that live, and one that was stopped is gone at once.
func TestFleetPage(t *testing.T) {
	relaytest.NoLeaks(t)
	redis := relaytest.StartRedis(t)
	a := startNode(t, "--redis-url="+redis.URL())
	b := startNode(t, "--redis-url="+redis.URL(), "--drain-delay=0s", "--drain-window=0s")
	ready(t, a, b)
	show := func(n *testNode) (all []fleetNode) {
		t.Helper()
		answer, err := http.Get("http://" + n.InternalAddr().String() + "/fleet")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return nil // Redis has not answered yet
		}
		if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	eventually(t, "both nodes are shown", func() bool { return len(show(a)) == 2 })
	selves := 0
	for _, n := range show(b) {
		if n.Self {
			selves++
			if n.ID != b.id || n.Address != b.addr || n.Version != Version || n.Started.IsZero() {
				t.Errorf("the node shows itself as %+v", n)
			}
		}
	}
	if selves != 1 {
		t.Errorf("%d of the nodes are the one that was asked", selves)
	}
	b.term()
	eventually(t, "the node that was stopped is gone", func() bool { return len(show(a)) == 1 })
}
