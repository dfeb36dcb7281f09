package relaytest

import (
	"strings"
	"testing"

	"parley/pkg/relay"
)

// heardRoom are events of room 7 as a receiver has heard them; "gap" is one.
func heardRoom(bodies []string) (all []Event) {
	for _, body := range bodies {
		if body == "gap" {
			all = append(all, Event{Gap: true})
			continue
		}
		from := ""
		if body[0] != '!' {
			from = "0"
		}
		all = append(all, Event{Message: relay.Message{Topic: relay.RoomTopic(7), From: from, Body: []byte(body)}})
	}
	return all
}

func TestRoomViewFollows(t *testing.T) {
	events := []string{
		"!j 0 1 0 a 0 1 0 a", "hello", "!j 0 1 1 b 0", "!j 0 1 2 c 0 3 0 a 1 b 2 c", "!m -1 2 0 - 0", "!t -1 2 -1 - 0 3 0 a 1 b 2 c", "!g 2 3 0 - 0", "!k 2 3 1 - 0",
		"!j 2 3 1 d 0", "!l 0 4 -1 - 1 2", "!t 0 4 -1 - 0 2 0 a 1 d", "!l 1 5 -1 - 1 0", "!l -1 6 -1 - 1 1",
		"!j 2 7 2 e 0", "gap", "!l 2 6 -1 - 1 4", "!t 3 9 -1 - 0 2 3 f 5 g", "!j 3 9 6 h 0", "!l 5 10 -1 - 1 3", "!c -1 11 -1 - 0",
	}
	v, err := ReplayRoom(7, 3, heardRoom(events[:19]))
	if err != nil {
		t.Fatal(err)
	}
	if v.Host != 5 || v.Fence != 10 || len(v.Seats) != 2 || v.Seats[6] != "h" || !v.Has(relay.Seat{Room: 7, Client: 5, Name: "g"}) {
		t.Errorf("in the end: %+v", v)
	}
	if v, err = ReplayRoom(7, 3, heardRoom(events)); err != nil || !v.Closed || len(v.Seats) != 0 {
		t.Errorf("after the end: %+v (%v)", v, err)
	}
}

// A move ends with an assignment, or with the seat of who has granted; and until then
// nobody is host.
func TestRoomViewFollowsMoves(t *testing.T) {
	moving := []string{"!j 0 1 0 a 0", "!j 0 1 1 b 0", "!j 0 1 2 c 0", "!m -1 2 0 - 0"}
	for _, c := range []struct {
		events []string
		host   int32
	}{
		{nil, relay.NoHost},
		{[]string{"!j -1 2 3 d 0"}, relay.NoHost},
		{[]string{"!l -1 2 -1 - 1 2"}, relay.NoHost},
		{[]string{"!l -1 2 -1 - 2 1 2", "!j -1 2 3 d 0"}, relay.NoHost},
		{[]string{"!l -1 2 -1 - 2 1 2", "!g 0 3 0 - 0"}, 0},
		{[]string{"!g 2 3 0 - 0"}, 2},
		{[]string{"!l 2 3 -1 - 1 0"}, 2},
		{[]string{"!l 1 3 -1 - 1 0"}, 1},
		{[]string{"!l 2 3 -1 - 2 0 1"}, 2},
		{[]string{"!l -1 2 -1 - 3 0 1 2"}, relay.NoHost},
		{[]string{"!l -1 2 -1 - 3 0 1 2", "!j 3 4 3 d 0"}, 3},
		{[]string{"!c -1 2 -1 - 0"}, relay.NoHost},
		{[]string{"gap", "!t -1 2 -1 - 0 3 0 a 1 b 2 c", "!l -1 2 -1 - 1 1", "!g 2 3 0 - 0"}, 2},
		{[]string{"gap", "!t -1 2 -1 - 0 3 0 a 1 b 2 c", "!l 1 3 -1 - 1 0", "!m -1 4 1 - 0", "!g 2 5 1 - 0"}, 2},
	} {
		v, err := ReplayRoom(7, 4, heardRoom(append(moving[:4:4], c.events...)))
		if err != nil || v.Host != c.host || v.Moving() != (c.host == relay.NoHost && len(v.Seats) > 0) {
			t.Errorf("after %q: host is %d of %v, moving: %v (%v); want %d", c.events, v.Host, v.Seats, v.Moving(), err, c.host)
		}
	}
}

