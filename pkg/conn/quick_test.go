package conn

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

// However the stream is cut, and whatever stands between them, messages come whole, in
// their order.
func TestMessagesInPieces(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	sizes := []int{0, 1, 7, 8, 9, 100, 125, 126, 127, 1000, readBytes - 8, readBytes - 7, readBytes, 65535, 65536, 70_000}
	for range 30 {
		var stream []byte
		var want [][]byte
		for range 40 {
			payload := random(sizes[r.IntN(len(sizes))])
			want = append(want, payload)
			op := []Opcode{OpText, OpBinary}[r.IntN(2)]
			switch r.IntN(4) {
			case 0: // in fragments, with a ping between them
				cut := r.IntN(len(payload) + 1)
				stream = append(stream, clientFrame(0, op, payload[:cut])...)
				stream = append(stream, clientFrame(bitFin, opPing, random(r.IntN(20)))...)
				stream = append(stream, clientFrame(bitFin, opContinuation, payload[cut:])...)
			case 1:
				stream = append(stream, clientFrame(bitFin, opPing, nil)...)
				fallthrough
			default:
				stream = append(stream, clientFrame(bitFin, op, payload)...)
			}
		}
		got := make(chan []byte, len(want))
		f := newFixture(t, Config{MaxFrameBytes: 100_000}, funcs{message: func(_ *Conn, data []byte) { got <- bytes.Clone(data) }}).listen()
		p := f.connect(t)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(1+r.IntN(3*readBytes)))
			p.write(rest[:n])
			rest = rest[n:]
		}
		for i := range want {
			select {
			case b := <-got:
				if !bytes.Equal(b, want[i]) {
					t.Fatalf("seed %d: message %d has %d bytes, want %d, or others", seed, i, len(b), len(want[i]))
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("seed %d: message %d does not come", seed, i)
			}
		}
		_ = p.nc.Close()
	}
}

// A length that is written in more bytes than it needs is for the library to judge.
func TestLengthsThatAreTooLong(t *testing.T) {
	f := newFixture(t, Config{}, funcs{message: echo}).listen()
	p := f.connect(t)
	p.write(append([]byte{bitFin | byte(OpText), 0x80 | 126, 0, 5, 0, 0, 0, 0}, "hello"...))
	p.want(OpText, "hello")
	p.write(append(binary.BigEndian.AppendUint64([]byte{bitFin | byte(OpText), 0x80 | 127}, 5), "\x00\x00\x00\x00hello"...))
	p.want(OpText, "hello")
}

func TestUnmask(t *testing.T) {
	key := [4]byte{1, 2, 3, 255}
	for size := range 40 {
		data := bytes.Repeat([]byte{7}, size)
		unmask(data, key)
		for i, b := range data {
			if b != 7^key[i%4] {
				t.Fatalf("%d bytes: byte %d is %d", size, i, b)
			}
		}
	}
}
