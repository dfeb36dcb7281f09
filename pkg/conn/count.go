package conn

import "encoding/binary"

// frameCounter follows the frames of a client's byte stream (RFC 6455, section 5.2).
// The library answers pings and joins fragments by itself; this is how a flood of them
// is seen, and where frames end. It checks nothing: what is no frame the library
// refuses.
type frameCounter struct {
	skip uint64   // bytes of payload still to come
	head [14]byte // of the frame that is beginning
	n    uint8    // bytes of it
}

// count takes the next bytes of the stream and returns how many frames begin in
// them, by the last byte of their header.
func (f *frameCounter) count(p []byte) (frames int) {
	frames, _ = f.follow(p, false)
	return frames
}

// within takes the next bytes of the stream up to the end of a frame, and returns how
// many that are.
func (f *frameCounter) within(p []byte) (n int) {
	_, n = f.follow(p, true)
	return n
}

// between tells whether a frame has ended and none has begun.
func (f *frameCounter) between() bool { return f.skip == 0 && f.n == 0 }

// follow takes the next bytes, or those up to the end of a frame, and returns how many
// frames begin in them and how many bytes it took.
func (f *frameCounter) follow(all []byte, one bool) (frames, taken int) {
	p := all
	for len(p) > 0 {
		if f.skip > 0 {
			k := min(f.skip, uint64(len(p)))
			f.skip -= k
			p = p[k:]
			if one && f.skip == 0 {
				break
			}
			continue
		}
		f.head[f.n] = p[0]
		f.n++
		p = p[1:]
		if f.n < 2 {
			continue
		}
		const masked, length = 0x80, 0x7f
		size, need := uint64(f.head[1]&length), uint8(2)
		switch size {
		case 126:
			need += 2
		case 127:
			need += 8
		}
		after := need
		if f.head[1]&masked != 0 {
			after += 4
		}
		if f.n < after {
			continue
		}
		switch need {
		case 4:
			size = uint64(binary.BigEndian.Uint16(f.head[2:]))
		case 10:
			size = binary.BigEndian.Uint64(f.head[2:])
		}
		f.skip, f.n = size, 0
		frames++
		if one && size == 0 {
			break
		}
	}
	return frames, len(all) - len(p)
}
