package redisbus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// However many ask at the same time, from wherever, the last seat is one's.
func TestRoomsLastOfManySeats(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		nodes := []*roomsUnit{openRooms(t, url, "n", RoomsOptions{}), openRooms(t, url, "o", RoomsOptions{})}
		room := nodes[0].room(2)
		nodes[0].join(room, 0)
		var mu sync.Mutex
		var wg sync.WaitGroup
		joined := 0
		for i := range 64 {
			wg.Go(func() {
				_, err := nodes[i%2].Join(t.Context(), room.ID, room.Secret, fmt.Sprint(i), 1, false)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					joined++
				} else if !errors.Is(err, relay.ErrRoomFull) {
					t.Errorf("Join: %v", err)
				}
			})
		}
		wg.Wait()
		if joined != 1 {
			t.Errorf("%d have joined, want 1", joined)
		}
		nodes[1].has(room, 0, 0, 1)
	})
}

// However many make rooms at the same time, the maximum is kept, and reached.
func TestRoomsMaximumUnderCrowd(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		o := RoomsOptions{Max: 99}
		nodes := []*roomsUnit{openRooms(t, url, "n", o), openRooms(t, url, "o", o)}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var made []relay.Room
		for i := range 64 {
			wg.Go(func() {
				room, err := nodes[i%2].Create(t.Context(), int32(1+i%5))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made = append(made, room)
				} else if !errors.Is(err, relay.ErrRoomsFull) {
					t.Errorf("Create: %v", err)
				}
			})
		}
		wg.Wait()
		totals := func(rooms, committed int64) {
			t.Helper()
			want := relay.RoomTotals{Rooms: rooms, Max: 99, Committed: committed}
			if got, err := nodes[0].Totals(t.Context()); err != nil || got != want {
				t.Errorf("in all %+v (%v), want %+v", got, err, want)
			}
		}
		totals(19, 95)
		if len(made) != 19 {
			t.Fatalf("%d rooms were made, want 19", len(made))
		}
		is(t, "Close", nodes[0].Close(t.Context(), made[0].ID), nil)
		is(t, "Close again", nodes[0].Close(t.Context(), made[0].ID), relay.ErrNoRoom)
		totals(18, 90)
		is(t, "too large a room", second(nodes[1].Create(t.Context(), 6)), relay.ErrRoomsFull)
		is(t, "the last one", second(nodes[1].Create(t.Context(), 5)), nil)
		totals(19, 95)
		list, err := nodes[1].List(t.Context())
		if err != nil || len(list) != 19 || !slices.IsSortedFunc(list, func(a, b relay.Room) int { return int(a.ID - b.ID) }) {
			t.Errorf("listed are %+v (%v)", list, err)
		}
	})
}

// Who come and go do not fill Redis: of those who left, the latest may come back.
func TestRoomsMemoryOfTheGone(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		const all = roomMemory + 3
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(2)
		host := r.join(room, 0)
		for i := range int32(all) {
			r.leave(r.join(room, i+1))
		}
		keys := r.link.keys.roomKeys(room.ID)
		if known, left := r.link.ask.HLen(ctx, keys[4]).Val(), r.link.ask.LLen(ctx, keys[5]).Val(); known != 2*(roomMemory+1) || left != roomMemory {
			t.Errorf("%d fields are kept, for %d who left; want 2 for the host and for each of %d", known, left, roomMemory)
		}
		forgotten := int32(all - roomMemory)
		is(t, "Rejoin of one too many", second(r.Rejoin(ctx, room.ID, room.Secret, "x", forgotten, 100+forgotten, false)), relay.ErrNoClient)
		s, err := r.Rejoin(ctx, room.ID, room.Secret, "x", forgotten+1, 101+forgotten, false)
		is(t, "Rejoin of the oldest that is known", err, nil)
		r.leave(s) // it is the latest now
		r.leave(r.join(room, all+1))
		is(t, "Rejoin of the one behind it", second(r.Rejoin(ctx, room.ID, room.Secret, "x", forgotten+2, 102+forgotten, false)), relay.ErrNoClient)
		_, err = r.Rejoin(ctx, room.ID, room.Secret, "x", forgotten+1, 101+forgotten, false)
		is(t, "Rejoin once more", err, nil)
		r.has(room, host.Client, 0, forgotten+1)
	})
}

