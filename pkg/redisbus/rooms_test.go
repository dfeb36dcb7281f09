package redisbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/pkg/embedded"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// roomsUnit is a node that does not run: nothing happens in it but what a test does.
type roomsUnit struct {
	*Rooms
	t     *testing.T
	bus   *Bus
	heard *relaytest.Recorder
	end   func() // ends its bus
}

// openRooms makes one.
func openRooms(t *testing.T, url, node string, o RoomsOptions) *roomsUnit {
	t.Helper()
	return openRoomsOn(t, Options{URL: url, Node: node}, o)
}

// openRoomsOn makes one that believes to have its claim.
func openRoomsOn(t *testing.T, bus Options, o RoomsOptions) *roomsUnit {
	t.Helper()
	node := bus.Node
	bus.Log, bus.Keeps = slog.New(slog.NewTextHandler(t.Output(), nil)), func(relay.Topic) bool { return true }
	b, err := New(bus)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFleet(FleetOptions{Node: node, Client: b.FleetClient})
	if err != nil {
		t.Fatal(err)
	}
	f.lease, f.serving, f.renewed = newLease(node), true, time.Now().Add(time.Hour)
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	if o.Max == 0 {
		o.Max = 1 << 40
	}
	r := NewRooms(b, f, o)
	r.claimed = true
	heard, end := relaytest.Run(t, b)
	return &roomsUnit{r, t, b, heard, end}
}

// onRedises runs a test on a real Redis and on the embedded one.
func onRedises(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("Redis", func(t *testing.T) {
		relaytest.NoLeaks(t)
		test(t, relaytest.StartRedis(t).URL())
	})
	t.Run("Embedded", func(t *testing.T) {
		relaytest.NoLeaks(t)
		r, err := embedded.StartRedis()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		test(t, r.URL())
	})
}

// room makes a room that the node hears.
func (r *roomsUnit) room(max int32) relay.Room {
	r.t.Helper()
	room, err := r.Create(r.t.Context(), max)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.bus.Subscribe(r.t.Context(), relay.RoomTopic(room.ID)); err != nil {
		r.t.Fatal(err)
	}
	return room
}

// join seats a client whose secret is its id plus 100.
func (r *roomsUnit) join(room relay.Room, id int32) relay.Seat {
	r.t.Helper()
	s, err := r.Join(r.t.Context(), room.ID, room.Secret, fmt.Sprint(r.node, "-", id), 100+id, false)
	if err != nil || s.Client != id {
		r.t.Fatalf("Join: %+v (%v), want client %d", s, err, id)
	}
	return s
}

