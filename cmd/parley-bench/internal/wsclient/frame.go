// Package wsclient is the client side of WebSocket (RFC 6455) for a load
// generator: no extensions, frames that are masked once and patched in place
// afterwards, whole batches of frames taken from one read, nothing allocated
// for a message. It is strict about what the server sends: whatever the RFC
// forbids ends the connection with a ProtocolError.
package wsclient

import (
	"encoding/binary"
)

// Op is the opcode of a frame.
type Op byte

// The opcodes of RFC 6455.
const (
	opContinuation Op = 0
	Text           Op = 1
	Binary         Op = 2
	opClose        Op = 8
	opPing         Op = 9
	opPong         Op = 10
)

func (o Op) control() bool { return o >= opClose }

// maxControl is the longest payload of a control frame.
const maxControl = 125

// header is the head of a frame that a server sent.
type header struct {
	fin    bool
	op     Op
	size   int   // bytes of the head itself
	length int64 // bytes of the payload
}

// parseHeader reads the head of the frame at the start of b. A size of 0 means
// that b is too short to tell.
func parseHeader(b []byte) (header, error) {
	if len(b) < 2 {
		return header{}, nil
	}
	h := header{fin: b[0]&0x80 != 0, op: Op(b[0] & 0x0f)}
	if b[0]&0x70 != 0 {
		return h, protocolError(CloseProtocolError, "reserved bits are set, and no extension was agreed")
	}
	switch h.op {
	case opContinuation, Text, Binary, opClose, opPing, opPong:
	default:
		return h, protocolError(CloseProtocolError, "unknown opcode %d", h.op)
	}
	if b[1]&0x80 != 0 {
		return h, protocolError(CloseProtocolError, "a frame from the server is masked")
	}
	short := b[1] & 0x7f
	if h.op.control() {
		if !h.fin {
			return h, protocolError(CloseProtocolError, "a control frame is fragmented")
		}
		if short > maxControl {
			return h, protocolError(CloseProtocolError, "a control frame is longer than %d bytes", maxControl)
		}
	}
	switch {
	case short < 126:
		h.size, h.length = 2, int64(short)
	case short == 126:
		if len(b) < 4 {
			return h, nil
		}
		h.size, h.length = 4, int64(binary.BigEndian.Uint16(b[2:]))
		if h.length < 126 {
			return h, protocolError(CloseProtocolError, "a length of %d takes 2 bytes more than it needs", h.length)
		}
	default:
		if len(b) < 10 {
			return h, nil
		}
		n := binary.BigEndian.Uint64(b[2:])
		if n>>63 != 0 {
			return h, protocolError(CloseProtocolError, "the highest bit of a length is set")
		}
		if n < 1<<16 {
			return h, protocolError(CloseProtocolError, "a length of %d takes 8 bytes more than it needs", n)
		}
		h.size, h.length = 10, int64(n)
	}
	return h, nil
}

// appendFrame appends a whole masked frame and returns where its payload
// starts.
func appendFrame(dst []byte, op Op, key [4]byte, payload []byte) (frame []byte, at int) {
	const fin, masked = 0x80, 0x80
	n := len(payload)
	switch {
	case n < 126:
		dst = append(dst, fin|byte(op), masked|byte(n))
	case n < 1<<16:
		dst = append(dst, fin|byte(op), masked|126, byte(n>>8), byte(n))
	default:
		dst = append(dst, fin|byte(op), masked|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, key[:]...)
	at = len(dst)
	dst = append(dst, payload...)
	for i := range dst[at:] {
		dst[at+i] ^= key[i&3]
	}
	return dst, at
}

// Frame is a masked frame that is made once and sent many times with a few
// bytes changed. The RFC wants a fresh masking key for each frame, to protect
// proxies from clients that run foreign scripts; a load generator runs none,
// so a frame keeps its key. One goroutine owns a Frame.
type Frame struct {
	bytes []byte
	at    int
	key   [4]byte
}

// NewFrame masks a copy of payload.
func NewFrame(op Op, key [4]byte, payload []byte) *Frame {
	f := &Frame{key: key}
	f.bytes, f.at = appendFrame(nil, op, key, payload)
	return f
}

// Patch replaces the payload's bytes from off on. It panics when they do not
// all lie within the payload.
func (f *Frame) Patch(off int, b []byte) {
	payload := f.bytes[f.at:len(f.bytes):len(f.bytes)]
	dst := payload[off : off+len(b)]
	for i, c := range b {
		dst[i] = c ^ f.key[(off+i)&3]
	}
}

// Bytes returns the frame as it goes over the wire, valid until the next Patch.
func (f *Frame) Bytes() []byte { return f.bytes }
