package rooms

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
)

// Between the two steps of a grant nobody is host. What is said to the host meanwhile
// waits for the next one.
func TestGrant(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, bob, cid := f.three(t)
		step := make(chan struct{})
		f.with(func() { f.onAssign = func() { <-step } })
		ann.send("REQUEST_GRANT_HOST HostID:1")
		for _, c := range []*client{ann, bob, cid} {
			c.want("RESPONSE_BEGIN_HOST_MIGRATE")
		}
		cid.send(`REQUEST_RELAY_MESSAGE Type:HOST Data:"to the next"`)
		cid.send(`REQUEST_RELAY_MESSAGE Data:"as host"`)
		cid.wantError(errNotHost)
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 1}, "0")
		close(step)
		bob.want("RESPONSE_ASSIGN_HOST HostID:1", "RESPONSE_FINISH_HOST_MIGRATE HostID:1",
			`RESPONSE_RELAY_MESSAGE Type:HOST Data:"to the next"`)
		ann.wantError(errMoved)
		ann.want("RESPONSE_FINISH_HOST_MIGRATE HostID:1")
		cid.want("RESPONSE_FINISH_HOST_MIGRATE HostID:1")
		cid.wantNothing()
	})
}

// three has ann, bob and cid in the room, on the first, second and first node.
func (f *fixture) three(t testing.TB) (ann, bob, cid *client) {
	ann, _ = f.join(t, 0, 0)
	bob, _ = f.join(t, 1, 1)
	cid, _ = f.join(t, 0, 2)
	ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false", "RESPONSE_CLIENT_CONNECT ID:2 Host:false")
	return ann, bob, cid
}

// A newcomer hears that the host is on the move. Who grants and goes has granted; if the
// other one has gone as well it is somebody else.
func TestGrantAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, bob, _ := f.three(t)
		f.reap(7, 2)
		ann.want("RESPONSE_CLIENT_DISCONNECT ID:2 Host:false")
		f.with(func() { f.onAssign = func() { f.assignFails = true } })
		ann.send("REQUEST_GRANT_HOST HostID:1")
		ann.want("RESPONSE_BEGIN_HOST_MIGRATE")
		bob.want("RESPONSE_BEGIN_HOST_MIGRATE")
		ann.wantClose(conn.CodeTryLater, "the host could not be moved: reconnect")
		bob.want("RESPONSE_ASSIGN_HOST HostID:1", "RESPONSE_FINISH_HOST_MIGRATE HostID:1", "RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
	})
}

// Who is not answered whether it has granted gets an error, and has perhaps.
func TestGrantUnanswered(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, bob, _ := f.three(t)
		f.with(func() { f.grantLost = true })
		ann.send("REQUEST_GRANT_HOST HostID:1")
		moves(bob, 1, true)
		got := map[string]bool{}
		for range 3 {
			text, _ := ann.read()
			got[text] = true
		}
		ann.wantNothing()
		if !got["RESPONSE_BEGIN_HOST_MIGRATE"] || !got["RESPONSE_FINISH_HOST_MIGRATE HostID:1"] || len(got) != 3 {
			t.Errorf("got %v", got)
		}
	})
}

// The next host is not told before the former one was, for as long as that takes
// something from the network, or two seconds.
func TestGrantByOneThatReadsSlowly(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, bob, cid := f.three(t)
		for range 3 { // more than the network holds
			cid.send(`REQUEST_RELAY_MESSAGE Type:HOST Data:"` + strings.Repeat("x", 60_000) + `"`)
		}
		synctest.Wait()
		began := time.Now()
		ann.send("REQUEST_GRANT_HOST HostID:1")
		bob.want("RESPONSE_BEGIN_HOST_MIGRATE", "RESPONSE_ASSIGN_HOST HostID:1")
		if took := time.Since(began); took != tellTimeout {
			t.Errorf("it took %s, want %s", took, tellTimeout)
		}
	})
}

func TestJoinWhileTheHostMoves(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		step := make(chan struct{})
		f.with(func() { f.onAssign = func() { <-step } })
		ann.send("REQUEST_GRANT_HOST HostID:1")
		ann.want("RESPONSE_BEGIN_HOST_MIGRATE")
		bob.want("RESPONSE_BEGIN_HOST_MIGRATE")
		cid, _ := f.join(t, 0, 2)
		cid.want("RESPONSE_BEGIN_HOST_MIGRATE")
		cid.send("REQUEST_LIST")
		cid.want("RESPONSE_LIST List:{ID:0 Host:false} List:{ID:1 Host:false} List:{ID:2 Host:false}")
		f.reap(7, 1) // the next host goes first
		bob.wantClose(conn.CodeTryLater, "the place in the room is lost: reconnect")
		close(step)
		moveEnds(ann, 0, true)
		ann.want("RESPONSE_CLIENT_CONNECT ID:2 Host:false", "RESPONSE_CLIENT_DISCONNECT ID:1 Host:false") // meanwhile
		moveEnds(cid, 0, false)
		ann.wantNothing()
	})
}

// moveEnds reads the second half of a migration.
func moveEnds(c *client, host int32, self bool) {
	c.t.Helper()
	if self && host == 0 { // as protobuf writes a zero
		c.want("RESPONSE_ASSIGN_HOST")
	} else if self {
		c.want(fmt.Sprintf("RESPONSE_ASSIGN_HOST HostID:%d", host))
	}
	c.want(fmt.Sprintf("RESPONSE_FINISH_HOST_MIGRATE HostID:%d", host))
}

// What a host said counts for nothing behind the change of the host, not even when it is
// host again, and it is told so.
func TestFormerHostIsNotHeard(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		ann.send("REQUEST_GRANT_HOST HostID:1")
		moves(ann, 1, false)
		moves(bob, 1, true)
		fence := int64(1)
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: fence}, "0")
		ann.wantError(errMoved)
		bob.send("REQUEST_GRANT_HOST HostID:0")
		moves(ann, 0, true)
		moves(bob, 0, false)
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: fence}, "0")
		ann.wantError(errMoved)
		f.say(7, said{kind: roomspb.RelayType_TARGET, target: 1, fence: fence}, "0")
		ann.wantError(errMoved)
		f.say(7, said{kind: roomspb.RelayType_TARGET, target: 1, fence: 3}, "1") // never was under this fence
		bob.wantError(errMoved)
		f.say(7, said{kind: roomspb.RelayType_HOST}, "0") // has become host meanwhile
		ann.wantError(errHost)
		f.say(7, said{kind: roomspb.RelayType_HOST}, "2") // nobody
		ann.wantNothing()
		bob.wantNothing()
	})
}

// moves reads a migration.
func moves(c *client, host int32, self bool) {
	c.t.Helper()
	c.want("RESPONSE_BEGIN_HOST_MIGRATE")
	moveEnds(c, host, self)
}
