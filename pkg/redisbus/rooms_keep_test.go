package redisbus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// With a dead node go all its seats, in every room, and the next client is host; that
// of a node whose name begins alike stay. It may be done twice, at the same time.
func TestRoomsReap(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		const many = roomsPage + 10
		dead, alike, other := openRooms(t, url, "n", RoomsOptions{}), openRooms(t, url, "n!", RoomsOptions{}), openRooms(t, url, "o", RoomsOptions{})
		room := other.room(many + 10)
		dead.join(room, 0)
		alike.join(room, 1)
		other.join(room, 2)
		gone := []string{"0"}
		for i := range int32(many) {
			dead.join(room, 3+i)
			gone = append(gone, fmt.Sprint(3+i))
		}
		alone := other.room(2)
		dead.join(alone, 0)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { is(t, "reap", other.reap(t.Context(), "n"), nil) })
		}
		wg.Wait()
		if n := testCounter(t, other.metrics.reaped); n != many+2 {
			t.Errorf("%v seats are counted, want %d", n, many+2)
		}
		other.has(room, 1, 1, 2)
		other.has(alone, relay.NoHost)
		other.told(alone, "!j 0 <fence> 0 n-0 0", "!l -1 <fence> -1 - 1 0")
		last := other.heard.Bodies(relay.RoomTopic(room.ID))
		relaytest.Eventually(t, "it is told", func() bool {
			last = other.heard.Bodies(relay.RoomTopic(room.ID))
			return strings.HasPrefix(last[len(last)-1], "!l")
		})
		if fields := strings.Split(last[len(last)-1], " "); len(last) != many+4 || fields[1] != "1" || !slices.Equal(fields[6:], gone) {
			t.Errorf("heard %d events, the last one %q", len(last), last[len(last)-1])
		}
	})
}

// Seats that nobody has here are given up. Of those that Redis does not have the room
// is told, when they are missed twice; of a room that is not there, the node.
func TestRoomsAudit(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		var gone []int32
		r.OnGone(func(room int32) { gone = append(gone, room) })
		room, lost := r.room(9), r.room(9)
		kept, missing := r.join(room, 0), r.join(room, 1)
		inLost := r.join(lost, 0)
		audit := func() {
			t.Helper()
			if err := r.compare(ctx); err != nil {
				t.Error(err)
			}
			if _, err := r.leaveSome(ctx); err != nil {
				t.Error(err)
			}
		}
		audit() // the first one after a new connection
		audit()
		if _, err := r.do(ctx, roomJoin, room.ID, "n", "x", room.Secret, 1, "0", "n:x", -1); err != nil { // nobody has heard the answer
			t.Fatal(err)
		}
		audit()
		r.has(room, 0, 0, 1, 2) // once may be chance
		audit()
		r.has(room, 0, 0, 1)
		audit() // all is well
		if _, err := r.do(ctx, roomLeave, room.ID, "n", missing.Name); err != nil {
			t.Fatal(err)
		}
		if _, err := r.do(ctx, roomClose, lost.ID); err != nil {
			t.Fatal(err)
		}
		audit()
		audit()
		if len(gone) > 0 {
			t.Errorf("told of %d at the first audit", gone)
		}
		audit()
		if !slices.Equal(gone, []int32{lost.ID}) {
			t.Errorf("told of rooms %d, want %d", gone, lost.ID)
		}
		r.Leave(missing)
		r.Leave(inLost)
		audit()
		audit()
		r.told(room, "!j 0 <fence> 0 n-0 0", "!j 0 = 1 n-1 0", "!j 0 = 2 x 0", "!l 0 = -1 - 1 2",
			"!l 0 = -1 - 1 1", "!t 0 = -1 - 0 1 0 n-0")
		r.has(room, 0, kept.Client)
	})
}