// What must not be in a room's topic is found.
func TestRoomViewRefuses(t *testing.T) {
	two := []string{"!j 0 1 0 a 0", "!j 0 1 1 b 0"}
	moving := append(two[:2:2], "!m -1 2 0 - 0")
	for _, c := range []struct {
		name   string
		events []string
	}{
		{"no event", []string{"!"}},
		{"the first is no host", []string{"!j -1 0 0 a 0"}},
		{"the fence does not rise", []string{"!j 0 0 0 a 0"}},
		{"another host than the first", []string{two[0], "!j 1 2 1 b 0"}},
		{"the fence rises with the same host", []string{two[0], "!j 0 2 1 b 0"}},
		{"an id is left out", []string{two[0], "!j 0 1 2 b 0"}},
		{"twice the same client", []string{two[0], "!j 0 1 0 b 0"}},
		{"twice the same seat", []string{two[0], "!j 0 1 1 a 0"}},
		{"too many", []string{two[0], two[1], "!j 0 1 2 c 0"}},
		{"not all are listed", []string{two[0], "!j 0 1 1 b 0 1 1 b"}},
		{"the wrong seat is listed", []string{two[0], two[1], "!t 0 1 -1 - 0 2 0 a 1 c"}},
		{"nobody is listed", []string{two[0], "!t 0 1 -1 - 0"}},
		{"who is not connected leaves", append(two[:2:2], "!l 0 1 -1 - 1 2")},
		{"nobody leaves", append(two[:2:2], "!l 0 1 -1 - 0")},
		{"the wrong order", append(two[:2:2], "!l -1 2 -1 - 2 1 0")},
		{"no new host", append(two[:2:2], "!l -1 2 -1 - 1 0")},
		{"the old host stays", append(two[:2:2], "!l 0 1 -1 - 1 0")},
		{"another host though the old one stays", append(two[:2:2], "!l 1 2 -1 - 1 1")},
		{"a host is kicked", append(two[:2:2], "!k 0 1 0 - 0")},
		{"a kick by nobody", append(two[:2:2], "!k 1 2 1 - 0")},
		{"a grant by another", append(two[:2:2], "!m -1 2 1 - 0")},
		{"a grant with a host", append(two[:2:2], "!m 1 2 0 - 0")},
		{"a grant without a fence", append(two[:2:2], "!m -1 1 0 - 0")},
		{"a grant to nobody", append(two[:1:1], "!m -1 2 0 - 0")},
		{"a grant on the move", append(moving[:3:3], "!m -1 3 0 - 0")},
		{"an assignment to nobody", append(moving[:3:3], "!g 2 3 0 - 0")},
		{"an assignment without a fence", append(moving[:3:3], "!g 1 2 0 - 0")},
		{"an assignment by another", append(moving[:3:3], "!g 0 3 1 - 0")},
		{"an assignment of no grant", append(two[:2:2], "!g 1 2 0 - 0")},
		{"a kick on the move", append(moving[:3:3], "!k -1 2 1 - 0")},
		{"a move without who has granted", append(moving[:3:3], "!l -1 2 -1 - 1 0")},
		{"a move without anybody", append(moving[:3:3], "!l 0 3 -1 - 2 0 1")},
		{"a move that ends though who has granted stays", append(moving[:3:3], "!l 0 3 -1 - 1 1")},
		{"a newcomer that ends a move", append(moving[:3:3], "!l -1 2 -1 - 1 1", "!j 2 3 2 c 0")},
		{"a host by hearsay", append(two[:2:2], "!t 1 2 -1 - 0 2 0 a 1 b")},
		{"something after the end", append(two[:2:2], "!c -1 2 -1 - 0", "!t -1 2 -1 - 0 0")},
		{"after a gap, a host that is not there", append(two[:2:2], "gap", "!t 3 2 -1 - 0 1 0 a")},
		{"after a gap, too many", append(two[:2:2], "gap", "!t 3 2 -1 - 0 3 3 x 4 y 5 z")},
	} {
		before := heardRoom(c.events[:len(c.events)-1])
		if _, err := ReplayRoom(7, 2, before); err != nil && !strings.HasPrefix(c.name, "no event") {
			t.Errorf("%s: before the last event: %v", c.name, err)
		}
		if v, err := ReplayRoom(7, 2, heardRoom(c.events)); err == nil {
			t.Errorf("%s: nothing is found wrong, host is %d of %v", c.name, v.Host, v.Seats)
		}
	}
}
