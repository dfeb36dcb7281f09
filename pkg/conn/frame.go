package conn

import "encoding/binary"

// Opcode is the kind of a WebSocket frame (RFC 6455, section 5.2).
type Opcode byte

const (
	OpText   Opcode = 1
	OpBinary Opcode = 2
	opClose  Opcode = 8
	opPing   Opcode = 9
)

const (
	maxHeader  = 10  // of a frame that a server sends
	maxControl = 125 // payload bytes of a control frame
)

// appendHeader appends the header of an unfragmented frame from a server.
func appendHeader(b []byte, op Opcode, size int) []byte {
	const fin = 0x80
	switch {
	case size < 126:
		return append(b, fin|byte(op), byte(size))
	case size < 1<<16:
		return append(b, fin|byte(op), 126, byte(size>>8), byte(size))
	}
	b = append(b, fin|byte(op), 127)
	return binary.BigEndian.AppendUint64(b, uint64(size))
}

// AppendFrame appends a whole frame to b.
func AppendFrame(b []byte, op Opcode, payload []byte) []byte {
	return append(AppendHeader(b, op, len(payload)), payload...)
}

// AppendHeader appends what a frame begins with, whose payload of size bytes is to
// follow.
func AppendHeader(b []byte, op Opcode, size int) []byte { return appendHeader(b, op, size) }

// appendClose appends a close frame; a reason that is too long is cut.
func appendClose(b []byte, code int, reason string) []byte {
	reason = reason[:min(len(reason), maxControl-2)]
	b = appendHeader(b, opClose, 2+len(reason))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, reason...)
}
