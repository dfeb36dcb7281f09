package redisbus

import (
	"errors"
	"fmt"
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

// parseEnvelope fills From, Time and Body of m, which share the memory of s.
// Unknown fields are skipped.
func parseEnvelope(s string, m *relay.Message) error {
	b := unsafe.Slice(unsafe.StringData(s), len(s)) // bodies are never modified
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errEnvelope
		}
		b = b[n:]
		switch {
		case num == fieldVersion && typ == protowire.VarintType:
			v, k := protowire.ConsumeVarint(b)
			if n = k; k >= 0 && v > envelopeVersion {
				return fmt.Errorf("envelope of version %d, this node reads up to %d", v, envelopeVersion)
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
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return errEnvelope
		}
		b = b[n:]
	}
	return nil
}
