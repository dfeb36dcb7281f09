package rooms

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"parley/cmd/parley-bench/internal/roomstest"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
	pb "parley/pkg/protocol/rooms/roomspb"
)

// The codec is held to the one that is generated from the protocol's .proto.

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestsAreWhatTheProtocolSays(t *testing.T) {
	for name, c := range map[string]struct {
		got  []byte
		want proto.Message
	}{
		"list":      {AppendPayload(nil, RequestList, nil), &pb.Payload{Flag: pb.FlagType_REQUEST_LIST}},
		"join":      {appendNumbers(nil, 5, 6), &pb.JoinRoomRequest{RoomID: 5, RoomSecret: 6}},
		"rejoin":    {appendNumbers(nil, 5, 6, 0, 8), &pb.RejoinRoomRequest{RoomID: 5, RoomSecret: 6, ClientSecret: 8}},
		"kick":      {appendNumbers(nil, -1), &pb.KickRequest{ClientID: -1}},
		"broadcast": {AppendRelay(nil, Relay{Data: []byte("x")}), &pb.Relay{Data: []byte("x")}},
		"target":    {AppendRelay(nil, Relay{Type: ToClient, HasTarget: true}), &pb.Relay{Type: pb.RelayType_TARGET, Target: proto.Int32(0)}},
		"payload": {AppendPayload([]byte{}, RequestRelay, AppendRelay(nil, Relay{Type: ToHost})),
			&pb.Payload{Data: encoded(t, &pb.Relay{Type: pb.RelayType_HOST})}},
	} {
		if want := encoded(t, c.want); string(c.got) != string(want) {
			t.Errorf("%s: % x, want % x", name, c.got, want)
		}
	}
	for flag := range Flag(len(pb.FlagType_name)) {
		if want := pb.FlagType(flag).String(); flag.String() != want {
			t.Errorf("flag %d is %s, want %s", int(flag), flag, want)
		}
	}
	if got := Flag(99).String(); got != "flag 99" {
		t.Errorf("an unknown flag is %s", got)
	}
}

func TestResponsesAreRead(t *testing.T) {
	p, err := ParsePayload(encoded(t, &pb.Payload{Flag: pb.FlagType_RESPONSE_LIST, Data: []byte("data")}))
	if err != nil || p.Flag != ResponseList || string(p.Data) != "data" {
		t.Errorf("payload %v, %v", p, err)
	}
	if id, secret, err := ParseClient(encoded(t, &pb.Client{ID: 3, Secret: 2147483647})); err != nil || id != 3 || secret != 2147483647 {
		t.Errorf("client %d, %d, %v", id, secret, err)
	}
	if m, err := ParseMember(encoded(t, &pb.SanitisedClient{ID: 3, Host: true})); err != nil || m != (Member{3, true}) {
		t.Errorf("member %v, %v", m, err)
	}
	list, err := ParseList(encoded(t, &pb.ClientList{List: []*pb.SanitisedClient{{}, {ID: 1, Host: true}}}))
	if err != nil || len(list) != 2 || list[0] != (Member{}) || list[1] != (Member{1, true}) {
		t.Errorf("list %v, %v", list, err)
	}
	if id, err := ParseID(encoded(t, &pb.FinishHostMigrationResponse{HostID: 9})); err != nil || id != 9 {
		t.Errorf("id %d, %v", id, err)
	}
	if e, err := ParseError(encoded(t, &pb.Error{Code: 400, Message: "why"})); err != nil || e.Code != 400 || e.Error() != "the server says 400: why" {
		t.Errorf("error %v, %v", e, err)
	}
	r, err := ParseRelay(encoded(t, &pb.Relay{Type: pb.RelayType_TARGET, Target: proto.Int32(-4), Data: []byte("x")}))
	if err != nil || r.Type != ToClient || !r.HasTarget || r.Target != -4 || string(r.Data) != "x" {
		t.Errorf("relay %+v, %v", r, err)
	}
	for _, b := range []string{"\x08", "\x12\x05x", "\xff", "\x00"} {
		if p, err := ParsePayload([]byte(b)); err == nil {
			t.Errorf("%q is read as %v", b, p)
		}
	}
	if l, err := ParseList([]byte("\x0a\x01\xff")); err == nil {
		t.Errorf("a list with a malformed member is read as %v", l)
	}
	if p, err := ParsePayload([]byte("\x08\x0b\x19\x01\x02\x03\x04\x05\x06\x07\x08")); err != nil || p.Flag != ResponseList {
		t.Errorf("what is unknown is not skipped: %v, %v", p, err)
	}
}

