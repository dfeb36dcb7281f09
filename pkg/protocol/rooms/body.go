package rooms

import (
	"encoding/binary"
	"strconv"

	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// bodyRelay begins the body of what a client says, between nodes; From is the client's
// id. Events of the room begin otherwise. Nodes skip what they do not know.
const bodyRelay = 1

// said is what a client says, as nodes have it. In the body follow: its kind, one byte;
// fence and target, varints; the Relay as the client sent it.
type said struct {
	from    int32
	fence   int64 // of the hosting under which a host says it; 0: not as host
	kind    roomspb.RelayType
	target  int32
	encoded []byte
}

func appendSaid(b []byte, s *said) []byte {
	b = append(b, bodyRelay, byte(s.kind))
	b = binary.AppendVarint(b, s.fence)
	b = binary.AppendVarint(b, int64(s.target))
	return append(b, s.encoded...)
}

// saidOf reads what a client said; false for any other message.
func saidOf(m *relay.Message) (s said, ok bool) {
	b := m.Body
	if len(b) < 2 || b[0] != bodyRelay {
		return s, false
	}
	from, err := strconv.ParseInt(m.From, 10, 32)
	if err != nil {
		return s, false
	}
	s.from, s.kind, b = int32(from), roomspb.RelayType(b[1]), b[2:]
	fence, n := binary.Varint(b)
	if n <= 0 {
		return s, false
	}
	target, k := binary.Varint(b[n:])
	if k <= 0 {
		return s, false
	}
	s.fence, s.target, s.encoded = fence, int32(target), b[n+k:]
	return s, true
}
