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
	got := parseHolder("# Server\r\nrun_id:abc\r\n# Replication\r\nrole:slave\r\nmaster_replid:def\r\nmaster_replid2:000\r\n")
	if want := (holder{run: "abc", replication: "def", before: "000", replica: true}); got != want {
		t.Errorf("got %+v", got)
	}
	if parseHolder("role:master\r\n").replica {
		t.Error("a master is taken for a replica")
	}
}
