package redisbus

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"parley/pkg/relay"
)

// envelopeVersion is the version that this node writes, and the highest that it
// reads; see envelope.proto.
const envelopeVersion = 1

const (
	fieldVersion protowire.Number = 1
	fieldFrom    protowire.Number = 2
	fieldTime    protowire.Number = 3
	fieldBody    protowire.Number = 4
	fieldID      protowire.Number = 5 // added in Redis, see publish.lua
	fieldPrev    protowire.Number = 6 // the same
)

var errEnvelope = errors.New("malformed envelope")

// envelopeSize is the most that appendEnvelope appends for m.
func envelopeSize(m *relay.Message) int {
	const tagsAndNumbers = 2 + 1 + 10 + 1 + 10 + 1 + 10
	return tagsAndNumbers + len(m.From) + len(m.Body)
}

func appendEnvelope(b []byte, m *relay.Message) []byte {
	b = protowire.AppendTag(b, fieldVersion, protowire.VarintType)
	b = protowire.AppendVarint(b, envelopeVersion)
	if m.From != "" {
		b = protowire.AppendTag(b, fieldFrom, protowire.BytesType)
		b = protowire.AppendString(b, m.From)
	}
	b = protowire.AppendTag(b, fieldTime, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(m.Time.UnixNano()))
	b = protowire.AppendTag(b, fieldBody, protowire.BytesType)
	return protowire.AppendBytes(b, m.Body)
}

// parseEnvelope fills From, Time, Body and, if the message is kept, ID of m, which
// share the memory of s, and returns the place of the message before it in its
// topic, zero when there was none. Unknown fields are skipped.
func parseEnvelope(s string, m *relay.Message) (prev relay.ID, err error) {
	b := unsafe.Slice(unsafe.StringData(s), len(s)) // bodies are never modified
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return relay.ID{}, errEnvelope
		}
		b = b[n:]
		switch {
		case num == fieldVersion && typ == protowire.VarintType:
			v, k := protowire.ConsumeVarint(b)
			if n = k; k >= 0 && v > envelopeVersion {
				return relay.ID{}, fmt.Errorf("envelope of version %d, this node reads up to %d", v, envelopeVersion)
			}
		case num == fieldFrom && typ == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			m.From = unsafe.String(unsafe.SliceData(v), len(v))
		case num == fieldTime && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			m.Time = time.Unix(0, int64(v))
		case num == fieldBody && typ == protowire.BytesType:
			m.Body, n = protowire.ConsumeBytes(b)
		case (num == fieldID || num == fieldPrev) && typ == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			id, ok := parsePlace(unsafe.String(unsafe.SliceData(v), len(v)))
			if n >= 0 && !ok {
				return relay.ID{}, errEnvelope
			}
			if num == fieldID {
				m.ID = id
			} else {
				prev = id
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return relay.ID{}, errEnvelope
		}
		b = b[n:]
	}
	return prev, nil
}

// parsePlace reads a place as Redis writes it; "" is none. It allocates nothing.
func parsePlace(s string) (id relay.ID, ok bool) {
	if s == "" {
		return relay.ID{}, true
	}
	var n uint64
	for i := range len(s) {
		switch c := s[i]; {
		case c == '-' && i > 0 && i < len(s)-1 && !ok:
			id.Millis, n, ok = n, 0, true
		case c < '0' || c > '9' || n > (math.MaxUint64-9)/10:
			return relay.ID{}, false
		default:
			n = 10*n + uint64(c-'0')
		}
	}
	id.Seq = n
	return id, ok
}

// placeText is the inverse of parsePlace.
func placeText(id relay.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
