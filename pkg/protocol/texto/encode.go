package texto

import (
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// appendID appends the 36-character form, in lower case.
func appendID(b []byte, id uuid.UUID) []byte {
	b = hex.AppendEncode(b, id[0:4])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[4:6])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[6:8])
	b = append(b, '-')
	b = hex.AppendEncode(b, id[8:10])
	b = append(b, '-')
	return hex.AppendEncode(b, id[10:16])
}

// appendEnvelope appends the members that every message has, up to data's value.
func appendEnvelope(b []byte, client, id uuid.UUID, kind string) []byte {
	b = append(b, `{"client_id":"`...)
	b = appendID(b, client)
	b = append(b, `","id":"`...)
	b = appendID(b, id)
	b = append(b, `","kind":"`...)
	b = append(b, kind...)
	return append(b, `","data":`...)
}

// appendAck appends the frame of an ack.
func appendAck(frame []byte, client, id uuid.UUID) []byte {
	var b [160]byte
	return conn.AppendFrame(frame, conn.OpText, append(appendEnvelope(b[:0], client, id, "ack"), `null}`...))
}

// appendConnection appends the payload of a connection message for a session at a
// position.
func (s *Server) appendConnection(b []byte, client, id uuid.UUID, p relay.Position, as standing) []byte {
	b = appendEnvelope(b, client, id, "connection")
	b = append(b, `{"client_id":"`...)
	b = appendID(b, client)
	b = append(b, `","node":`...)
	b = append(b, s.node...)
	b = append(b, `,"resume":"`...)
	b = s.keys.appendToken(b, client, p, time.Now())
	b = append(b, '"')
	switch as {
	case wasRecovered:
		b = append(b, `,"recovered":true`...)
	case notRecovered:
		b = append(b, `,"recovered":false`...)
	}
	return append(b, `}}`...)
}

// appendError appends the frame of an error. Codes and descriptions are ours and
// need no escaping.
func appendError(frame []byte, client, id uuid.UUID, p *problem) []byte {
	b := appendEnvelope(nil, client, id, "error")
	b = append(b, `{"code":"`...)
	b = append(b, p.code...)
	b = append(b, `","description":"`...)
	b = append(b, p.description...)
	return conn.AppendFrame(frame, conn.OpText, append(b, `"}}`...))
}

const (
	receiveHead = `{"sender_id":"`
	receiveText = `","text":`
	receiveTail = `}}`
)

// receiveSize is what a receive has besides its text.
var receiveSize = len(appendEnvelope(nil, uuid.UUID{}, uuid.UUID{}, "receive")) +
	len(receiveHead) + uuidLength + len(receiveText) + len(receiveTail)

// appendReceive appends the payload of a receive; text is a quoted JSON string.
func appendReceive(b []byte, client, id uuid.UUID, sender string, text []byte) []byte {
	b = appendEnvelope(b, client, id, "receive")
	b = append(b, receiveHead...)
	b = append(b, sender...)
	b = append(b, receiveText...)
	b = append(b, text...)
	return append(b, receiveTail...)
}