// leave gives a seat up, now.
func (r *roomsUnit) leave(s relay.Seat) {
	r.t.Helper()
	r.Leave(s)
	for more := true; more; {
		var err error
		if more, err = r.leaveSome(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// told checks the bodies of what was heard of a room; "<fence>" stands for any number
// but that of the fence before, "=" for that.
func (r *roomsUnit) told(room relay.Room, want ...string) {
	r.t.Helper()
	topic := relay.RoomTopic(room.ID)
	relaytest.Eventually(r.t, fmt.Sprintf("%d events are heard", len(want)), func() bool { return r.heard.Count(topic) >= len(want) })
	var got []string
	fence := "0"
	for _, body := range r.heard.Bodies(topic) {
		fields := strings.Split(body, " ")
		if n, _ := strconv.ParseInt(fields[2], 10, 64); fields[2] == fence {
			fields[2] = "="
		} else if last, _ := strconv.ParseInt(fence, 10, 64); n > last {
			fence, fields[2] = fields[2], "<fence>"
		}
		got = append(got, strings.Join(fields, " "))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("heard\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, m := range r.heard.Messages(topic) {
		if e, ok := relay.RoomEventOf(&m); !ok || string(relay.AppendRoomEvent(nil, &e)) != string(m.Body) {
			r.t.Errorf("%q is read as %+v, %v", m.Body, e, ok)
		}
	}
}

// has checks who is connected.
func (r *roomsUnit) has(room relay.Room, host int32, want ...int32) {
	r.t.Helper()
	clients, is, err := r.Connected(r.t.Context(), room.ID)
	if err != nil || is != host || !slices.Equal(clients, want) {
		r.t.Errorf("connected are %d, host is %d (%v); want %d and %d", clients, is, err, want, host)
	}
	if now, err := r.Room(r.t.Context(), room.ID); err != nil || int(now.Clients) != len(want) {
		r.t.Errorf("the room has %d clients (%v), want %d", now.Clients, err, len(want))
	}
}

func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error = %v, want %v", what, err, want)
	}
}

// Each transition, and what is told of it.
func TestRoomsTransitions(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(3)
		a, b, c := r.join(room, 0), r.join(room, 1), r.join(room, 2)
		r.leave(b)
		is(t, "Kick", r.Kick(ctx, a, 2), nil)
		is(t, "Kick of who has gone", r.Kick(ctx, a, 2), relay.ErrNoClient)
		is(t, "Kick of the host", r.Kick(ctx, a, 0), relay.ErrNoClient)
		is(t, "Kick by who has gone", r.Kick(ctx, c, 0), relay.ErrNoSeat)
		r.Leave(c)
		again, err := r.Rejoin(ctx, room.ID, room.Secret, "again", 1, 101, true)
		is(t, "Rejoin", err, nil)
		is(t, "Kick by another", r.Kick(ctx, again, 0), relay.ErrNotHost)
		is(t, "Grant by another", r.Grant(ctx, again, 1), relay.ErrNotHost)
		is(t, "Grant", r.Grant(ctx, a, 1), nil)
		is(t, "Grant", r.Grant(ctx, a, 1), relay.ErrNotHost)
		is(t, "Assign", r.Assign(ctx, a), nil)
		r.leave(again)
		is(t, "Tell", r.Tell(ctx, room.ID), nil)
		r.has(room, 0, 0)
		r.leave(a)
		r.has(room, relay.NoHost)
		is(t, "Tell", r.Tell(ctx, room.ID), nil)
		is(t, "Close", r.Close(ctx, room.ID), nil)
		r.told(room,
			"!j 0 <fence> 0 n-0 0", "!j 0 = 1 n-1 0", "!j 0 = 2 n-2 0", "!l 0 = -1 - 1 1", "!k 0 = 2 - 0",
			"!j 0 = 1 again 0 2 0 n-0 1 again", "!m -1 <fence> 0 - 0", "!g 1 <fence> 0 - 0", "!l 0 <fence> -1 - 1 1", "!t 0 = -1 - 0 1 0 n-0",
			"!l -1 <fence> -1 - 1 0", "!t -1 = -1 - 0 0", "!c -1 = -1 - 0")
		for what, err := range map[string]error{
			"Room": second(r.Room(ctx, room.ID)), "Close": r.Close(ctx, room.ID), "Tell": r.Tell(ctx, room.ID),
			"Kick": r.Kick(ctx, a, 1), "Grant": r.Grant(ctx, a, 1), "Assign": r.Assign(ctx, a), "Connected": third(r.Connected(ctx, room.ID)),
			"Join":   second(r.Join(ctx, room.ID, room.Secret, "x", 1, false)),
			"Rejoin": second(r.Rejoin(ctx, room.ID, room.Secret, "x", 1, 101, false)),
		} {
			is(t, what+" of a room that is no more", err, relay.ErrNoRoom)
		}
		if n, err := r.link.ask.Exists(ctx, r.link.keys.roomKeys(room.ID)[1:6]...).Result(); err != nil || n != 0 {
			t.Errorf("%d keys are left of the room (%v)", n, err)
		}
		for what, want := range map[string]float64{"create": 1, "join": 3, "rejoin": 1, "leave": 3, "kick": 1, "grant": 1, "assign": 1, "tell": 2, "close": 1, "reap": 0} {
			if n := testCounter(t, r.metrics.transitions.WithLabelValues(what)); n != want {
				t.Errorf("%v transitions %s are counted, want %v", n, what, want)
			}
		}
	})
}

