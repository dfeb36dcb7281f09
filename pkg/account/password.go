package account

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Passwords are kept as PHC strings (the format of the Password Hashing Competition:
// $scrypt$ln=14,r=8,p=1$salt$hash, unpadded base64). The parameters are those that
// Percival's "Stronger Key Derivation via Sequential Memory-Hard Functions" (2009)
// gives for logins in which somebody waits: 2^14, 8, 1, which is 16 MiB of memory.
const (
	costLog   = 14
	blockSize = 8
	parallel  = 1
	saltBytes = 16
	hashBytes = 32
)

// A stored password may have other parameters, so that they can be raised while old
// ones are in use. The bounds keep a stored string from eating the machine; they allow
// what OWASP's Password Storage Cheat Sheet recommends first, 2^17, 8, 1.
const (
	maxMemory      = 128 << 20 // bytes, 128 times cost times block size
	maxWork        = 1 << 20   // cost times block size times parallelism
	minStoredBytes = 8         // of a salt and of a hash
	maxStoredBytes = 64
)

const scheme = "scrypt"

// hash is a password as it is kept.
type hash struct {
	costLog, blockSize, parallel int
	salt, sum                    []byte
}

// decoy is compared with when there is no password to compare with, so that this
// takes the same time. Nothing fits it.
var decoy = hash{costLog, blockSize, parallel, make([]byte, saltBytes), make([]byte, hashBytes)}

// newHash has a fresh salt and no sum yet.
func newHash() hash {
	h := hash{costLog, blockSize, parallel, make([]byte, saltBytes), nil}
	_, _ = rand.Read(h.salt) // never fails
	return h
}

func (h hash) String() string {
	b := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$%s$ln=%d,r=%d,p=%d$%s$%s", scheme, h.costLog, h.blockSize, h.parallel, b(h.salt), b(h.sum))
}

var errHash = errors.New("the stored password is not one of scrypt in PHC form, within bounds")

// parseHash reads what String writes. The error says nothing of what is stored.
func parseHash(s string) (h hash, err error) {
	f := strings.Split(s, "$")
	if len(f) != 5 || f[0] != "" || f[1] != scheme {
		return h, errHash
	}
	params := strings.Split(f[2], ",")
	if len(params) != 3 {
		return h, errHash
	}
	for i, p := range []struct {
		name string
		to   *int
	}{{"ln=", &h.costLog}, {"r=", &h.blockSize}, {"p=", &h.parallel}} {
		digits, ok := strings.CutPrefix(params[i], p.name)
		n, err := strconv.ParseUint(digits, 10, 31)
		if !ok || err != nil || n == 0 {
			return h, errHash
		}
		*p.to = int(n)
	}
	if !h.affordable() {
		return h, errHash
	}
	for i, to := range []*[]byte{&h.salt, &h.sum} {
		*to, err = base64.RawStdEncoding.Strict().DecodeString(f[3+i])
		if err != nil || len(*to) < minStoredBytes || len(*to) > maxStoredBytes {
			return h, errHash
		}
	}
	if h.String() != s { // the decoders pass over some things
		return h, errHash
	}
	return h, nil
}

// affordable tells whether computing it is within bounds. Nothing overflows.
func (h hash) affordable() bool {
	if h.costLog >= bits.Len(maxWork) || h.blockSize > maxWork || h.parallel > maxWork {
		return false
	}
	memory := uint64(128) << h.costLog * uint64(h.blockSize)
	return memory <= maxMemory && memory/128*uint64(h.parallel) <= maxWork
}
