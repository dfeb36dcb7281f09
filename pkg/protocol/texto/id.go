package texto

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"parley/pkg/relay"
)

// newID returns a random UUID (version 4) to tell messages apart. It need not be
// hard to guess; the runtime's generator, ChaCha8 with a seed from the system,
// makes it so anyway, without a system call.
func newID() (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// The id of a kept message is a UUID of version 8 that holds its place: 48 bits of
// milliseconds, 32 bits of the sequence number, and 42 bits of the sender's time
// in nanoseconds, so that messages of two histories differ even at one place.
const (
	checkBits = 42
	checkMask = 1<<checkBits - 1
	seqLow    = 20 // bits of the sequence number beside the check bits
	// noPlace stands for the milliseconds in the id of a message whose place does
	// not fit; the rest is then a hash.
	noPlace = 1<<48 - 1
)

// placeID is the id of the message at a place; it is the same whenever the message
// is sent. It allocates nothing.
func placeID(at relay.ID, sent time.Time) (id uuid.UUID) {
	millis, seq, check := at.Millis, at.Seq, uint64(sent.UnixNano())
	if millis >= noPlace || seq > math.MaxUint32 {
		// The finisher of SplitMix64, over one number after the other.
		h := mix(mix(mix(millis)^seq) ^ check)
		millis, seq, check = noPlace, mix(h)&math.MaxUint32, h
	}
	binary.BigEndian.PutUint64(id[:8], millis<<16|0x8000|seq>>seqLow)
	binary.BigEndian.PutUint64(id[8:], 1<<63|seq&(1<<seqLow-1)<<checkBits|check&checkMask)
	return id
}

// placeOf is the place that an id of placeID holds; false for other ids.
func placeOf(id uuid.UUID) (relay.ID, bool) {
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	millis := high >> 16
	if high>>12&0xf != 8 || low>>62 != 2 || millis == noPlace {
		return relay.ID{}, false
	}
	at := relay.ID{Millis: millis, Seq: high&0xfff<<seqLow | low>>checkBits&(1<<seqLow-1)}
	return at, !at.IsZero()
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
