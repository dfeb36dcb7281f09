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
		"!j 0 1 0 a 0 1 0 a", "hello", "!j 0 1 1 b 0", "!j 0 1 2 c 0 3 0 a 1 b 2 c", "!g 2 2 0 - 0", "!k 2 2 1 - 0",
		"!j 2 2 1 d 0", "!l 0 3 -1 - 1 2", "!t 0 3 -1 - 0 2 0 a 1 d", "!l 1 4 -1 - 1 0", "!l -1 5 -1 - 1 1",
		"!j 2 6 2 e 0", "gap", "!l 2 6 -1 - 1 4", "!t 3 9 -1 - 0 2 3 f 5 g", "!j 3 9 6 h 0", "!l 5 10 -1 - 1 3", "!c -1 11 -1 - 0",
	}
	v, err := ReplayRoom(7, 3, heardRoom(events[:17]))
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

// What must not be in a room's topic is found.
func TestRoomViewRefuses(t *testing.T) {
	two := []string{"!j 0 1 0 a 0", "!j 0 1 1 b 0"}
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
		{"who is not connected leaves", append(two, "!l 0 1 -1 - 1 2")},
		{"nobody leaves", append(two, "!l 0 1 -1 - 0")},
		{"the wrong order", append(two, "!l -1 2 -1 - 2 1 0")},
		{"no new host", append(two, "!l -1 2 -1 - 1 0")},
		{"the old host stays", append(two, "!l 0 1 -1 - 1 0")},
		{"another host though the old one stays", append(two, "!l 1 2 -1 - 1 1")},
		{"a host is kicked", append(two, "!k 0 1 0 - 0")},
		{"a kick by nobody", append(two, "!k 1 2 1 - 0")},
		{"a grant by another", append(two, "!g 0 2 1 - 0")},
		{"a grant to nobody", append(two, "!g 2 2 0 - 0")},
		{"a grant without a fence", append(two, "!g 1 1 0 - 0")},
		{"a host by hearsay", append(two, "!t 1 2 -1 - 0 2 0 a 1 b")},
		{"something after the end", append(two, "!c -1 2 -1 - 0", "!t -1 2 -1 - 0 0")},
		{"after a gap, a host that is not there", append(two, "gap", "!t 3 2 -1 - 0 1 0 a")},
		{"after a gap, too many", append(two, "gap", "!t 3 2 -1 - 0 3 3 x 4 y 5 z")},
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