func startServer(t *testing.T) (*roomstest.Server, wsclient.Target) {
	t.Helper()
	s := roomstest.Start(nil)
	t.Cleanup(s.Close)
	target, err := wsclient.ParseTarget(s.URL, Path)
	if err != nil {
		t.Fatal(err)
	}
	return s, target
}

func TestSessions(t *testing.T) {
	_, target := startServer(t)
	d := &wsclient.Dialer{Timeout: 10 * time.Second}
	api := API{Target: target}
	room, err := api.Create(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	next := func(s *Session, want Flag) []byte {
		t.Helper()
		_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, frame, err := s.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePayload(frame)
		if err != nil || p.Flag != want {
			t.Fatalf("%v with % x, want %v", p.Flag, p.Data, want)
		}
		return p.Data
	}
	host, err := Join(t.Context(), d, target, nil, room)
	if err != nil || host.ID != 0 || host.Secret == 0 {
		t.Fatalf("%+v, %v", host, err)
	}
	defer host.CloseNow()
	next(host, ResponseAssign)
	next(host, ResponseJoined)
	other, err := Join(t.Context(), d, target, nil, room)
	if err != nil || other.ID != 1 {
		t.Fatalf("%+v, %v", other, err)
	}
	defer other.CloseNow()
	next(host, ResponseJoined)
	var refused *Error
	if _, err := Join(t.Context(), d, target, nil, room); !errors.As(err, &refused) || refused.Code != 400 {
		t.Errorf("joined a full room: %v", err)
	}
	send := host.NewSend(Broadcast, []byte("and more"))
	for seq := range uint64(3) {
		if err := host.WriteFrame(send.Stamp(texto.ID{Seq: seq, Due: 7})); err != nil {
			t.Fatal(err)
		}
		r, err := ParseRelay(next(other, ResponseRelay))
		id, ok := texto.ParseID(r.Data[:texto.IDLen])
		if err != nil || !ok || id.Seq != seq || id.Due != 7 || string(r.Data[texto.IDLen:]) != "and more" {
			t.Errorf("%+v, %v", id, err)
		}
	}
	if err := other.Request(RequestList); err != nil {
		t.Fatal(err)
	}
	if list, err := ParseList(next(other, ResponseList)); err != nil || len(list) != 2 || list[0] != (Member{0, true}) || list[1] != (Member{1, false}) {
		t.Errorf("%v, %v", list, err)
	}
	other.CloseNow()
	next(host, ResponseLeft)
	if _, err := Rejoin(t.Context(), d, target, nil, room, Identity{1, 1}); !errors.As(err, &refused) {
		t.Errorf("came back with a wrong secret: %v", err)
	}
	again, err := Rejoin(t.Context(), d, target, nil, room, other.Identity)
	if err != nil || again.Identity != other.Identity {
		t.Fatalf("%+v, %v", again, err)
	}
	again.CloseNow()
}

func TestTheAPI(t *testing.T) {
	s, target := startServer(t)
	s.Token = "open sesame"
	api := API{Target: target}
	var refused *StatusError
	if _, err := api.Create(t.Context(), 1); !errors.As(err, &refused) || refused.Status != 401 || refused.Message != "a token is needed" {
		t.Errorf("%v", err)
	}
	api.Token = s.Token
	if _, err := api.Create(t.Context(), 0); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), "HTTP 400") {
		t.Errorf("%v", err)
	}
	room, err := api.Create(t.Context(), 1)
	if err != nil || room.ID == 0 || room.Secret == 0 {
		t.Fatalf("%+v, %v", room, err)
	}
	if err := api.Delete(t.Context(), room); err != nil || s.Rooms() != 0 {
		t.Errorf("%v, %d rooms", err, s.Rooms())
	}
	if err := api.Delete(t.Context(), room); !errors.As(err, &refused) || refused.Status != 404 {
		t.Errorf("%v", err)
	}
}
