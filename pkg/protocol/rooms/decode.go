package rooms

import (
	"google.golang.org/protobuf/encoding/protowire"

	"parley/pkg/protocol/rooms/roomspb"
)

// Fields of roomspb.Payload and roomspb.Relay, which are read and written without
// generated code, since every message passes here.
const (
	fieldFlag   protowire.Number = 1
	fieldData   protowire.Number = 2
	fieldType   protowire.Number = 1
	fieldTarget protowire.Number = 2
	fieldBytes  protowire.Number = 3
)

// eachField calls f for each field of an encoded message, with the value of a varint or
// the bytes of a string of bytes; fields of other kinds are skipped. It returns false
// when the message does not parse.
func eachField(b []byte, f func(num protowire.Number, kind protowire.Type, n uint64, data []byte)) bool {
	for len(b) > 0 {
		num, kind, size := protowire.ConsumeTag(b)
		if size < 0 || num > protowire.MaxValidNumber {
			return false
		}
		b = b[size:]
		switch kind {
		case protowire.VarintType:
			var n uint64
			if n, size = protowire.ConsumeVarint(b); size >= 0 {
				f(num, kind, n, nil)
			}
		case protowire.BytesType:
			var data []byte
			if data, size = protowire.ConsumeBytes(b); size >= 0 {
				f(num, kind, 0, data)
			}
		default:
			size = protowire.ConsumeFieldValue(num, kind, b)
		}
		if size < 0 {
			return false
		}
		b = b[size:]
	}
	return true
}

// decodePayload reads a frame; false when it does not parse. Unknown fields, and known
// ones of another kind, are ignored; of several the last one counts.
func decodePayload(frame []byte) (flag roomspb.FlagType, data []byte, ok bool) {
	ok = eachField(frame, func(num protowire.Number, kind protowire.Type, n uint64, d []byte) {
		switch {
		case num == fieldFlag && kind == protowire.VarintType:
			flag = roomspb.FlagType(n)
		case num == fieldData && kind == protowire.BytesType:
			data = d
		}
	})
	return flag, data, ok
}

// utterance is a Relay as far as its relaying needs it.
type utterance struct {
	kind      roomspb.RelayType
	target    int32
	hasTarget bool
	size      int    // of its data
	encoded   []byte // all of it, as it was sent
}

// decodeRelay reads a Relay as decodePayload reads a Payload.
func decodeRelay(b []byte) (u utterance, ok bool) {
	u.encoded = b
	ok = eachField(b, func(num protowire.Number, kind protowire.Type, n uint64, d []byte) {
		switch {
		case num == fieldType && kind == protowire.VarintType:
			u.kind = roomspb.RelayType(n)
		case num == fieldTarget && kind == protowire.VarintType:
			u.target, u.hasTarget = int32(n), true
		case num == fieldBytes && kind == protowire.BytesType:
			u.size = len(d)
		}
	})
	return u, ok
}
