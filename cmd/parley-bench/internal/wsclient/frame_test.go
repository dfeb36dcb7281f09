package wsclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// wire is a net.Conn that reads what it was given, in pieces of at most step
// bytes, and keeps what is written.
type wire struct {
	net.Conn // nil: whatever else is called panics
	in       []byte
	step     int
	reads    int
	written  []byte
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	w.reads++
	n := copy(p[:min(len(p), w.step)], w.in)
	w.in = w.in[n:]
	return n, nil
}
func (w *wire) Write(p []byte) (int, error)      { w.written = append(w.written, p...); return len(p), nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) Close() error                     { return nil }

func connOn(w *wire, limit int) *Conn { return newConn(w, 0, limit) }

// serverFrame is an unmasked frame with any first byte.
func serverFrame(first byte, payload string) []byte {
	n := len(payload)
	b := []byte{first}
	switch {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126, byte(n>>8), byte(n))
	default:
		b = append(b, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}

// clientFrames undoes the masking of what a client wrote.
func clientFrames(t *testing.T, b []byte) (frames []string) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 6 || b[1]&0x80 == 0 {
			t.Fatalf("not a masked frame: %x", b)
		}
		n, at := int(b[1]&0x7f), 2
		switch n {
		case 126:
			n, at = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			n, at = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		key := b[at : at+4]
		payload := slices.Clone(b[at+4 : at+4+n])
		for i := range payload {
			payload[i] ^= key[i%4]
		}
		frames = append(frames, string(b[:1])+string(payload))
		b = b[at+4+n:]
	}
	return frames
}

func TestFramesOfEveryLength(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100000} {
		payload := strings.Repeat("payload-", n/8+1)[:n]
		f := NewFrame(Text, [4]byte{1, 2, 3, 4}, []byte(payload))
		got := clientFrames(t, f.Bytes())
		if len(got) != 1 || got[0] != "\x81"+payload {
			t.Errorf("a frame of %d bytes does not come back", n)
		}
		w := &wire{in: serverFrame(0x81, payload), step: 1 << 20}
		op, read, err := connOn(w, 0).ReadMessage()
		if err != nil || op != Text || string(read) != payload {
			t.Errorf("reading %d bytes: op %d, %d bytes, %v", n, op, len(read), err)
		}
	}
}

func TestPatchChangesOnlyItsBytes(t *testing.T) {
	f := NewFrame(Text, [4]byte{0xa1, 0xb2, 0xc3, 0xd4}, []byte("the quick brown fox"))
	for off, patch := range map[int]string{0: "THE", 5: "u", 16: "cat"} {
		f.Patch(off, []byte(patch))
	}
	if got := clientFrames(t, f.Bytes())[0][1:]; got != "THE quick brown cat" {
		t.Errorf("patched to %q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a patch beyond the payload did not panic")
		}
	}()
	f.Patch(17, []byte("long"))
}

func TestOneReadBringsManyMessages(t *testing.T) {
	var in []byte
	for range 100 {
		in = append(in, serverFrame(0x81, "x")...)
	}
	w := &wire{in: in, step: 1 << 20}
	c := connOn(w, 0)
	for i := range 100 {
		if _, p, err := c.ReadMessage(); err != nil || string(p) != "x" {
			t.Fatalf("message %d: %q, %v", i, p, err)
		}
		if want := 3 * (99 - i); c.Buffered() != want {
			t.Fatalf("after message %d %d bytes are buffered, want %d", i, c.Buffered(), want)
		}
	}
	if w.reads != 1 {
		t.Errorf("%d reads for one batch", w.reads)
	}
}

