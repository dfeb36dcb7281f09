package rooms

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// inBubble runs a test on two nodes in memory, with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t, true, Config{}, conn.Config{})) })
}

const missing = `RESPONSE_ERROR Code:500 message:"messages of the room may be missing"`

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

// After a gap the clients are told, and of all that has changed meanwhile.
func TestGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, annSecret := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		f.gap(7, true)
		ann.send("REQUEST_RELAY_MESSAGE Data:\"lost\"")
		ann.wantNothing()
		if err := ann.CloseNow(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := f.members(); len(got) != 1 {
			t.Fatalf("%d are in the room", got)
		}
		f.with(func() { f.rooms[7].seats[5] = "elsewhere" })
		f.gap(7, false)
		bob.want(missing)
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false", "RESPONSE_CLIENT_CONNECT ID:5 Host:false")
		bob.send("REQUEST_LIST")
		bob.want("RESPONSE_LIST List:{ID:1 Host:true} List:{ID:5 Host:false}")
		// A gap in which nothing happened changes nothing.
		f.gap(7, true)
		f.gap(7, false)
		bob.want(missing)
		bob.wantNothing()
		f.reap(7, 5)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:5 Host:false")
		ann = f.connect(t, 1)
		ann.send("REQUEST_RECONNECT RoomID:7 RoomSecret:99 ClientID:0 ClientSecret:" + annSecret)
		ann.want("RESPONSE_CONNECT ID:0 Secret:" + annSecret)
		bob.want("RESPONSE_CLIENT_CONNECT ID:0 Host:false")
	})
}

// The answer to who is in the room may be missed like everything else.
func TestGapAfterAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		f.with(func() {
			f.onTell = func() {
				if f.tells == 1 {
					f.deaf = true
				}
			}
		})
		f.gap(7, false)
		bob.want(missing)
		synctest.Wait()
		f.reap(7, 0)
		f.gap(7, false)
		bob.want(missing)
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
	})
}

// While Redis is asked who is in the room, the next gap comes, and the answer is missed.
func TestGapWhileAsking(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.with(func() { // somebody else is host, elsewhere: bob's node alone asks
			r := f.rooms[7]
			r.seats[0], r.next, r.host, r.fence = "elsewhere", 1, 0, 1
		})
		bob, _ := f.join(t, 1, 1)
		f.with(func() {
			f.onTell = func() {
				if f.tells == 1 { // this answer is missed, and the gap told before anybody knows that it was given
					for _, r := range f.receivers {
						r.Gap(relay.RoomTopic(7), relay.Position{})
					}
					f.deaf = true
					delete(f.rooms[7].seats, 0)
					f.rooms[7].elect()
				} else {
					f.deaf = false
				}
			}
		})
		f.gap(7, false)
		bob.want(missing, missing)
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
	})
}

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

// A host that the server closes has its seat given up at once, not when it has answered.
func TestSeatOfOneThatIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.join(t, 0, 0) // and reads nothing more
		bob, _ := f.join(t, 1, 1)
		began := time.Now()
		f.nodes[0].group.Refuse()
		go f.nodes[0].group.Drain(t.Context(), time.Millisecond)
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// After a gap, what a newcomer has said that joined in it is heard, and so is what
// somebody said who left in it.
func TestSaidInAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, bob, _ := f.three(t)
		f.with(func() {
			r := f.rooms[7]
			r.seats[5] = "elsewhere"
			delete(r.seats, 2)
			f.away = true
		})
		f.gap(7, false)
		f.say(7, said{kind: roomspb.RelayType_HOST, encoded: []byte{0x08, 2, 0x1a, 1, 'a'}}, "5")
		f.say(7, said{kind: roomspb.RelayType_HOST, encoded: []byte{0x08, 2, 0x1a, 1, 'b'}}, "2")
		f.say(7, said{kind: roomspb.RelayType_TARGET, fence: 1, target: 5}, "0")
		f.say(7, said{kind: roomspb.RelayType_HOST}, "6") // never was there
		f.with(func() { f.away = false })
		ann.want(missing, "RESPONSE_CLIENT_DISCONNECT ID:2 Host:false", "RESPONSE_CLIENT_CONNECT ID:5 Host:false",
			`RESPONSE_RELAY_MESSAGE Type:HOST Data:"a"`, `RESPONSE_RELAY_MESSAGE Type:HOST Data:"b"`)
		ann.wantNothing()
		bob.want(missing)
		f.say(7, said{kind: roomspb.RelayType_TARGET, fence: 1, target: 2}, "0")
		ann.wantError(errTarget)
		f.reap(7, 5)
	})
}

