package redisbus

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"parley/pkg/relay"
)

func TestEnvelopeRoundTrip(t *testing.T) {
	for _, m := range []relay.Message{
		{From: "a", Time: time.Unix(1, 2), Body: []byte("hello")},
		{Time: time.Unix(0, 0), Body: []byte{}},
		{From: strings.Repeat("x", 300), Time: time.Unix(1<<32, 0), Body: bytes.Repeat([]byte{0}, 70_000)},
	} {
		b := appendEnvelope(nil, &m)
		if len(b) > envelopeSize(&m) {
			t.Errorf("envelopeSize is %d, the envelope has %d bytes", envelopeSize(&m), len(b))
		}
		var got relay.Message
		if _, err := parseEnvelope(string(b), &got); err != nil {
			t.Fatal(err)
		}
		if got.From != m.From || !got.Time.Equal(m.Time) || !bytes.Equal(got.Body, m.Body) {
			t.Errorf("got %.80v, want %.80v", got, m)
		}
	}
}

// A node of a later version may add fields; this one must skip them.
func TestEnvelopeSkipsUnknownFields(t *testing.T) {
	m := relay.Message{From: "a", Time: time.Unix(1, 0), Body: []byte("b")}
	b := protowire.AppendTag(nil, 100, protowire.BytesType)
	b = protowire.AppendString(b, "what is new")
	b = appendEnvelope(b, &m)
	b = protowire.AppendTag(b, 101, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, 7)
	var got relay.Message
	if _, err := parseEnvelope(string(b), &got); err != nil || got.From != "a" || string(got.Body) != "b" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestEnvelopeRefusesHigherVersion(t *testing.T) {
	b := protowire.AppendTag(nil, fieldVersion, protowire.VarintType)
	b = protowire.AppendVarint(b, envelopeVersion+1)
	if _, err := parseEnvelope(string(b), &relay.Message{}); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("error = %v", err)
	}
}

// The bytes of version 1 never change: they are what other nodes send.
func TestEnvelopeBytes(t *testing.T) {
	m := relay.Message{From: "a", Time: time.Unix(0, 300), Body: []byte("bc")}
	want := "\x08\x01\x12\x01a\x18\xac\x02\x22\x02bc"
	if got := string(appendEnvelope(nil, &m)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add("\x08\x01\x12\x01a\x18\xac\x02\x22\x02bc")
	f.Add("\x08\x02")
	f.Add("\x22\xff\xff\xff\xff\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		var m relay.Message
		if _, err := parseEnvelope(s, &m); err != nil {
			return
		}
		var again relay.Message
		if _, err := parseEnvelope(string(appendEnvelope(nil, &m)), &again); err != nil {
			t.Fatal(err)
		}
		if again.From != m.From || !bytes.Equal(again.Body, m.Body) {
			t.Errorf("%v became %v", m, again)
		}
	})
}

// Neither direction allocates: a parsed message shares the memory of what came.
func TestEnvelopeAllocatesNothing(t *testing.T) {
	m := benchMessage()
	buf := make([]byte, 0, envelopeSize(&m))
	if n := testing.AllocsPerRun(100, func() { buf = appendEnvelope(buf[:0], &m) }); n != 0 {
		t.Errorf("encoding allocates %v times", n)
	}
	s := string(buf)
	var got relay.Message
	if n := testing.AllocsPerRun(100, func() {
		if _, err := parseEnvelope(s, &got); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("parsing allocates %v times", n)
	}
}

func BenchmarkEncodeEnvelope(b *testing.B) {
	m := benchMessage()
	buf := make([]byte, 0, envelopeSize(&m))
	b.ReportAllocs()
	for b.Loop() {
		buf = appendEnvelope(buf[:0], &m)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkParseEnvelope(b *testing.B) {
	m := benchMessage()
	s := string(appendEnvelope(nil, &m))
	var got relay.Message
	b.ReportAllocs()
	b.SetBytes(int64(len(s)))
	for b.Loop() {
		if _, err := parseEnvelope(s, &got); err != nil {
			b.Fatal(err)
		}
	}
}