func TestFragmentsWithControlFramesBetween(t *testing.T) {
	in := slices.Concat(
		serverFrame(0x01, "frag"), serverFrame(0x89, "are you there"), serverFrame(0x00, "men"),
		serverFrame(0x8a, "unasked"), serverFrame(0x80, "ted"), serverFrame(0x82, "\xff"))
	for step := 1; step < len(in); step++ {
		w := &wire{in: slices.Clone(in), step: step}
		c := connOn(w, 0)
		op, p, err := c.ReadMessage()
		if err != nil || op != Text || string(p) != "fragmented" {
			t.Fatalf("step %d: op %d, %q, %v", step, op, p, err)
		}
		if op, p, err = c.ReadMessage(); err != nil || op != Binary || string(p) != "\xff" {
			t.Fatalf("step %d: the binary message: op %d, %q, %v", step, op, p, err)
		}
		if got := clientFrames(t, w.written); len(got) != 1 || got[0] != "\x8aare you there" {
			t.Fatalf("step %d: wrote %q, want one pong with the ping's payload", step, got)
		}
	}
}

func TestWhatTheServerMustNotSend(t *testing.T) {
	long := strings.Repeat("x", 200)
	for name, c := range map[string]struct {
		in   []byte
		code int
	}{
		"reserved bit":             {serverFrame(0xc1, "x"), CloseProtocolError},
		"unknown data opcode":      {serverFrame(0x83, "x"), CloseProtocolError},
		"unknown control opcode":   {serverFrame(0x8b, "x"), CloseProtocolError},
		"masked":                   {[]byte{0x81, 0x80, 1, 2, 3, 4}, CloseProtocolError},
		"fragmented ping":          {serverFrame(0x09, "x"), CloseProtocolError},
		"long ping":                {serverFrame(0x89, long), CloseProtocolError},
		"length not minimal (16)":  {[]byte{0x81, 126, 0, 125}, CloseProtocolError},
		"length not minimal (64)":  {[]byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, CloseProtocolError},
		"highest bit of a length":  {[]byte{0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0}, CloseProtocolError},
		"continuation of nothing":  {serverFrame(0x80, "x"), CloseProtocolError},
		"message within a message": {append(serverFrame(0x01, "x"), serverFrame(0x81, "y")...), CloseProtocolError},
		"text not UTF-8":           {serverFrame(0x81, "\xff"), CloseInvalidText},
		"fragments not UTF-8":      {append(serverFrame(0x01, "\xc3"), serverFrame(0x80, "x")...), CloseInvalidText},
		"over the limit":           {serverFrame(0x82, strings.Repeat("x", 1001)), CloseTooBig},
		"fragments over the limit": {append(serverFrame(0x02, strings.Repeat("x", 999)), serverFrame(0x80, "yy")...), CloseTooBig},
		"huge length":              {[]byte{0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, CloseTooBig},
		"close of one byte":        {serverFrame(0x88, "\x03"), CloseProtocolError},
		"close with 1005":          {serverFrame(0x88, "\x03\xed"), CloseProtocolError},
		"close with 2999":          {serverFrame(0x88, "\x0b\xb7"), CloseProtocolError},
		"close reason not UTF-8":   {serverFrame(0x88, "\x03\xe8\xff"), CloseInvalidText},
	} {
		w := &wire{in: c.in, step: 1 << 20}
		_, p, err := connOn(w, 1000).ReadMessage()
		bad, ok := errors.AsType[*ProtocolError](err)
		if !ok || bad.Code != c.code {
			t.Errorf("%s: payload %.20q, error %v; want a protocol error with code %d", name, p, err, c.code)
			continue
		}
		want := string([]byte{0x88, byte(c.code >> 8), byte(c.code)})
		if got := clientFrames(t, w.written); len(got) != 1 || got[0] != want {
			t.Errorf("%s: told the server %q, want a close with %d", name, got, c.code)
		}
	}
}

func TestCloseFrames(t *testing.T) {
	for name, c := range map[string]struct {
		payload string
		want    CloseError
	}{
		"empty":       {"", CloseError{Code: CloseNoStatus}},
		"with reason": {"\x03\xf4drain", CloseError{Code: 1012, Reason: "drain"}},
		"ours":        {"\x0f\xa0idle", CloseError{Code: 4000, Reason: "idle"}},
	} {
		w := &wire{in: serverFrame(0x88, c.payload), step: 3}
		conn := connOn(w, 0)
		_, _, err := conn.ReadMessage()
		if got, ok := errors.AsType[*CloseError](err); !ok || *got != c.want {
			t.Errorf("%s: %v, want %+v", name, err, c.want)
		}
		echo := "\x88"
		if len(c.payload) > 2 {
			echo += c.payload[:2]
		}
		if got := clientFrames(t, w.written); len(got) != 1 || got[0] != echo {
			t.Errorf("%s: answered %q, want %q", name, got, echo)
		}
		if err := conn.WriteMessage(Text, nil); !errors.Is(err, ErrClosing) {
			t.Errorf("%s: a write after the close frame: %v", name, err)
		}
		if err := conn.StartClose(CloseNormal, ""); !errors.Is(err, ErrClosing) {
			t.Errorf("%s: a second close frame: %v", name, err)
		}
	}
}

func TestEndWithoutACloseFrame(t *testing.T) {
	for in, want := range map[string]error{"": io.EOF, "\x81": io.ErrUnexpectedEOF, "\x81\x05ab": io.ErrUnexpectedEOF} {
		_, _, err := connOn(&wire{in: []byte(in), step: 9}, 0).ReadMessage()
		e, ok := errors.AsType[*CloseError](err)
		if !ok || e.Code != CloseAbnormal || !errors.Is(err, want) {
			t.Errorf("%q: %v, want an abnormal close by %v", in, err, want)
		}
	}
}

func TestNothingIsAllocatedForAMessage(t *testing.T) {
	frame := serverFrame(0x81, strings.Repeat("x", 300))
	w := &wire{step: 1 << 20}
	c := connOn(w, 0)
	out := NewFrame(Text, c.MaskKey(), make([]byte, 300))
	w.written = make([]byte, 0, 1<<20)
	n := testing.AllocsPerRun(500, func() {
		w.in = frame
		if _, _, err := c.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		out.Patch(10, []byte("0123456789"))
		if err := c.WriteFrame(out.Bytes()); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations to read one message and write one", n)
	}
}

// FuzzRead feeds whatever a server might send, once whole and once byte by
// byte: the outcome must not depend on how the network cuts it, nothing may
// panic, nothing may pass the limit, and what is written must be frames.
func FuzzRead(f *testing.F) {
	f.Add([]byte{})
	f.Add(serverFrame(0x81, `{"kind":"ack"}`))
	f.Add(slices.Concat(serverFrame(0x01, "fr"), serverFrame(0x89, "p"), serverFrame(0x80, "ag"), serverFrame(0x88, "\x03\xe8bye")))
	f.Add(serverFrame(0x82, strings.Repeat("x", 300)))
	const limit = 1 << 10
	type event struct {
		op      Op
		payload string
		err     string
	}
	read := func(t *testing.T, in []byte, step int) (events []event) {
		w := &wire{in: in, step: step}
		c := connOn(w, limit)
		c.key = [4]byte{9, 8, 7, 6}
		for {
			op, p, err := c.ReadMessage()
			if err != nil {
				events = append(events, event{err: err.Error()})
				break
			}
			if len(p) > limit {
				t.Fatalf("a message of %d bytes passed the limit", len(p))
			}
			if op != Text && op != Binary {
				t.Fatalf("a message with opcode %d", op)
			}
			events = append(events, event{op: op, payload: string(p)})
		}
		if len(c.buf) > 4*limit {
			t.Fatalf("the read buffer grew to %d bytes", len(c.buf))
		}
		for _, frame := range clientFrames(t, w.written) {
			events = append(events, event{payload: "wrote " + frame})
		}
		return events
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := read(t, bytes.Clone(in), len(in)+1)
		single := read(t, bytes.Clone(in), 1)
		if !slices.Equal(whole, single) {
			t.Fatalf("read whole: %q\nbyte by byte: %q", whole, single)
		}
	})
}
