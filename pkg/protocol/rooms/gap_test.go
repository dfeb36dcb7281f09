package rooms

import (
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

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
		bob.want(missing, "RESPONSE_BEGIN_HOST_MIGRATE")
		began := time.Now()
		moveEnds(bob, 1, true) // when all nodes have heard of it
		if took := time.Since(began); took != settleTime {
			t.Errorf("the next host waited for %s, want %s", took, settleTime)
		}
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

// What is said between a gap and the answer to who is in the room is judged by that.
func TestSaidAfterAGap(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture) {
		ann, _ := f.join(t, 0, 0)
		bob, _ := f.join(t, 1, 1)
		ann.want("RESPONSE_CLIENT_CONNECT ID:1 Host:false")
		f.with(func() {
			r := f.rooms[7]
			r.seats[2], r.host, r.fence = "elsewhere", 2, 2 // nobody hears of it
			f.away = true                                   // and nobody can ask
		})
		f.gap(7, false)
		ann.want(missing)
		bob.want(missing)
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 1, encoded: []byte{0x1a, 1, 'a'}}, "0") // a former host
		f.say(7, said{kind: roomspb.RelayType_BROADCAST, fence: 2, encoded: []byte{0x1a, 1, 'b'}}, "2")
		f.with(func() { f.away = false })
		for _, c := range []*client{ann, bob} {
			moves(c, 2, false)
			if c == ann {
				c.wantError(errMoved)
			}
			c.want(`RESPONSE_RELAY_MESSAGE Type:BROADCAST Data:"b"`)
			c.wantNothing()
		}
		f.reap(7, 2)
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
