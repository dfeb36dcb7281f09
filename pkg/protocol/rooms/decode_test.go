package rooms

import (
	"bytes"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// fields encodes fields by hand.
func fields(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func varint(num protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), n)
}

func data(num protowire.Number, d string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), d)
}

func TestDecodePayload(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		flag  roomspb.FlagType
		data  string
		ok    bool
	}{
		"empty":                {nil, 0, "", true},
		"connect":              {fields(varint(1, 1), data(2, "x")), 1, "x", true},
		"in another order":     {fields(data(2, "x"), varint(1, 1)), 1, "x", true},
		"the last one counts":  {fields(varint(1, 1), data(2, "x"), varint(1, 3), data(2, "y")), 3, "y", true},
		"unknown fields":       {fields(varint(9, 1), data(7, "z"), varint(1, 2), protowire.AppendFixed64(protowire.AppendTag(nil, 3, protowire.Fixed64Type), 1)), 2, "", true},
		"fields of other kind": {fields(data(1, "x"), varint(2, 5)), 0, "", true},
		"more than 32 bits":    {varint(1, 1<<32|3), 3, "", true},
		"cut off":              {data(2, "xyz")[:3], 0, "", false},
		"a varint without end": {[]byte{0x08, 0x80}, 0, "", false},
		"a varint too long":    {append([]byte{0x08}, bytes.Repeat([]byte{0xff}, 11)...), 0, "", false},
		"field zero":           {varint(0, 1), 0, "", false},
		"an end without group": {[]byte{0x0c}, 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			flag, d, ok := decodePayload(c.frame)
			if ok != c.ok || ok && (flag != c.flag || string(d) != c.data) {
				t.Errorf("%x is read as %d, %q, %v; want %d, %q, %v", c.frame, flag, d, ok, c.flag, c.data, c.ok)
			}
		})
	}
}

// What is read without generated code is read like the generated code reads it.
func FuzzDecode(f *testing.F) {
	target := int32(-1)
	for _, m := range []proto.Message{
		&roomspb.Payload{Flag: roomspb.FlagType_REQUEST_CONNECT, Data: []byte("x")},
		&roomspb.Relay{Type: roomspb.RelayType_TARGET, Target: &target, Data: []byte("x")},
		&roomspb.Relay{Data: bytes.Repeat([]byte("y"), 300)},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0b, 0x08, 0x01, 0x0c}) // a group
	f.Add([]byte{0x08, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		var payload roomspb.Payload
		err := proto.Unmarshal(b, &payload)
		flag, d, ok := decodePayload(b)
		if ok != (err == nil) || ok && (flag != payload.Flag || !bytes.Equal(d, payload.Data)) {
			t.Errorf("%x is the payload %d, %x, %v, want %v, %v", b, flag, d, ok, &payload, err)
		}
		var r roomspb.Relay
		err = proto.Unmarshal(b, &r)
		u, ok := decodeRelay(b)
		if ok != (err == nil) || ok && (u.kind != r.Type || u.hasTarget != (r.Target != nil) || u.target != r.GetTarget() || u.size != len(r.Data)) {
			t.Errorf("%x is the relay %+v, %v, want %v, %v", b, u, ok, &r, err)
		}
	})
}

func TestSaidRoundTrip(t *testing.T) {
	for _, want := range []said{
		{kind: roomspb.RelayType_BROADCAST, fence: 1, encoded: []byte("x")},
		{from: math.MaxInt32, kind: roomspb.RelayType_TARGET, fence: math.MaxInt64, target: math.MinInt32, encoded: []byte{}},
		{from: 7, kind: roomspb.RelayType_HOST, encoded: []byte{1, 2, 3}},
	} {
		m := relay.Message{From: "7", Body: appendSaid(nil, &want)}
		if want.from == math.MaxInt32 {
			m.From = "2147483647"
		} else if want.from == 0 {
			m.From = "0"
		}
		got, ok := saidOf(&m)
		if !ok || got.from != want.from || got.kind != want.kind || got.fence != want.fence || got.target != want.target || !bytes.Equal(got.encoded, want.encoded) {
			t.Errorf("%+v is read as %+v, %v", want, got, ok)
		}
	}
}

func FuzzSaid(f *testing.F) {
	f.Add("1", appendSaid(nil, &said{kind: 1, fence: 3, target: 9, encoded: []byte("x")}))
	f.Add("", []byte("!j 0 1 0 - 0"))
	f.Add("x", []byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, from string, body []byte) {
		m := relay.Message{From: from, Body: body}
		s, ok := saidOf(&m)
		if !ok {
			return
		}
		again, ok := saidOf(&relay.Message{From: from, Body: appendSaid(nil, &s)})
		if !ok || again.fence != s.fence || again.kind != s.kind || !bytes.Equal(again.encoded, s.encoded) {
			t.Errorf("%x is read as %+v, and that as %+v", body, s, again)
		}
	})
}
