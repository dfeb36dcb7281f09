package relay_test

import (
	"reflect"
	"testing"

	"parley/pkg/relay"
)

func TestRoomEvents(t *testing.T) {
	for _, e := range []relay.RoomEvent{
		{Kind: relay.RoomJoined, Host: 0, Fence: 1, Client: 0, Name: "seat-1", Full: true,
			All: []relay.Seat{{Room: 7, Client: 0, Name: "seat-1"}, {Room: 7, Client: 12, Name: "b"}}},
		{Kind: relay.RoomLeft, Host: relay.NoHost, Fence: 3, Client: -1, Gone: []int32{1, 2, 2147483647}},
		{Kind: relay.RoomKicked, Host: 4, Fence: 9007199254740991, Client: 5},
		{Kind: relay.RoomMoving, Host: relay.NoHost, Fence: 4, Client: 1},
		{Kind: relay.RoomGranted, Host: 2, Fence: 5, Client: 1},
		{Kind: relay.RoomTold, Host: relay.NoHost, Client: -1, Full: true},
		{Kind: relay.RoomClosed, Host: relay.NoHost, Client: -1, Gone: []int32{3}},
	} {
		m := relay.Message{Topic: relay.RoomTopic(7), Body: relay.AppendRoomEvent(nil, &e)}
		got, ok := relay.RoomEventOf(&m)
		if !ok || !reflect.DeepEqual(got, e) {
			t.Errorf("%q is read as %+v, %v, want %+v", m.Body, got, ok, e)
		}
	}
}

func TestRoomEventOfOthers(t *testing.T) {
	for _, body := range []string{"", "!", "!j", "!x 0 1 0 - 0", "!j 0 1 0 -", "!j 0 1 0 - 1", "!j 0 1 0 - 0 1 5",
		"!j 0 1 0 - 0 1 5 a 6", "!j 0 1 0 - 0 1 5 a b", "!l 0 1 0 - -1", "!l 0 1 0 - 99999999 1", "!l 9999999999 1 0 - 0", "j 0 1 0 - 0", "!jj 0 1 0 - 0", "!j 0 1 0 - 0 "} {
		if e, ok := relay.RoomEventOf(&relay.Message{Topic: "room/1", Body: []byte(body)}); ok {
			t.Errorf("%q is read as %+v", body, e)
		}
	}
	if _, ok := relay.RoomEventOf(&relay.Message{Topic: "room/1", From: "1", Body: []byte("!j 0 1 0 a 0")}); ok {
		t.Error("what a client says is read as an event")
	}
}

func TestCommitted(t *testing.T) {
	for max, want := range map[int32]int64{1: 5, 4: 5, 5: 5, 6: 10, 10: 10, 2147483647: 2147483650} {
		if got := relay.Committed(max); got != want {
			t.Errorf("a room for %d commits %d, want %d", max, got, want)
		}
	}
}

func TestRoomTopic(t *testing.T) {
	if got := relay.RoomTopic(2147483647); got != "room/2147483647" {
		t.Errorf("the topic is %q", got)
	}
}
