package chat

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"parley/pkg/jsonscan"
	"parley/pkg/relay"
)

// FuzzDecode compares the decoder with encoding/json.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"type":"clientMessages","payload":{"roomId":"lobby","messages":[{"content":"a"},{"content":"\u00e9","x":[{}]}]}}`,
		`{"type":"clientMessages","payload":{"roomId":"lobby","messages":[{"content":1}]}}`,
		`{"type":"clientMessages","payload":{"roomId":"lobby","messages":[{}],"messages":[]}}`,
		`{"type":"requestRoomHistory","payload":{"roomId":"lobby","firstMessageId":"1-2"}}`,
		`{"type":"resume","payload":{"rooms":{"lobby":"1-2","kitchen":"0-0"}}}`,
		`{"type":"typing","payload":{"roomId":null,"roomId":"x"}}`,
		`{"type":"typing","payload":null}`, `{"payload":{"roomId":""},"type":"typing"}`, `[]`, `{`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := slices.Clone(frame)
		r, p := decode(frame)
		if !slices.Equal(frame, before) {
			t.Fatal("the frame was changed")
		}
		if !utf8.Valid(frame) || strings.Count(string(frame), "{")+strings.Count(string(frame), "[") > jsonscan.MaxDepth {
			return
		}
		if want := reference(frame); (p == nil) != (want != 0) || p == nil && r.kind != want {
			t.Fatalf("%q: kind %d, %+v, want kind %d", frame, r.kind, p, want)
		}
		if r.quoted != nil && !json.Valid(r.quoted) {
			t.Fatalf("a room %q", r.quoted)
		}
		for _, c := range r.contents {
			var s string
			if json.Unmarshal(c, &s) != nil {
				t.Fatalf("a content %q", c)
			}
			m := relay.Message{ID: relay.ID{Millis: 1, Seq: 2}, Body: appendBody(nil, true, c, []byte(`{"id":1,"username":"x"}`))}
			if e, _, ok := entryOf(&m); !ok || !json.Valid(e.text) {
				t.Fatalf("a message %q", e.text)
			}
		}
	})
}

// reference is the kind of a request, 0 for a mistake.
func reference(frame []byte) kind {
	var members map[string]json.RawMessage
	if json.Unmarshal(frame, &members) != nil || members == nil {
		return 0
	}
	text := func(raw json.RawMessage) (string, bool) {
		var s *string
		if err := json.Unmarshal(raw, &s); err != nil || s == nil {
			return "", false
		}
		return *s, true
	}
	typ, _ := text(members["type"])
	var load map[string]json.RawMessage
	if json.Unmarshal(members["payload"], &load) != nil || load == nil {
		return 0
	}
	_, hasRoom := text(load["roomId"])
	switch typ {
	case "clientMessages":
		var ms []map[string]json.RawMessage
		if !hasRoom || json.Unmarshal(load["messages"], &ms) != nil || ms == nil {
			return 0
		}
		for _, m := range ms {
			if _, ok := text(m["content"]); !ok {
				return 0
			}
		}
		return kindMessages
	case "requestRoomHistory":
		if _, ok := text(load["firstMessageId"]); hasRoom && ok {
			return kindHistory
		}
	case "resume":
		var rooms map[string]json.RawMessage
		if json.Unmarshal(load["rooms"], &rooms) != nil || rooms == nil {
			return 0
		}
		// Each value counts here, that of a name which comes twice too.
		dec := json.NewDecoder(strings.NewReader(string(load["rooms"])))
		_, _ = dec.Token()
		for dec.More() {
			_, _ = dec.Token()
			var v any
			if _ = dec.Decode(&v); v == nil {
				return 0
			} else if _, ok := v.(string); !ok {
				return 0
			}
		}
		return kindResume
	case "typing":
		if hasRoom {
			return kindTyping
		}
	}
	return 0
}

// FuzzBody reads whatever may stand in Redis.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`m{"content":"x","user":{"id":1,"username":"a"}}`), "1:alice")
	f.Add([]byte(`M{}`), ":")
	f.Add([]byte(`t0123456789abcdeflobby`), "x")
	f.Add([]byte(`+12`), "99999999999999999999:a")
	f.Fuzz(func(t *testing.T, body []byte, member string) {
		m := relay.Message{Body: body, From: member}
		if e, _, ok := entryOf(&m); ok && json.Valid(body[1:]) && len(body) > 3 && !json.Valid(e.text) {
			t.Errorf("%q becomes %q", body, e.text)
		}
		typingOf(&m)
		if p, ok := personOf(member); ok && !json.Valid(p.text) {
			t.Errorf("%q becomes %q", member, p.text)
		}
		parseSince(member)
	})
}