func second[T any](_ T, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// What is asked again, since the answer was lost, happens once.
func TestRoomsRepeated(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		twice := func(a roomAct, room int32, args ...any) []string {
			t.Helper()
			first, err := r.do(ctx, a, room, args...)
			if err != nil {
				t.Fatal(err)
			}
			again, err := r.do(ctx, a, room, args...)
			if err != nil || !slices.Equal(first, again) {
				t.Errorf("%s: %q, and again %q (%v)", a.name, first, again, err)
			}
			return first
		}
		made := twice(roomCreate, 0, 4, 100, 77, 12, 13)
		if totals, err := r.Totals(ctx); err != nil || totals.Rooms != 1 || totals.Committed != 5 || made[0] != "12" {
			t.Errorf("made %q; in all %+v (%v)", made, totals, err)
		}
		if other, err := r.do(ctx, roomCreate, 0, 4, 100, 78, 12, 13); err != nil || other[0] != "13" {
			t.Errorf("another one asks: %q (%v)", other, err)
		}
		_, err := r.do(ctx, roomCreate, 0, 4, 100, 79, 12, 13)
		is(t, "no id is free", err, errRoomIDs)
		room := relay.Room{ID: 12, Secret: 77, MaxClients: 4}
		if _, err := r.bus.Subscribe(ctx, relay.RoomTopic(12)); err != nil {
			t.Fatal(err)
		}
		twice(roomJoin, 12, "n", "a", 77, 1, "0", "n:1", -1)
		twice(roomJoin, 12, "n", "b", 77, 2, "0", "n:2", -1)
		for range 2 {
			if _, err := r.do(ctx, roomLeave, 12, "n", "b"); err != nil {
				t.Error(err)
			}
		}
		twice(roomRejoin, 12, "n", "c", 77, 2, "0", "n:3", 1)
		is(t, "the name in another call", second(r.do(ctx, roomJoin, 12, "n", "a", 77, 1, "0", "n:4", -1)), errSeatInUse)
		for range 2 {
			if _, err := r.do(ctx, roomReap, 12, "n"); err != nil {
				t.Error(err)
			}
		}
		// Who asks again gets what there was, though the seat has been taken away.
		for call, want := range map[string]string{"n:1": "0", "n:3": "1"} {
			if got, err := r.do(ctx, roomJoin, 12, "n", "a", 77, 1, "0", call, -1); err != nil || got[0] != want {
				t.Errorf("%s again: %q (%v), want %s", call, got, err, want)
			}
		}
		r.told(room, "!j 0 <fence> 0 a 0", "!j 0 = 1 b 0", "!l 0 = -1 - 1 1", "!j 0 = 1 c 0", "!l -1 <fence> -1 - 2 0 1")
	})
}

// A secret is right, or it is not there at all.
func TestRoomsSecrets(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(2)
		r.leave(r.join(room, 0))
		for _, secret := range []int32{0, -1, -room.Secret, room.Secret ^ 1} {
			is(t, "Join", second(r.Join(ctx, room.ID, secret, "x", 1, false)), relay.ErrNoRoom)
			is(t, "Rejoin", second(r.Rejoin(ctx, room.ID, secret, "x", 0, 100, false)), relay.ErrNoRoom)
		}
		for _, pair := range [][2]int32{{0, 101}, {0, -100}, {1, 100}, {1, -1}, {1, 0}, {-1, -1}, {-1, 100}} {
			is(t, fmt.Sprint("Rejoin ", pair), second(r.Rejoin(ctx, room.ID, room.Secret, "x", pair[0], pair[1], false)), relay.ErrNoClient)
		}
		for _, id := range []int32{0, -1, -room.ID, room.ID ^ 1} {
			is(t, "Join elsewhere", second(r.Join(ctx, id, room.Secret, "x", 1, false)), relay.ErrNoRoom)
		}
		_, err := r.Rejoin(ctx, room.ID, room.Secret, "x", 0, 100, false)
		is(t, "Rejoin", err, nil)
		is(t, "Rejoin of who is there", second(r.Rejoin(ctx, room.ID, room.Secret, "y", 0, 100, false)), relay.ErrConnected)
		r.told(room, "!j 0 <fence> 0 n-0 0", "!l -1 <fence> -1 - 1 0", "!j 0 <fence> 0 x 0")
	})
}

// Who comes back has its former seat given up, in the same step, if that is the one which
// it names.
func TestRoomsFormerSeat(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, dead, r := t.Context(), openRooms(t, url, "d", RoomsOptions{}), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(2) // which is full
		dead.join(room, 0)
		r.join(room, 1)
		rejoin := func(client, secret int32, name, former string) ([]string, error) {
			return r.do(ctx, roomRejoin, room.ID, "n", name, room.Secret, secret, "0", "n:"+name, client, former)
		}
		for _, former := range []string{"", "d", "d d-1", "n d-0", "d d-0 ", "d other"} {
			reply, err := rejoin(0, 100, "x", former)
			if is(t, "Rejoin", err, relay.ErrConnected); !slices.Equal(reply, []string{"d d-0"}) {
				t.Errorf("of %q redis says %q", former, reply)
			}
		}
		is(t, "Rejoin with a wrong secret", second(rejoin(0, 101, "x", "d d-0")), relay.ErrNoClient)
		r.has(room, 0, 0, 1)
		for range 2 { // again, when the answer was lost
			reply, err := rejoin(0, 100, "x", "d d-0")
			if is(t, "Rejoin", err, nil); !slices.Equal(reply, []string{"0"}) {
				t.Errorf("back as %q", reply)
			}
		}
		is(t, "Rejoin once more", second(rejoin(0, 100, "y", "d d-0")), relay.ErrConnected)
		r.has(room, 1, 0, 1)
		is(t, "what is left of the dead", dead.reap(ctx, "d"), nil)
		r.leave(relay.Seat{Room: room.ID, Client: 1, Name: "n-1"})
		is(t, "Rejoin of one alone", second(rejoin(0, 100, "z", "n x")), nil)
		r.told(room, "!j 0 <fence> 0 d-0 0", "!j 0 = 1 n-1 0", "!l 1 <fence> -1 - 1 0", "!j 1 = 0 x 0", "!l 0 <fence> -1 - 1 1",
			"!l -1 <fence> -1 - 1 0", "!j 0 <fence> 0 z 0")
	})
}

