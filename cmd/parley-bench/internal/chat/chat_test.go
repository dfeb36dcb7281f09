package chat

import (
	"encoding/json"
	"reflect"
	"testing"
)

// What the scanner takes, encoding/json reads the same way.
func TestParseScansAsJSONReads(t *testing.T) {
	const message = `{"id":"1700000000000-0","content":"hello","user":{"id":7,"username":"bob"},"timestamp":1700000000000}`
	for _, c := range []struct {
		frame string
		scans bool
	}{
		{`{"type":"serverMessages","payload":{"roomId":"beast","messages":[` + message + `]}}`, true},
		{`{"type":"serverMessages","payload":{"roomId":"beast","messages":[` + message + `,` + message + `]}}`, true},
		{` { "payload" : { "messages" : [ ] , "roomId" : "b" } , "type" : "roomHistory" , "x" : null } `, true},
		{`{"type":"roomHistory","payload":{"roomId":"b","messages":[` + message + `],"hasMoreMessages":true}}`, true},
		{`{"type":"roomHistory","payload":{"roomId":"b","messages":[],"hasMoreMessages":false,"recovered":true}}`, true},
		{`{"type":"error","payload":{"code":"ROOM_FULL","message":"later","roomId":"b"}}`, true},
		{`{"type":"error","payload":{"code":"BAD_REQUEST","message":"what","roomId":null}}`, false},
		{`{"type":"serverMessages","payload":{"roomId":"b\u0065","messages":[]}}`, false},
		{`{"type":"serverMessages","payload":{"roomId":"b","messages":[{"id":"1-0","content":"a \"quote\"","user":{"id":-3,"username":"x"}}]}}`, false},
		{`{"type":"presence","payload":{"roomId":"b","user":{"id":1,"username":"x"},"online":true}}`, false},
		{`{"type":"serverMessages","payload":{"messages":[{"user":{"id":1234567890123456789}}]}}`, false},
	} {
		s, scanned := scanner{b: []byte(c.frame)}, Frame{}
		if got := s.frame(&scanned); got != c.scans {
			t.Errorf("scanned: %v, want %v: %s", got, c.scans, c.frame)
		}
		var parsed, slow Frame
		if err := Parse([]byte(c.frame), &parsed); err != nil {
			t.Errorf("%s: %v", c.frame, err)
		}
		if err := parseSlowly([]byte(c.frame), &slow); err != nil {
			t.Errorf("%s: %v", c.frame, err)
		}
		if a, b := flat(parsed), flat(slow); !reflect.DeepEqual(a, b) {
			t.Errorf("scanned %v, encoding/json has %v: %s", a, b, c.frame)
		}
	}
}

// flat is a frame without the difference between nothing and an empty text.
func flat(f Frame) []any {
	all := []any{string(f.Type), string(f.Room), f.More, string(f.Code), string(f.Reason)}
	for _, m := range f.Messages {
		all = append(all, string(m.ID), string(m.Content), m.User)
	}
	return all
}

func TestParseRefuses(t *testing.T) {
	f := Frame{Messages: []Message{{User: 1}}}
	for _, frame := range []string{"", "{", `{"type":"serverMessages"`, `[]`, `{"type":1}`, `{"type":"x"}}`, `{"payload":{"messages":{}}}`, `{"type":"a",}`} {
		if err := Parse([]byte(frame), &f); err == nil {
			t.Errorf("%q was taken for a frame", frame)
		}
		if len(f.Messages) != 0 {
			t.Errorf("%q left %d messages", frame, len(f.Messages))
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"serverMessages","payload":{"roomId":"b","messages":[{"id":"1-0","content":"a","user":{"id":3,"username":"x"},"timestamp":1}]}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		s := scanner{b: frame}
		if s.frame(new(Frame)) && !json.Valid(frame) {
			t.Errorf("the scanner reads what is no JSON: %q", frame)
		}
	})
}

func TestPlaces(t *testing.T) {
	for id, want := range map[string][2]uint64{"0-0": {0, 0}, "1700000000000-12": {1700000000000, 12}, "18446744073709551615-1": {1<<64 - 1, 1}} {
		if m, n, ok := ParsePlace([]byte(id)); !ok || m != want[0] || n != want[1] {
			t.Errorf("%s: %d, %d, %v", id, m, n, ok)
		}
	}
	for _, id := range []string{"", "-", "1", "1-", "-1", "1-2-3", "a-1"} {
		if _, _, ok := ParsePlace([]byte(id)); ok {
			t.Errorf("%q was taken for a place", id)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	frame := []byte(`{"type":"serverMessages","payload":{"roomId":"beast","messages":[{"id":"1700000000000-0","content":"hello","user":{"id":7,"username":"bob"},"timestamp":1700000000000}]}}`)
	var f Frame
	n := testing.AllocsPerRun(100, func() {
		if err := Parse(frame, &f); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := ParsePlace(f.Messages[0].ID); !ok {
			t.Fatalf("%q is no place", f.Messages[0].ID)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}