// However many rooms there are whose time is over, a new one is refused only when it
// should be; and sums are as they should be when all are swept, at one look.
func TestRoomsOverdue(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		const many = roomsSweep + 2*roomsOverdue
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{TTL: time.Millisecond, Max: 5 * many})
		lasts := openRooms(t, url, "o", RoomsOptions{Max: 5 * many})
		for from := 0; from < many; from += roomsBatch {
			ids := make([]int32, roomsBatch)
			err := r.doAll(ctx, roomCreate, ids, func(i int) []any { return []any{1, 5 * many, 1, 1 + from + i} },
				func(_ int, _ []string, err error) { is(t, "Create", err, nil) })
			is(t, "creating", err, nil)
		}
		// All is committed, and all of it is over.
		relaytest.Eventually(t, "all rooms are over", func() bool {
			list, err := r.List(ctx)
			return err == nil && len(list) == 0
		})
		made, want := []int32{1, 6, 5 * roomsOverdue}, relay.RoomTotals{Max: 5 * many}
		for _, max := range made {
			if _, err := lasts.Create(ctx, max); err != nil {
				t.Errorf("Create(%d): %v", max, err)
			}
			want.Rooms++
			want.Committed += relay.Committed(max)
		}
		if got, err := lasts.Totals(ctx); err != nil || got.Rooms != want.Rooms || got.Committed < want.Committed || got.Committed > 5*many {
			t.Errorf("in all %+v (%v), want %+v or more that is committed", got, err, want)
		}
		rest := 5*many - int32(want.Committed)
		is(t, "Create of more than is left", second(lasts.Create(ctx, rest+1)), relay.ErrRoomsFull)
		is(t, "Create of what is left", second(lasts.Create(ctx, rest)), nil)
		is(t, "Create of one more", second(lasts.Create(ctx, 1)), relay.ErrRoomsFull)
		r.swept(len(made) + 1)
		want.Rooms++
		want.Committed = 5 * many
		if got, err := lasts.Totals(ctx); err != nil || got != want {
			t.Errorf("in all %+v (%v), want %+v", got, err, want)
		}
		list, err := lasts.List(ctx)
		if err != nil || len(list) != len(made)+1 {
			t.Fatalf("listed are %+v (%v)", list, err)
		}
		for _, room := range list {
			is(t, "Close", lasts.Close(ctx, room.ID), nil)
		}
		if got, err := lasts.Totals(ctx); err != nil || got != (relay.RoomTotals{Max: 5 * many}) {
			t.Errorf("in the end, in all %+v (%v)", got, err)
		}
	})
}

// A room is for so many, and not for one more.
func TestRoomsMostClients(t *testing.T) {
	r := openRooms(t, relaytest.StartRedis(t).URL(), "n", RoomsOptions{})
	is(t, "Create", second(r.Create(t.Context(), relay.MaxRoomClients)), nil)
	is(t, "Create", second(r.Create(t.Context(), relay.MaxRoomClients+1)), relay.ErrRoomsFull)
	_, err := r.Create(t.Context(), 0)
	if err == nil || errors.Is(err, relay.ErrRoomsFull) {
		t.Errorf("Create of a room for nobody: %v", err)
	}
}

