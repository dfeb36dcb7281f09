package texto

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"parley/pkg/relay"
)

const (
	// tokenLife is how long a resume token is accepted.
	tokenLife = 24 * time.Hour
	// tokenSkew is how far the clock of the node that made a token may be ahead of
	// that of the node which reads it.
	tokenSkew = time.Hour
)

// The form of a token: version, client id, epoch, milliseconds and sequence number
// of the place, the moment of the position in Unix milliseconds, the moment of
// issue in Unix milliseconds, all big-endian; then the signature. It is written in
// base64 for URLs, without padding.
const (
	tokenVersion   = 1
	tokenSigned    = 1 + 16 + 5*8
	tokenSignature = 16 // of HMAC-SHA256, cut
	tokenBytes     = tokenSigned + tokenSignature
)

var (
	tokenEncoding = base64.RawURLEncoding.Strict()
	// tokenLength is that of a token as it is written. Every token has it.
	tokenLength = tokenEncoding.EncodedLen(tokenBytes)
)

// keys sign tokens. The first one signs, all of them verify, so that a secret can
// be replaced while tokens of the old one are about. They may be used from any
// goroutine.
type keys [][]byte

// newKeys derives the keys from the fleet's secrets; without any, one is made up.
func newKeys(secrets [][]byte) keys {
	if len(secrets) == 0 {
		secret := make([]byte, sha256.Size)
		_, _ = rand.Read(secret) // never fails
		secrets = [][]byte{secret}
	}
	all := make(keys, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte("parley texto resume token"))
		all[i] = mac.Sum(nil)
	}
	return all
}

// appendToken appends a token for a session at a position.
func (k keys) appendToken(b []byte, client uuid.UUID, p relay.Position, now time.Time) []byte {
	var raw [tokenBytes]byte
	t := append(raw[:0], tokenVersion)
	t = append(t, client[:]...)
	t = binary.BigEndian.AppendUint64(t, p.Epoch)
	t = binary.BigEndian.AppendUint64(t, p.ID.Millis)
	t = binary.BigEndian.AppendUint64(t, p.ID.Seq)
	t = binary.BigEndian.AppendUint64(t, uint64(millisOf(p.At)))
	t = binary.BigEndian.AppendUint64(t, uint64(now.UnixMilli()))
	t = append(t, sign(k[0], t)...)
	return tokenEncoding.AppendEncode(b, t)
}

// parse reads a token; false when it is forged, malformed, or not of the last
// tokenLife.
func (k keys) parse(token string, now time.Time) (client uuid.UUID, p relay.Position, issued time.Time, ok bool) {
	if len(token) != tokenLength {
		return client, p, issued, false
	}
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenBytes || raw[0] != tokenVersion || !k.verify(raw) {
		return client, p, issued, false
	}
	copy(client[:], raw[1:])
	number := func(i int) uint64 { return binary.BigEndian.Uint64(raw[1+16+8*i:]) }
	p = relay.Position{Epoch: number(0), ID: relay.ID{Millis: number(1), Seq: number(2)}, At: timeOf(int64(number(3)))}
	issued = time.UnixMilli(int64(number(4)))
	age := now.Sub(issued)
	return client, p, issued, age <= tokenLife && age >= -tokenSkew
}

// verify takes the same time for every signature that is wrong.
func (k keys) verify(raw []byte) bool {
	valid := false
	for _, key := range k {
		if hmac.Equal(raw[tokenSigned:], sign(key, raw[:tokenSigned])) {
			valid = true
		}
	}
	return valid
}

func sign(key, b []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return mac.Sum(nil)[:tokenSignature]
}

// millisOf and timeOf turn a moment into Unix milliseconds and back; the zero Time
// is 0.
func millisOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(millis int64) time.Time {
	if millis == 0 {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}