// What is said between a gap and the answer to who is in the room is judged by that.
func TestSaidAfterAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		f.with(func() {
			f.rooms[7].host, f.rooms[7].fence = 1, 2 // nobody hears of it
			f.away = true                            // and nobody can ask
		})
		f.gap(7, false)
		ann.want(missing)
		bob.want(missing)
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 1, encoded: []byte{0x1a, 1, 'a'}}, "0") // a former host
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 2, encoded: []byte{0x1a, 1, 'b'}}, "1")
		f.with(func() { f.away = false })
		moves(ann, 1, false)
		ann.wantError(errMoved)
		ann.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:"b"`)
		moves(bob, 1, true)
		ann.wantNothing()
		bob.wantNothing()
	})
}

// A shard holds no more of what it cannot judge than is kept of the stream.
func TestHeldIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		f.with(func() { f.away = true })
		f.gap(7, false)
		bob.want(missing)
		for range maxHeld + 10 {
			f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 1}, "0")
		}
		f.with(func() { f.away = false })
		for range maxHeld {
			bob.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:""`)
		}
		bob.wantNothing()
		ann.want(missing)
		for range 10 {
			ann.wantError(errUnsent)
		}
		ann.wantNothing()
	})
}

// A connection whose seat was given up without it is closed.
func TestSeatReaped(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		cid, _ := f.join(t, 0, 2)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false", "RESPONSE_CLIENT_CONNECT ID:2 Host:false")
		f.reap(7, 0, 2)
		ann.wantClose(conn.CodeTryLater, "the place in the room is lost: reconnect")
		cid.wantClose(conn.CodeTryLater, "the place in the room is lost: reconnect")
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false", "RESPONSE_CLIENT_DISCONNECT ID:2 Host:false")
	})
}

// The same, when that was missed, and the client is back on another node.
func TestSeatReapedInAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, secret := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		f.gap(7, true)
		f.reap(7, 0)
		f.with(func() {
			_, err := func() (relay.Seat, error) {
				f.mu.Unlock()
				defer f.mu.Lock()
				return f.Rejoin(t.Context(), 7, 99, "elsewhere", 0, number(secret), false)
			}()
			if err != nil {
				t.Errorf("Rejoin: %v", err)
			}
		})
		f.gap(7, false)
		ann.want(missing)
		ann.wantClose(conn.CodeTryLater, "the place in the room is lost: reconnect")
		bob.want(missing)
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false", "RESPONSE_CLIENT_CONNECT ID:0 Host:false")
		f.reap(7, 0)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
	})
}

func TestSeatsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, secret := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		idle := f.connect(t, 0)
		if n := f.nodes[0].server.Rooms(); n != 1 {
			t.Errorf("clients are in %d rooms, want 1", n)
		}
		f.nodes[0].server.SeatsLost()
		ann.wantClose(conn.CodeTryLater, "the place in the room is lost: reconnect")
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
		idle.send("REQUEST_RECONNECT RoomID:7 RoomSecret:99 ClientID:0 ClientSecret:" + secret)
		idle.want("RESPONSE_CONNECT ID:0 Secret:" + secret)
		bob.want("RESPONSE_CLIENT_CONNECT ID:0 Host:false")
	})
}

// A room that Redis has lost is over for those who are in it.
func TestRoomGone(t *testing.T) {
	for name, tell := range map[string]func(f *fixture){
		"told by the node": func(f *fixture) {
			for _, n := range f.nodes {
				n.server.RoomGone(7)
			}
		},
		"found after a gap": func(f *fixture) { f.gap(7, false) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, f *fixture) {
				ann, _ := f.join(t, 0, 0)
				bob, _ := f.join(t, 1, 1)
				ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
				f.with(func() { delete(f.rooms, 7) })
				tell(f)
				for _, c := range []*client{ann, bob} {
					if name == "found after a gap" {
						c.want(missing)
					}
					c.wantClose(conn.CodeRoomClosed, "room closed")
				}
				f.room(7, 99, 3)
				f.join(t, 0, 0)
			})
		})
	}
}

