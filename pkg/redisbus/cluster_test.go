package redisbus

import (
	"reflect"
	"testing"
)

func TestParseNodes(t *testing.T) {
	const text = `aaa :7000@17000 myself,master - 0 0 5 connected 0-100 200 [300->-bbb]
bbb 10.0.0.2:7001@17001,host.example master - 0 1 7 connected 101-199 201-16383
ccc 10.0.0.3:7002@17002 slave bbb 0 1 7 connected
ddd 10.0.0.4:7003@17003 master,fail - 1 1 3 disconnected 101-199
eee :0@0 master,noaddr - 1 1 1 disconnected
fff 10.0.0.6:7005@17005 handshake - 0 0 0 connected

`
	owners, nodes := parseNodes(text, "10.0.0.1:7000")
	wantOwners := []owner{{0, 100, "10.0.0.1:7000", 5}, {200, 200, "10.0.0.1:7000", 5}, {101, 199, "10.0.0.2:7001", 7}, {201, 16383, "10.0.0.2:7001", 7},
		{101, 199, "10.0.0.4:7003", 3}}
	wantNodes := []string{"10.0.0.1:7000", "10.0.0.2:7001", "10.0.0.3:7002", "10.0.0.4:7003"}
	if !reflect.DeepEqual(owners, wantOwners) || !reflect.DeepEqual(nodes, wantNodes) {
		t.Errorf("got %v and %v", owners, nodes)
	}
}

func TestParseHolder(t *testing.T) {
	got := parseHolder("# Server\r\nrun_id:abc\r\n# Replication\r\nrole:slave\r\nconnected_slaves:2\r\nmaster_replid:def\r\nmaster_replid2:000\r\n")
	if want := (holder{run: "abc", replicas: "2", replication: "def", before: "000", replica: true}); got != want {
		t.Errorf("got %+v", got)
	}
	if parseHolder("role:master\r\n").replica {
		t.Error("a master is taken for a replica")
	}
}

// When a server that holds what another one held has all of it.
func TestSucceeds(t *testing.T) {
	before := history{7, holder{run: "r1", replication: "p1", node: "n1", replicas: "2"}}
	if got := parseHistory(before.text()); got != before {
		t.Errorf("%q is read as %+v", before.text(), got)
	}
	promoted := holder{run: "r2", replication: "p2", before: "p1", node: "n2"}
	for _, c := range []struct {
		name  string
		h     history
		by    holder
		waits int
		moved bool
		want  bool
	}{
		{"nothing is known", history{}, promoted, 2, false, false},
		{"the same process, with another replica", before, holder{run: "r1", replication: "p9", node: "n1"}, 0, false, true},
		{"restarted", before, holder{run: "r2", replication: "p2", node: "n1"}, 2, false, false},
		{"promoted, nobody waited", before, promoted, 0, false, false},
		{"promoted, one of two had it", before, promoted, 1, false, false},
		{"promoted, both had it", before, promoted, 2, false, true},
		{"promoted from another", before, holder{run: "r2", before: "p0", node: "n2"}, 2, false, false},
		{"the slot was moved", before, holder{run: "r2", replication: "p2", node: "n2"}, 0, true, true},
		{"promoted, though it looks as if the slot was moved", before, promoted, 0, true, false},
	} {
		if got := c.h.succeeds(c.by, c.waits, c.moved); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
