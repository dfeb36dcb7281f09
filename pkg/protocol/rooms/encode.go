package rooms

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
)

// appendFrame appends a frame with a Payload. As protobuf has it, there is no field of
// data where there is none.
func appendFrame(frame []byte, flag roomspb.FlagType, data []byte) []byte {
	size := protowire.SizeTag(fieldFlag) + protowire.SizeVarint(uint64(flag)) // that of no response is 0
	if len(data) > 0 {
		size += protowire.SizeTag(fieldData) + protowire.SizeBytes(len(data))
	}
	frame = slices.Grow(frame, size+headerRoom)
	frame = conn.AppendHeader(frame, conn.OpBinary, size)
	frame = protowire.AppendTag(frame, fieldFlag, protowire.VarintType)
	frame = protowire.AppendVarint(frame, uint64(flag))
	if len(data) > 0 {
		frame = protowire.AppendTag(frame, fieldData, protowire.BytesType)
		frame = protowire.AppendBytes(frame, data)
	}
	return frame
}

// headerRoom is more than the header of a frame needs.
const headerRoom = 16

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
