package conn

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// However the stream is cut, the count is the same.
func TestFrameCounter(t *testing.T) {
	var stream []byte
	frames := 0
	for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000, 0, 0} {
		for _, op := range []Opcode{OpText, opPing, 0} {
			stream = append(stream, clientFrame(bitFin, op, make([]byte, size))...)
			frames++
		}
	}
	var whole frameCounter
	if n := whole.count(stream); n != frames {
		t.Errorf("at once: %d frames, want %d", n, frames)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		var c frameCounter
		n := 0
		for rest := stream; len(rest) > 0; {
			k := min(len(rest), 1+r.IntN(1+r.IntN(2000)))
			n += c.count(rest[:k])
			rest = rest[k:]
		}
		if n != frames {
			t.Fatalf("in parts: %d frames, want %d", n, frames)
		}
	}
}

// A flood of frames that no handler sees ends in 1008, one frame above the limit.
func TestFrameFlood(t *testing.T) {
	const rate = 10
	for name, frame := range map[string][]byte{
		"pings":     clientFrame(bitFin, opPing, nil),
		"pongs":     clientFrame(bitFin, 10, nil),
		"fragments": clientFrame(0, 0, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{FrameRate: rate, MaxFrameBytes: 1000}, funcs{message: echo})
				p := f.pipe(t)
				p.write(clientFrame(0, OpText, []byte("begun"))) // fragments need a beginning
				p.write(bytes.Repeat(frame, rate*frameBurstSeconds-1))
				if name == "pings" {
					for range rate*frameBurstSeconds - 1 {
						p.want(10, "")
					}
				}
				p.write(frame)
				p.wantClose(CodePolicy, "flood: too many frames")
				f.wantEnded(ReasonFlood)
			})
		})
	}
}