// Of rooms in which nobody ever was nothing is told, and nothing left; of others, nothing
// for longer than what is said there.
func TestRoomsClosedLeaveLittle(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{Retention: relay.Retention{Length: 10, Age: 30 * time.Second}})
		never, once := r.room(5), r.room(5)
		r.leave(r.join(once, 0))
		for _, room := range []relay.Room{never, once} {
			is(t, "Close", r.Close(ctx, room.ID), nil)
		}
		r.told(once, "!j 0 <fence> 0 n-0 0", "!l -1 <fence> -1 - 1 0", "!c -1 = -1 - 0")
		r.told(never)
		if n := r.link.ask.Exists(ctx, r.link.keys.roomKeys(never.ID)[3:]...).Val(); n != 0 {
			t.Errorf("%d keys are left of a room in which nobody was", n)
		}
		keys := r.link.keys.roomKeys(once.ID)
		if n := r.link.ask.Exists(ctx, keys[3:]...).Val(); n != 2 {
			t.Errorf("%d keys are left of a room that was closed, want a stream and its head", n)
		}
		for _, key := range keys[6:] {
			if life := r.link.ask.PTTL(ctx, key).Val(); life <= 0 || life > 31*time.Second {
				t.Errorf("%s lives for %v", key, life)
			}
		}
	})
}

// As many of those who left may come back as there were at once.
func TestRoomsMemoryOfLargeRooms(t *testing.T) {
	r := openRooms(t, relaytest.StartRedis(t).URL(), "n", RoomsOptions{})
	const max = roomMemory + 2
	room := r.room(max)
	for i := range int32(max) {
		r.join(room, i)
	}
	is(t, "reap", r.reap(t.Context(), "n"), nil)
	is(t, "Rejoin", second(r.Rejoin(t.Context(), room.ID, room.Secret, "x", 0, 100, false)), nil)
	keys := r.link.keys.roomKeys(room.ID)
	if left := r.link.ask.LLen(t.Context(), keys[5]).Val(); left != max-1 {
		t.Errorf("%d may come back, want %d", left, max-1)
	}
}

// A room with nobody in it is there until its time is over, and not a moment longer,
// also while nobody has swept it.
func TestRoomsExpireAtTheEdge(t *testing.T) {
	server := miniredis.RunT(t)
	const life = time.Hour
	at := time.UnixMilli(1_800_000_000_000)
	ctx, o := t.Context(), RoomsOptions{TTL: life, Max: 10}
	server.SetTime(at)
	r := openRooms(t, "redis://"+server.Addr(), "n", o)
	never, left := r.room(5), r.room(2)
	gone := r.join(left, 0)
	is(t, "a room too many", second(r.Create(ctx, 1)), relay.ErrRoomsFull)
	server.SetTime(at.Add(time.Minute))
	r.leave(gone)

	server.SetTime(at.Add(life - time.Millisecond))
	is(t, "a millisecond before", second(r.Room(ctx, never.ID)), nil)
	is(t, "a millisecond before", second(r.Create(ctx, 1)), relay.ErrRoomsFull)
	if list, err := r.List(ctx); err != nil || len(list) != 2 {
		t.Errorf("listed are %+v (%v), want both", list, err)
	}
	r.swept(2)

	server.SetTime(at.Add(life))
	is(t, "Room", second(r.Room(ctx, never.ID)), relay.ErrNoRoom)
	is(t, "Join", second(r.Join(ctx, never.ID, never.Secret, "x", 1, false)), relay.ErrNoRoom)
	is(t, "Tell", r.Tell(ctx, never.ID), relay.ErrNoRoom)
	is(t, "Close", r.Close(ctx, never.ID), relay.ErrNoRoom)
	if list, err := r.List(ctx); err != nil || len(list) != 1 || list[0].ID != left.ID {
		t.Errorf("listed are %+v (%v), want one", list, err)
	}
	if totals, err := r.Totals(ctx); err != nil || totals != (relay.RoomTotals{Rooms: 1, Max: 10, Committed: 5}) {
		t.Errorf("in all %+v (%v)", totals, err)
	}
	other, err := r.Create(ctx, 5)
	is(t, "Create in its stead", err, nil)
	r.swept(2)
	if totals, err := r.Totals(ctx); err != nil || totals != (relay.RoomTotals{Rooms: 2, Max: 10, Committed: 10}) {
		t.Errorf("in all %+v (%v)", totals, err)
	}

	// The time of one with clients begins anew when they have gone.
	back, err := r.Rejoin(ctx, left.ID, left.Secret, "x", 0, 100, false)
	is(t, "Rejoin", err, nil)
	server.SetTime(at.Add(10 * life))
	r.swept(1) // not the one with somebody in it
	is(t, "Room", second(r.Room(ctx, other.ID)), relay.ErrNoRoom)
	r.leave(back)
	server.SetTime(at.Add(11*life - time.Millisecond))
	r.swept(1)
	server.SetTime(at.Add(11 * life))
	r.swept(0)
	r.told(left, "!j 0 <fence> 0 n-0 0", "!l -1 <fence> -1 - 1 0", "!j 0 <fence> 0 x 0", "!l -1 <fence> -1 - 1 0", "!c -1 = -1 - 0")
	r.told(never)
	if life := r.link.ask.PTTL(ctx, r.link.keys.head(relay.RoomTopic(left.ID))).Val(); life <= 0 || life > roomsRetention.Age+time.Second {
		t.Errorf("the head of a topic in which nothing follows lives for %v", life)
	}
	if totals, err := r.Totals(ctx); err != nil || totals != (relay.RoomTotals{Max: 10}) {
		t.Errorf("in all %+v (%v)", totals, err)
	}
}