// Redis loses that a host was assigned, but not that it was granted: it is assigned again.
func TestRoomsAssignedAgain(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(5)
		a, b := r.join(room, 0), r.join(room, 1)
		relaytest.Eventually(t, "the epoch is known", func() bool { return r.link.regime() != regime{} && r.bus.Ready() == nil })
		is(t, "compare", r.compare(ctx), nil)
		is(t, "Grant", r.Grant(ctx, a, 1), nil)
		records := r.link.keys.rooms(roomsKind)
		moving := r.link.ask.HGet(ctx, records, fmt.Sprint(room.ID)).Val()
		is(t, "Assign", r.Assign(ctx, a), nil)
		is(t, "losing it", r.link.ask.HSet(ctx, records, fmt.Sprint(room.ID), moving).Err(), nil)
		is(t, "compare", r.compare(ctx), nil)
		r.has(room, relay.NoHost, 0, 1) // nothing tells of a loss
		r.audited = regime{}
		is(t, "compare", r.compare(ctx), nil)
		r.has(room, 1, 0, 1)
		is(t, "Grant", r.Grant(ctx, b, 0), nil)
		is(t, "Assign", r.Assign(ctx, b), nil)
		is(t, "Grant", r.Grant(ctx, a, 1), nil)
		r.audited = regime{}
		is(t, "compare", r.compare(ctx), nil)
		r.has(room, relay.NoHost, 0, 1) // a move of which nobody has said that it is to end
		r.leave(b)
		r.told(room, "!j 0 <fence> 0 n-0 0", "!j 0 = 1 n-1 0", "!m -1 <fence> 0 - 0", "!g 1 <fence> 0 - 0", "!g 1 <fence> 0 - 0",
			"!m -1 <fence> 1 - 0", "!g 0 <fence> 1 - 0", "!m -1 <fence> 0 - 0", "!l -1 = -1 - 1 1")
	})
}

// A node that gives up its seats tells so, has Redis know, and takes no answer for one
// that was asked for before.
func TestRoomsGiveUp(t *testing.T) {
	ctx, url := t.Context(), relaytest.StartRedis(t).URL()
	r := openRooms(t, url, "n", RoomsOptions{})
	room, lost := r.room(9), 0
	s := r.join(room, 0)
	r.OnLost(func() {
		lost++
		if _, err := r.leaveSome(ctx); err != nil {
			t.Error(err)
		}
		r.has(room, s.Client, s.Client) // the others hear of it when the connections are closed
	})
	before, err := r.ask(place{room.ID, "x"})
	is(t, "asking", err, nil)
	is(t, "asking twice", second(r.ask(place{room.ID, "x"})), errSeatInUse)
	r.lost([]relay.Claim{{Name: "seat/1"}})
	if lost != 0 {
		t.Error("another's claim was lost")
	}
	r.lost([]relay.Claim{{Name: "seat/1"}, {Name: claimOfRooms("n")}})
	r.giveUpAll("the test says so") // nothing is left
	if lost != 1 || r.claimed {
		t.Errorf("told %d times; claimed: %v", lost, r.claimed)
	}
	if _, err := r.do(ctx, roomJoin, room.ID, "n", "x", room.Secret, 1, "0", "n:x", -1); err != nil {
		t.Fatal(err)
	}
	is(t, "the answer", r.answered(place{room.ID, "x"}, before, 1, false, nil), errGivenUp)
	is(t, "the claim for it", r.claimOnce(ctx, before), errGivenUp)
	r.Leave(s)
	r.leave(s)
	r.has(room, relay.NoHost)
	// The lease is in doubt for as long as nothing else is known.
	for ago, want := range map[time.Duration]bool{r.fleet.times.life / 2: false, r.fleet.times.life: true} {
		r.fleet.renewed = time.Now().Add(-ago)
		if doubt := r.fleet.inDoubt(); doubt != want {
			t.Errorf("renewed %v ago: in doubt is %v, want %v", ago, doubt, want)
		}
	}
	r.fleet.renewed = time.Now().Add(-r.fleet.times.life)
	_, err = r.Join(ctx, room.ID, room.Secret, "y", 1, false)
	is(t, "Join in doubt", err, relay.ErrUnavailable)
	r.has(room, relay.NoHost)
}