// A node hears Redis as long as its bus runs, and who does not hear it itself cannot
// tell.
func TestRoomsDeaf(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, dead, r := t.Context(), openRooms(t, url, "d", RoomsOptions{}), openRooms(t, url, "n", RoomsOptions{})
		heard := func() bool { // both, or else it is an error
			hears, err := r.hears(ctx, "d")
			return hears && err == nil
		}
		relaytest.Eventually(t, "both hear redis", heard)
		room := r.room(5)
		dead.join(room, 0)
		began := time.Now()
		is(t, "Rejoin", second(r.Rejoin(ctx, room.ID, room.Secret, "x", 0, 100, false)), relay.ErrConnected)
		if took := time.Since(began); took >= (deafLooks-1)*deafPause {
			t.Errorf("a client of a node that lives was refused after %v", took)
		}
		is(t, "Rejoin where it is", second(dead.Rejoin(ctx, room.ID, room.Secret, "x", 0, 100, false)), relay.ErrConnected)
		dead.end()
		own := r.link.canary
		r.link.canary += "!"
		is(t, "deaf oneself", second(r.hears(ctx, "d")), errOwnCanary)
		is(t, "Rejoin", second(r.Rejoin(ctx, room.ID, room.Secret, "x", 0, 100, false)), relay.ErrConnected)
		r.link.canary = own
		short, cancel := context.WithTimeout(ctx, deafPause)
		defer cancel()
		is(t, "Rejoin in a hurry", second(r.Rejoin(short, room.ID, room.Secret, "x", 0, 100, false)), relay.ErrConnected)
		r.has(room, 0, 0)
		began = time.Now()
		is(t, "Rejoin", second(r.Rejoin(ctx, room.ID, room.Secret, "x", 0, 100, false)), nil)
		if took := time.Since(began); took < (deafLooks-1)*deafPause {
			t.Errorf("a node was taken for deaf after %v", took)
		}
		r.told(room, "!j 0 <fence> 0 d-0 0", "!l -1 <fence> -1 - 1 0", "!j 0 <fence> 0 x 0")
	})
}

func TestRoomsSeatNames(t *testing.T) {
	r := openRooms(t, relaytest.StartRedis(t).URL(), "n", RoomsOptions{})
	room := r.room(10)
	for name, valid := range map[string]bool{"": false, "-": false, "a b": false, "a\n": false, "ä": false, "\x7f": false,
		strings.Repeat("a", 65): false, strings.Repeat("a", 64): true, "!": true, "~": true, "--": true, "a!": true, "a": true} {
		_, err := r.Join(t.Context(), room.ID, room.Secret, name, 1, true)
		if valid && err != nil || !valid && !errors.Is(err, errSeatName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// One name begins like another, and so do a node's and a room's.
	other := openRooms(t, r.url(), "n!", RoomsOptions{})
	s, err := other.Join(t.Context(), room.ID, room.Secret, "a", 1, true)
	is(t, "Join", err, nil)
	r.leave(relay.Seat{Room: room.ID, Name: "a"})
	if clients, _, err := r.Connected(t.Context(), room.ID); err != nil || len(clients) != 6 || !slices.Contains(clients, s.Client) {
		t.Errorf("connected are %d (%v), want 6", clients, err)
	}
	if page, err := r.seatsOf(t.Context(), "n", "", 100); err != nil || len(page) != 5 {
		t.Errorf("%d seats are the node's (%v), want 5", len(page), err)
	}
}

// url is that of the Redis, if it needs no password.
func (r *roomsUnit) url() string { return "redis://" + r.link.master.addr }

// The keys of a room share a slot.
func TestRoomsKeys(t *testing.T) {
	k := partitionKeyspace(partitionOf(relay.RoomTopics))
	for _, room := range []int32{1, 1<<31 - 1} {
		if partitionOf(relay.RoomTopic(room)) != partitionOf(relay.RoomTopics) {
			t.Errorf("room %d is in another partition", room)
		}
		seen := map[string]bool{}
		for _, key := range k.roomKeys(room) {
			if keySlot(key) != k.slot() || seen[key] {
				t.Errorf("%s is in slot %d, or twice", key, keySlot(key))
			}
			seen[key] = true
		}
	}
}