// swept sweeps, and checks how many rooms are left.
func (r *roomsUnit) swept(left int) {
	r.t.Helper()
	if err := r.sweep(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	fields, err := r.link.ask.HKeys(r.t.Context(), r.link.keys.rooms(roomsKind)).Result()
	if err != nil || len(fields) != left+1 { // and the sum
		r.t.Errorf("rooms after a sweep are %q (%v), want %d", fields, err, left)
	}
}

// However many are connected, all are told.
func TestRoomsTellMany(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		const many = 300
		r := openRooms(t, url, "n", RoomsOptions{})
		room := r.room(many)
		var all []relay.Seat
		for i := range many { // a body that needs three bytes for its length
			s, err := r.Join(t.Context(), room.ID, room.Secret, fmt.Sprintf("%064d", i), 1, false)
			is(t, "Join", err, nil)
			all = append(all, s)
		}
		is(t, "Tell", r.Tell(t.Context(), room.ID), nil)
		topic := relay.RoomTopic(room.ID)
		relaytest.Eventually(t, "it is heard", func() bool { return r.heard.Count(topic) == many+1 })
		m := r.heard.Messages(topic)[many]
		if e, ok := relay.RoomEventOf(&m); !ok || e.Kind != relay.RoomTold || !slices.Equal(e.All, all) || len(m.Body) < 1<<14 {
			t.Errorf("%d bytes are read as %+v, %v", len(m.Body), e, ok)
		}
	})
}

// Ids of clients count up, and leap where Redis may have lost the last ones.
func TestRoomsIDsLeap(t *testing.T) {
	onRedises(t, func(t *testing.T, url string) {
		ctx, r := t.Context(), openRooms(t, url, "n", RoomsOptions{})
		room := r.room(5)
		r.join(room, 0)
		r.join(room, 1)
		records := r.link.keys.rooms(roomsKind)
		record := strings.Fields(r.link.ask.HGet(ctx, records, fmt.Sprint(room.ID)).Val())
		record[len(record)-1] = "another"
		is(t, "another history", r.link.ask.HSet(ctx, records, fmt.Sprint(room.ID), strings.Join(record, " ")).Err(), nil)
		r.join(room, 1002)
		r.join(room, 1003)
		record = strings.Fields(r.link.ask.HGet(ctx, records, fmt.Sprint(room.ID)).Val())
		record[2] = "2147482648" // one more than leaves room for a leap
		is(t, "the last ids", r.link.ask.HSet(ctx, records, fmt.Sprint(room.ID), strings.Join(record, " ")).Err(), nil)
		_, err := r.Join(ctx, room.ID, room.Secret, "last", 7, false)
		is(t, "Join", err, relay.ErrRoomFull)
		record[2] = "2147482647"
		is(t, "the last ids", r.link.ask.HSet(ctx, records, fmt.Sprint(room.ID), strings.Join(record, " ")).Err(), nil)
		r.join(room, 2147482647)
	})
}
