package rooms

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
)

// appendFrame appends a frame with a Payload. As protobuf has it, there is no field of
// data where there is none.
func appendFrame(frame []byte, flag roomspb.FlagType, data []byte) []byte {
	var space [256]byte
	b := protowire.AppendTag(space[:0], fieldFlag, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(flag)) // that of no response is 0
	if len(data) > 0 {
		b = protowire.AppendTag(b, fieldData, protowire.BytesType)
		b = protowire.AppendBytes(b, data)
	}
	return conn.AppendFrame(frame, conn.OpBinary, b)
}

// appendMessage is appendFrame for data that is a message.
func appendMessage(frame []byte, flag roomspb.FlagType, m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err) // a string that is no UTF-8; all are constants
	}
	return appendFrame(frame, flag, data)
}

func appendError(frame []byte, p *problem) []byte {
	return appendMessage(frame, roomspb.FlagType_RESPONSE_ERROR, &roomspb.Error{Code: p.status, Message: p.text})
}

// appendClient appends a frame that tells of a client, of course without its secret.
func appendClient(frame []byte, flag roomspb.FlagType, id int32, host bool) []byte {
	return appendMessage(frame, flag, &roomspb.SanitisedClient{ID: id, Host: host})
}