// Too few replicas have a seat: it is given back.
func TestRoomsWaitForReplicas(t *testing.T) {
	url := relaytest.StartRedis(t).URL()
	plain := openRooms(t, url, "o", RoomsOptions{})
	r := openRoomsOn(t, Options{URL: url, Node: "n", WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond}, RoomsOptions{})
	room := plain.room(5)
	is(t, "Join", second(r.Join(t.Context(), room.ID, room.Secret, "x", 1, false)), relay.ErrUnavailable)
	is(t, "Create", second(r.Create(t.Context(), 1)), relay.ErrUnavailable)
	plain.has(room, 0, 0)
	if totals, err := plain.Totals(t.Context()); err != nil || totals.Rooms != 2 {
		t.Errorf("in all %+v (%v)", totals, err)
	}
	// What is given up and undone needs none.
	_, err := r.leaveSome(t.Context())
	is(t, "leaving", err, nil)
	plain.has(room, relay.NoHost)
	is(t, "unmaking", r.unmake(t.Context(), false), nil)
	if totals, err := plain.Totals(t.Context()); err != nil || totals.Rooms != 1 || totals.Committed != 5 || len(r.unmade) != 0 {
		t.Errorf("in all %+v (%v), and %d to be unmade", totals, err, len(r.unmade))
	}
	other := openRoomsOn(t, Options{URL: url, Node: "p"}, RoomsOptions{})
	other.join(room, 1)
	is(t, "reaping", r.reap(t.Context(), "p"), nil)
	plain.has(room, relay.NoHost)
	is(t, "Room needs no replica", second(r.Room(t.Context(), room.ID)), nil)
}

