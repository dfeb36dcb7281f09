package roomspb

import (
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// TestWire holds the messages to bytes that were worked out by hand: a field begins
// with its number times 8, plus 0 for a number and 2 for what begins with its length;
// a negative int32 is as long as one of 64 bits; what is zero is left out.
func TestWire(t *testing.T) {
	for name, c := range map[string]struct {
		message proto.Message
		want    string
	}{
		"nothing is the first flag": {&Payload{}, ""},
		"a request without data":    {&Payload{Flag: FlagType_REQUEST_LIST}, "08 03"},
		"a request to join":         {&Payload{Flag: FlagType_REQUEST_CONNECT, Data: []byte{8, 5, 16, 6}}, "08 01  12 04 08 05 10 06"},
		"join":                      {&JoinRoomRequest{RoomID: 300, RoomSecret: 2147483647}, "08 ac 02  10 ff ff ff ff 07"},
		"rejoin":                    {&RejoinRoomRequest{RoomID: 1, RoomSecret: 2, ClientID: 3, ClientSecret: 4}, "08 01  10 02  18 03  20 04"},
		"rejoin as the first":       {&RejoinRoomRequest{RoomID: 1, RoomSecret: 2, ClientSecret: 4}, "08 01  10 02  20 04"},
		"client":                    {&Client{ID: 0, Secret: 128}, "10 80 01"},
		"another client":            {&Client{ID: 1, Secret: 1}, "08 01  10 01"},
		"a negative number":         {&Client{ID: -1}, "08 ff ff ff ff ff ff ff ff ff 01"},
		"sanitised":                 {&SanitisedClient{ID: 7}, "08 07"},
		"sanitised host":            {&SanitisedClient{Host: true}, "10 01"},
		"list":                      {&ClientList{List: []*SanitisedClient{{Host: true}, {ID: 1}, {}}}, "0a 02 10 01  0a 02 08 01  0a 00"},
		"kick":                      {&KickRequest{ClientID: 2}, "08 02"},
		"kicked":                    {&KickResponse{ClientID: 2}, "08 02"},
		"grant":                     {&GrantHostRequest{HostID: 3}, "08 03"},
		"finish":                    {&FinishHostMigrationResponse{HostID: 3}, "08 03"},
		"error":                     {&Error{Code: 400, Message: "no"}, "08 90 03  12 02 6e 6f"},
		"broadcast":                 {&Relay{Data: []byte("hi")}, "1a 02 68 69"},
		"to one":                    {&Relay{Type: RelayType_TARGET, Target: proto.Int32(5), Data: []byte{0}}, "08 01  10 05  1a 01 00"},
		"to the first":              {&Relay{Type: RelayType_TARGET, Target: proto.Int32(0)}, "08 01  10 00"},
		"to nobody":                 {&Relay{Type: RelayType_TARGET}, "08 01"},
		"to the host":               {&Relay{Type: RelayType_HOST, Data: []byte{255}}, "08 02  1a 01 ff"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := proto.Marshal(c.message)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s: % x, %v, want % x", name, got, err, want)
		}
		read := c.message.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(want, read); err != nil || !proto.Equal(read, c.message) {
			t.Errorf("%s: % x is read as %v, %v", name, want, read, err)
		}
	}
}

func TestNumbers(t *testing.T) {
	for number, name := range []string{"REQUEST_RELAY_MESSAGE", "REQUEST_CONNECT", "REQUEST_RECONNECT", "REQUEST_LIST",
		"REQUEST_KICK", "REQUEST_GRANT_HOST", "RESPONSE_RELAY_MESSAGE", "RESPONSE_CONNECT", "RESPONSE_ASSIGN_HOST",
		"RESPONSE_BEGIN_HOST_MIGRATE", "RESPONSE_FINISH_HOST_MIGRATE", "RESPONSE_LIST", "RESPONSE_KICK", "RESPONSE_ERROR",
		"RESPONSE_CLIENT_CONNECT", "RESPONSE_CLIENT_DISCONNECT"} {
		if got := FlagType(number).String(); got != name {
			t.Errorf("flag %d is %s, want %s", number, got, name)
		}
	}
	if len(FlagType_name) != 16 || len(RelayType_name) != 3 {
		t.Errorf("%d flags and %d relay types", len(FlagType_name), len(RelayType_name))
	}
	for number, name := range []string{"BROADCAST", "TARGET", "HOST"} {
		if got := RelayType(number).String(); got != name {
			t.Errorf("relay type %d is %s, want %s", number, got, name)
		}
	}
}
