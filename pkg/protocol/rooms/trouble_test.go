package rooms

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// inBubble runs a test on two nodes in memory, with a clock of its own.
func inBubble(t *testing.T, test func(t *testing.T, f *fixture)) {
	synctest.Test(t, func(t *testing.T) { test(t, newFixture(t, true, Config{}, conn.Config{})) })
}

const missing = `RESPONSE_ERROR Code:500 message:"messages of the room may be missing"`

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