// After its end nobody has a seat, and nobody gets one.
func TestRoomsAfterTheEnd(t *testing.T) {
	r := openRooms(t, relaytest.StartRedis(t).URL(), "n", RoomsOptions{})
	room := r.room(200)
	for i := range int32(roomsBatch + 1) {
		r.join(room, i)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	is(t, "Run", r.Run(ctx), nil)
	r.has(room, relay.NoHost)
	is(t, "Join", second(r.Join(t.Context(), room.ID, room.Secret, "x", 1, false)), relay.ErrClosed)
	if n, err := r.link.ask.Exists(t.Context(), r.link.keys.rooms(seatsKind)).Result(); err != nil || n != 0 {
		t.Errorf("seats are left: %d (%v)", n, err)
	}
}

// What waits to be undone is bounded.
func TestRoomsBacklog(t *testing.T) {
	url := relaytest.StartRedis(t).URL()
	r := openRooms(t, url, "n", RoomsOptions{})
	room := r.room(5)
	r.join(room, 0)
	r.unmade = append(r.unmade, &unmade{args: []any{room.Secret, room.ID}}) // somebody was in it
	unused, err := r.Create(t.Context(), 5)
	is(t, "Create", err, nil)
	r.unmade = append(r.unmade, &unmade{args: []any{unused.Secret ^ 1, unused.ID}})
	late := &unmade{args: []any{77, 78, 79}}
	r.unmade = append(r.unmade, late)
	is(t, "unmaking", r.unmake(t.Context(), false), nil)
	r.has(room, 0, 0)
	is(t, "Room", second(r.Room(t.Context(), unused.ID)), nil)
	// What was not there is sought once more: Redis may do late what it was asked before.
	is(t, "creating late", second(r.do(t.Context(), roomCreate, 0, 5, 100, 77, 78, 79)), nil)
	is(t, "unmaking", r.unmake(t.Context(), false), nil)
	is(t, "Room", second(r.Room(t.Context(), 78)), nil)
	is(t, "unmaking", r.unmake(t.Context(), true), nil)
	is(t, "Room", second(r.Room(t.Context(), 78)), relay.ErrNoRoom)
	is(t, "Room", second(r.Room(t.Context(), unused.ID)), nil)
	if len(r.unmade) != 0 {
		t.Errorf("%d rooms are still to be unmade", len(r.unmade))
	}
	for i := range maxLeaving - 1 {
		r.leaving[place{room.ID, fmt.Sprint(i)}] = struct{}{}
	}
	r.join(room, 1)
	r.leaving[place{room.ID, "one too many"}] = struct{}{}
	is(t, "Join", second(r.Join(t.Context(), room.ID, room.Secret, "x", 1, false)), relay.ErrOverloaded)
	r.unmade = make([]*unmade, maxUnmade-1)
	is(t, "Create", second(r.Create(t.Context(), 1)), nil)
	r.unmade = make([]*unmade, maxUnmade)
	is(t, "Create", second(r.Create(t.Context(), 1)), relay.ErrOverloaded)
	r.unmade = nil
	r.creating = maxUnmade // of which none may be confirmed
	is(t, "Create", second(r.Create(t.Context(), 1)), relay.ErrOverloaded)
}

// With too few replicas the dead and those who leave go all the same, however many they
// are: each pipeline takes no longer than with enough.
func TestRoomsGiveUpWithoutReplicas(t *testing.T) {
	url := relaytest.StartRedis(t).URL()
	dead := openRooms(t, url, "o", RoomsOptions{})
	r := openRoomsOn(t, Options{URL: url, Node: "n", WaitReplicas: 1, WaitTimeout: time.Second}, RoomsOptions{TTL: time.Millisecond})
	const many = 4 * roomsBatch
	for range many {
		dead.join(dead.room(2), 0)
	}
	began := time.Now()
	is(t, "reap", r.reap(t.Context(), "o"), nil)
	for i := range many {
		is(t, "Create", second(r.do(t.Context(), roomAct{name: "create", keys: 3, repeats: true}, 0, 1, 1<<40, 1, 1+i)), nil)
	}
	is(t, "sweep", r.sweep(t.Context()), nil)
	if took := time.Since(began); took > relaytest.Patience/10 {
		t.Errorf("it took %v", took)
	}
	if totals, err := dead.Totals(t.Context()); err != nil || totals.Clients != 0 || totals.Rooms > many {
		t.Errorf("in all %+v (%v)", totals, err)
	}
}

// Those of a room that leave at the same time go in one step: none of them is made host.
func TestRoomsLeaveTogether(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		r, other := openRooms(t, url, "n", RoomsOptions{}), openRooms(t, url, "o", RoomsOptions{})
		rooms := []relay.Room{r.room(9), r.room(9)}
		for _, room := range rooms {
			for i := range int32(5) {
				r.Leave(r.join(room, i))
			}
			other.join(room, 5)
			r.leaving[place{room.ID, "nobody's"}] = struct{}{}
		}
		more, err := r.leaveSome(t.Context())
		if err != nil || more || len(r.leaving) != 0 {
			t.Errorf("%d are left, more: %v (%v)", len(r.leaving), more, err)
		}
		for _, room := range rooms {
			r.has(room, 5, 5)
			r.told(room, "!j 0 <fence> 0 n-0 0", "!j 0 = 1 n-1 0", "!j 0 = 2 n-2 0", "!j 0 = 3 n-3 0", "!j 0 = 4 n-4 0", "!j 0 = 5 o-5 0",
				"!l 5 <fence> -1 - 5 0 1 2 3 4")
		}
	})
}

// A lease is in doubt by its last renewal alone: not while another is being taken, nor
// before the first.
func TestRoomsLeaseInDoubt(t *testing.T) {
	r := openRooms(t, relaytest.StartRedis(t).URL(), "n", RoomsOptions{})
	for _, c := range []struct {
		lease   string
		renewed time.Time
		want    bool
	}{
		{"", time.Time{}, false},
		{"", time.Now(), false},
		{"n#1", time.Now(), false},
		{"", time.Now().Add(-r.fleet.times.life), true},
		{"n#1", time.Now().Add(-r.fleet.times.life), true},
	} {
		r.fleet.lease, r.fleet.renewed = c.lease, c.renewed
		if doubt := r.fleet.inDoubt(); doubt != c.want {
			t.Errorf("with lease %q, renewed %v: in doubt is %v", c.lease, c.renewed, doubt)
		}
	}
}