// Without Redis there are errors, and the connection stays.
func TestRedisAway(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		f.with(func() { f.away = true })
		cid := f.connect(t, 0)
		other := f.connect(t, 1)
		for _, c := range []*client{cid, other} {
			c.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
			c.wantError(errAway)
		}
		for _, request := range []string{"REQUEST_LIST", "REQUEST_KICK ClientID:1", "REQUEST_GRANT_HOST HostID:1"} {
			ann.send(request)
			ann.wantError(errAway)
		}
		ann.send("REQUEST_RELAY_MESSAGE")
		ann.wantError(errUnsent)
		f.with(func() { f.away = false })
		for i, c := range []*client{cid, other} {
			c.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
			if got, closed := c.read(); closed != nil {
				t.Fatalf("%d: %s %v", i, got, closed)
			}
			ann.want(fmt.Sprintf("RESPONSE_CLIENT_CONNECT ID:%d Host:false", i+1))
		}
	})
}

// A join that Redis did but did not answer, and took back: the client was told that it
// is in the room, so that its connection ends.
func TestJoinUnanswered(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		f.with(func() { f.answers = func() error { return relay.ErrUnavailable } })
		bob := f.connect(t, 1)
		bob.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
		got, closed := bob.read()
		for closed == nil && got != "" {
			got, closed = bob.read()
		}
		if closed == nil || closed.Code != conn.CodeTryLater {
			t.Errorf("the connection ends with %v", closed)
		}
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false", "RESPONSE_CLIENT_DISCONNECT ID:1 Host:false")
	})
}

// A node that does not hear of its own join cannot serve the client.
func TestJoinUnheard(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		f.with(func() { f.deaf = true })
		bob := f.connect(t, 1)
		bob.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
		bob.wantClose(conn.CodeTryLater, "the room cannot be heard: reconnect")
		if got := f.members(); len(got) != 0 {
			t.Errorf("%d are in the room", got)
		}
	})
}

// The last words of who goes are heard before it is told that it has gone.
func TestLastWords(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		for range 5 {
			bob.send(`REQUEST_RELAY_MESSAGE Type:HOST Data:"farewell"`)
		}
		if err := bob.Close(1000, ""); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			ann.want(`RESPONSE_RELAY_MESSAGE Type:HOST Data:"farewell"`)
		}
		ann.want("RESPONSE_CLIENT_DISCONNECT ID:1 Host:false")
	})
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, true, Config{Rate: 2}, conn.Config{})
		ann, _ := f.join(t, 0, 0) // 10 of 80
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		for range 2 * burstSeconds {
			ann.send("REQUEST_RELAY_MESSAGE")
			bob.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:""`)
		}
		ann.send("REQUEST_RELAY_MESSAGE")
		ann.wantError(errTooFast)
		for range 7 {
			bob.send("REQUEST_CONNECT RoomID:7 RoomSecret:99")
			bob.wantError(errInRoom)
		}
		bob.send("REQUEST_LIST")
		bob.wantError(errTooFast)
		time.Sleep(2 * time.Second) // of the bubble's clock
		ann.send("REQUEST_RELAY_MESSAGE")
		bob.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:""`)
		bob.send("REQUEST_LIST")
		bob.want("RESPONSE_LIST List:{ID:0 Host:true} List:{ID:1 Host:false}")
	})
}

// A drain closes clients with 1012, and they are out of the room.
func TestDrain(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		ann.send(`REQUEST_RELAY_MESSAGE Data:"last"`)
		bob.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:"last"`)
		f.nodes[0].group.Refuse()
		go f.nodes[0].group.Drain(t.Context(), time.Second)
		ann.wantClose(conn.CodeRestart, "service restart")
		moves(bob, 1, true)
		bob.want("RESPONSE_CLIENT_DISCONNECT ID:0 Host:false")
	})
}

// A secret is positive, and not always the same.
func TestSecrets(t *testing.T) {
	seen := map[int32]bool{}
	for range 100 {
		s := newSecret()
		if s <= 0 || seen[s] {
			t.Errorf("the secret %d", s)
		}
		seen[s] = true
	}
}
