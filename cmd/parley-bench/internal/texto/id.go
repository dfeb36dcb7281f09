package texto

// ID is what a message of the generator says about itself, in its id and at
// the start of its text: with it, an answer or a delivery needs no lookup to
// be measured.
type ID struct {
	Due   int64  // nanoseconds from the start of the run to the moment it was due; 60 bits
	Nonce uint32 // tells streams and runs apart; 20 bits
	Seq   uint64 // number within the stream; 40 bits
}

// IDLen is the length of an id: a UUID of version 8, whose content is free.
const IDLen = 36

const hexDigits = "0123456789abcdef"

// The digits of a UUID, in three runs: dashes, version and variant lie between.
var (
	dueDigits   = [15]int{0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 15, 16, 17}
	nonceDigits = [5]int{20, 21, 22, 24, 25}
	seqDigits   = [10]int{26, 27, 28, 29, 30, 31, 32, 33, 34, 35}
)

// Put writes the id over dst.
func (id ID) Put(dst *[IDLen]byte) {
	dst[8], dst[13], dst[18], dst[23] = '-', '-', '-', '-'
	dst[14], dst[19] = '8', '8'
	putDigits(dst, dueDigits[:], uint64(id.Due))
	putDigits(dst, nonceDigits[:], uint64(id.Nonce))
	putDigits(dst, seqDigits[:], id.Seq)
}

// ParseID reads an id that Put wrote; false for any other text.
func ParseID(b []byte) (id ID, ok bool) {
	if len(b) != IDLen || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' || b[14] != '8' || b[19] != '8' {
		return ID{}, false
	}
	due, ok1 := digits(b, dueDigits[:])
	nonce, ok2 := digits(b, nonceDigits[:])
	seq, ok3 := digits(b, seqDigits[:])
	return ID{Due: int64(due), Nonce: uint32(nonce), Seq: seq}, ok1 && ok2 && ok3
}

func putDigits(dst *[IDLen]byte, at []int, v uint64) {
	for i := len(at) - 1; i >= 0; i-- {
		dst[at[i]] = hexDigits[v&15]
		v >>= 4
	}
}

func digits(b []byte, at []int) (v uint64, ok bool) {
	for _, i := range at {
		c := b[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(c)
	}
	return v, true
}
