package conn

import "encoding/binary"

// frameCounter counts the frames in a client's byte stream (RFC 6455, section
// 5.2). The library answers pings and joins fragments by itself; this is how a
// flood of them is seen. It checks nothing: what is no frame the library refuses.
type frameCounter struct {
	skip uint64   // bytes of payload still to come
	head [14]byte // of the frame that is beginning
	n    uint8    // bytes of it
}

// count takes the next bytes of the stream and returns how many frames begin in
// them, by the last byte of their header.
func (f *frameCounter) count(p []byte) (frames int) {
	for len(p) > 0 {
		if f.skip > 0 {
			k := min(f.skip, uint64(len(p)))
			f.skip -= k
			p = p[k:]
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
	}
	return frames
}
