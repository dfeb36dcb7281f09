package texto

import (
	"bytes"
	"testing"
	"time"

	"parley/pkg/relay"
)

// A text is read as it was written, kept or not; its id is its own or its place's.
func TestBodyRoundTrip(t *testing.T) {
	text := []byte(`"hello"`)
	m := relay.Message{From: idOne, Time: time.Now(), Body: appendText(nil, false, text)}
	id, got, ok := textOf(&m)
	if !ok || !bytes.Equal(got, text) || id.Version() != 4 {
		t.Errorf("got %v %q, %v", id, got, ok)
	}
	m.ID = relay.ID{Millis: 5, Seq: 6}
	m.Body = appendText(nil, true, text)
	id, got, ok = textOf(&m)
	if at, placed := placeOf(id); !ok || !bytes.Equal(got, text) || !placed || at != m.ID {
		t.Errorf("got %v %q, %v, place %v", id, got, ok, at)
	}
}

// FuzzBody has no body taken for two things, and none crash a node.
func FuzzBody(f *testing.F) {
	nonce := newID()
	for _, body := range [][]byte{nil, {bodyText}, {bodyKept}, {bodyTakeover}, {bodyTakeover + 1}, appendText(nil, false, []byte(`""`)),
		appendText(nil, true, []byte(`""`)), append([]byte{bodyTakeover}, nonce[:]...), append([]byte{bodyText}, nonce[:]...)} {
		f.Add(body, idOne, uint64(1), uint64(2))
	}
	f.Fuzz(func(t *testing.T, body []byte, from string, millis, seq uint64) {
		m := relay.Message{ID: relay.ID{Millis: millis, Seq: seq}, From: from, Body: body}
		id, text, isText := textOf(&m)
		_, isTakeover := nonceOf(&m)
		if isText && isTakeover {
			t.Error("a text and a takeover")
		}
		if isText && (len(text) < 2 || !bytes.HasSuffix(body, text) || len(from) != uuidLength) {
			t.Errorf("taken for the text %q from %q", text, from)
		}
		if at, ok := placeOf(id); isText && body[0] == bodyKept && ok && at != m.ID {
			t.Errorf("%v has the id of %v", m.ID, at)
		}
	})
}
