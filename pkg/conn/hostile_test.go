package conn

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const testFrameLimit = 1000

// violations break the rules of WebSocket; each is answered with CodeProtocolError.
var violations = map[string][]byte{
	"unmasked":                    {0x81, 2, 'h', 'i'},
	"unmasked control":            {0x89, 0},
	"first reserved bit":          clientFrame(bitFin|bitRSV1, OpText, []byte("hi")), // no compression was negotiated
	"second reserved bit":         clientFrame(bitFin|bitRSV2, OpText, []byte("hi")),
	"third reserved bit":          clientFrame(bitFin|bitRSV3, OpText, []byte("hi")),
	"reserved bit of a control":   clientFrame(bitFin|bitRSV1, opPing, nil),
	"reserved data opcode":        clientFrame(bitFin, 3, []byte("hi")),
	"last reserved data opcode":   clientFrame(bitFin, 7, nil),
	"reserved control opcode":     clientFrame(bitFin, 11, nil),
	"last opcode":                 clientFrame(bitFin, 15, nil),
	"fragmented ping":             clientFrame(0, opPing, []byte("hi")),
	"fragmented close":            clientFrame(0, opClose, []byte(closePayload(1000, ""))),
	"long ping":                   clientFrame(bitFin, opPing, make([]byte, 126)),
	"long close":                  clientFrame(bitFin, opClose, []byte(closePayload(1000, strings.Repeat("r", 124)))),
	"continuation of nothing":     clientFrame(bitFin, opContinuation, []byte("hi")),
	"message inside a message":    append(clientFrame(0, OpText, []byte("a")), clientFrame(bitFin, OpText, []byte("b"))...),
	"negative length":             append([]byte{0x82, 0xff}, bytes.Repeat([]byte{0xff}, 12)...),
	"close with one byte":         clientFrame(bitFin, opClose, []byte{3}),
	"close with code 0":           clientFrame(bitFin, opClose, []byte(closePayload(0, ""))),
	"close with code 999":         clientFrame(bitFin, opClose, []byte(closePayload(999, ""))),
	"close with reserved 1005":    clientFrame(bitFin, opClose, []byte(closePayload(1005, ""))),
	"close with reserved 1006":    clientFrame(bitFin, opClose, []byte(closePayload(1006, ""))),
	"close with reserved 1015":    clientFrame(bitFin, opClose, []byte(closePayload(1015, ""))),
	"close with code 5000":        clientFrame(bitFin, opClose, []byte(closePayload(5000, ""))),
	"not a frame at all":          []byte("GET / HTTP/1.1\r\n\r\n"),
	"violation after a message":   append(clientFrame(bitFin, OpBinary, nil), 0x83, 0x80, 0, 0, 0, 0),
	"violation between the parts": append(clientFrame(0, OpText, []byte("a")), clientFrame(bitFin, 5, nil)...),
}

func TestProtocolViolations(t *testing.T) {
	f := newFixture(t, Config{MaxFrameBytes: testFrameLimit}, funcs{message: func(_ *Conn, data []byte) {
		if len(data) > 0 {
			t.Errorf("a message came of it: %q", data)
		}
	}}).listen()
	for name, frames := range violations {
		t.Run(name, func(t *testing.T) {
			p := f.connect(t)
			p.write(frames)
			p.wantClose(CodeProtocolError, "")
			p.wantEOF()
			f.wantEnded(ReasonProtocol)
		})
	}
	waitFor(func() bool { return f.group.Len() == 0 })
	if n := figure(t, f.metrics.disconnects.WithLabelValues(testProtocol, "protocol_error")); n != float64(len(violations)) {
		t.Errorf("%v disconnects for protocol_error, want %d", n, len(violations))
	}
}

// A peer that goes on sending does not destroy the close frame on its way: what
// it sends is read, not refused by the kernel.
func TestCloseComesThroughWhilePeerSends(t *testing.T) {
	f := newFixture(t, Config{MaxFrameBytes: testFrameLimit}, funcs{}).listen()
	for name, first := range map[string][]byte{
		"violation": {0x81, 2, 'h', 'i'},
		"oversize":  clientFrame(bitFin, OpText, make([]byte, testFrameLimit+1)),
	} {
		t.Run(name, func(t *testing.T) {
			p := f.connect(t)
			p.write(first)
			p.write(make([]byte, 4<<20))
			if fr := p.read(); fr.op != opClose {
				t.Fatalf("got %v, want a close", fr)
			}
			p.wantEOF()
			<-f.ended
		})
	}
}

func TestFrameLimit(t *testing.T) {
	text := func(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }
	parts := func(sizes ...int) (b []byte) {
		for i, n := range sizes {
			var flags byte
			op := opContinuation
			if i == 0 {
				op = OpText
			}
			if i == len(sizes)-1 {
				flags = bitFin
			}
			b = append(b, clientFrame(flags, op, text(n))...)
		}
		return b
	}
	f := newFixture(t, Config{MaxFrameBytes: testFrameLimit}, funcs{message: echo}).listen()
	for name, frames := range map[string][]byte{
		"one frame":         parts(testFrameLimit),
		"two parts":         parts(testFrameLimit-1, 1),
		"many parts":        parts(slices.Repeat([]int{1}, testFrameLimit)...),
		"empty last part":   parts(testFrameLimit, 0),
		"empty first parts": parts(0, 0, testFrameLimit),
	} {
		t.Run("at the limit, "+name, func(t *testing.T) {
			p := f.connect(t)
			p.write(frames)
			p.want(OpText, string(text(testFrameLimit)))
			p.send(opClose, "")
			p.want(opClose, "")
			f.wantEnded(ReasonClient)
		})
	}
	for name, frames := range map[string][]byte{
		"one frame":       parts(testFrameLimit + 1),
		"two parts":       parts(testFrameLimit, 1),
		"empty last part": parts(testFrameLimit+1, 0),
		// Announced only: it is not waited for.
		"enormous": append([]byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, text(testFrameLimit+1)...),
	} {
		t.Run("over the limit, "+name, func(t *testing.T) {
			p := f.connect(t)
			p.write(frames)
			p.wantClose(CodeTooBig, "")
			p.wantEOF()
			f.wantEnded(ReasonTooBig)
		})
	}
}
