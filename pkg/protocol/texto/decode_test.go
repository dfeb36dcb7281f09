package texto

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"

	"parley/pkg/jsonscan"
)

const (
	idOne = "11111111-1111-4111-8111-111111111111"
	idTwo = "22222222-2222-4222-8222-222222222222"
)

const plainSend = `{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"send","data":{"receiver_id":"` + idOne + `","text":"hello there, how are you?"}}`

func TestDecodeSend(t *testing.T) {
	r, p := decode([]byte(plainSend))
	if p != nil {
		t.Fatal(p.description)
	}
	one, two := uuid.MustParse(idOne), uuid.MustParse(idTwo)
	if r.clientID != one || r.id != two || !r.hasID || r.kind != kindSend || r.receiver != one || string(r.text) != `"hello there, how are you?"` {
		t.Errorf("got %+v", r)
	}
}

// The text is a part of the frame, not a copy.
func TestDecodeCopiesNoText(t *testing.T) {
	frame := []byte(plainSend)
	r, p := decode(frame)
	if p != nil {
		t.Fatal(p.description)
	}
	frame[bytes.Index(frame, []byte("hello"))] = 'j'
	if string(r.text) != `"jello there, how are you?"` {
		t.Errorf("got %s", r.text)
	}
}

// A message whose names and ids are written without escapes is decoded without
// allocation. Each name or value with an escape that is looked at costs two.
func TestDecodeAllocatesNothing(t *testing.T) {
	for name, frame := range map[string]string{
		"send":                plainSend,
		"send with escapes":   strings.Replace(plainSend, "hello", `h\u00e9llo \"\n`, 1),
		"upper case":          strings.ReplaceAll(plainSend, idOne, "AAAAAAAA-1111-4111-8111-111111111111"),
		"unknown members":     strings.Replace(plainSend, `{`, `{"v":1,"x":[{"y":null},-1.5e3,"\n"],`, 1),
		"registration":        `{"client_id":null,"id":"` + idTwo + `","kind":"registration","data":null}`,
		"ack":                 `{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"ack","data":null}`,
		"not JSON":            plainSend[:len(plainSend)-1],
		"not of this schema":  `{"id":7}`,
		"data that fits not":  `{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"send","data":{}}`,
		"deeper than allowed": strings.Repeat("[", 1000),
	} {
		b := []byte(frame)
		if n := testing.AllocsPerRun(100, func() { decode(b) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

// reference reads a frame by encoding/json. It differs from the schema in
// nothing: names by their exact case, the last of several, ids of 36 characters.
func reference(frame []byte) (r request, code string) {
	if !utf8.Valid(frame) || !json.Valid(frame) || depth(frame) > jsonscan.MaxDepth {
		return r, codeSyntax
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(frame, &members) != nil || members == nil {
		return r, codeSyntax
	}
	id := func(raw json.RawMessage) (uuid.UUID, bool) {
		var s *string
		if json.Unmarshal(raw, &s) != nil || s == nil || len(*s) != 36 {
			return uuid.UUID{}, false
		}
		v, err := uuid.Parse(*s)
		return v, err == nil
	}
	r.id, r.hasID = id(members["id"])
	fits := true
	if raw, ok := members["client_id"]; ok && string(raw) != "null" {
		r.clientID, fits = id(raw)
	}
	var kind *string
	if json.Unmarshal(members["kind"], &kind) != nil || kind == nil || !r.hasID || !fits {
		return r, codeSyntax
	}
	switch *kind {
	case "ack":
		r.kind = kindAck
	case "error":
		r.kind = kindError
	case "registration":
		r.kind = kindRegistration
		if raw, ok := members["data"]; ok && string(raw) != "null" {
			return r, codeInval
		}
	case "send":
		r.kind = kindSend
		var data map[string]json.RawMessage
		if json.Unmarshal(members["data"], &data) != nil || data == nil {
			return r, codeInval
		}
		var ok bool
		if r.receiver, ok = id(data["receiver_id"]); !ok || len(data["text"]) == 0 || data["text"][0] != '"' {
			return r, codeInval
		}
		r.text = data["text"]
	default:
		return r, codeKind
	}
	return r, ""
}

// depth is how deep the values of a valid JSON text nest inside the outermost.
func depth(frame []byte) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(frame))
	d.UseNumber()
	for at := 0; ; {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			deepest = max(deepest, at)
			at++
		case json.Delim('}'), json.Delim(']'):
			at--
		default:
			deepest = max(deepest, at)
		}
	}
}

// mistyped tells whether a member that comes twice has, before its last value,
// one that does not fit: the decoder says ESYNTAX then, which a map cannot show.
func mistyped(frame []byte) bool {
	d := json.NewDecoder(bytes.NewReader(frame))
	if _, err := d.Token(); err != nil {
		return false
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return false
		}
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return false
		}
		var s *string
		switch isString := json.Unmarshal(raw, &s) == nil && s != nil; name {
		case "kind":
			if !isString {
				return true
			}
		case "client_id":
			if string(raw) != "null" && (!isString || len(*s) != 36 || uuid.Validate(*s) != nil) {
				return true
			}
		}
	}
	return false
}

// FuzzDecode compares the decoder with encoding/json.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		plainSend,
		`{"client_id":null,"id":"` + idTwo + `","kind":"registration","data":null}`,
		`{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"ack","data":[1,-2.5e+7,{"a":"\u00e9\ud83d"},true]}`,
		`{"kin\u0064":"s\u0065nd","\u0069d":"` + idTwo + `","data":{"t\u0065xt":"\\","receiver_id":"` + idTwo + `"}}`,
		`{"id":"` + idTwo + `","id":5,"kind":3,"kind":"ack"}`,
		"\ufeff{}", "{\"\xff\":1}", `[[[["a",{}]]]]`, "  null\n", `"text"`, `{"id":"{` + idTwo + `}","kind":""}`,
		strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat(`{"":`, 66) + "0" + strings.Repeat("}", 66),
		`{"a":1,}`, `{"a" 1}`, `-`, `-0.0E-0`, `00`, `tru`, "\"\x00\"", `"\u12g4"`, `{`, `{"a":"\`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := bytes.Clone(frame)
		r, p := decode(frame)
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was changed")
		}
		want, code := reference(frame)
		if code == "" && mistyped(frame) || code != "" && code != codeSyntax && mistyped(frame) {
			code = codeSyntax
		}
		switch {
		case p == nil && code != "":
			t.Fatalf("taken, want %s", code)
		case p != nil && p.code != code:
			t.Fatalf("%s (%s), want %q", p.code, p.description, code)
		case r.hasID != want.hasID || r.hasID && r.id != want.id:
			t.Fatalf("id %v %v, want %v %v", r.hasID, r.id, want.hasID, want.id)
		}
		if p == nil && (r.clientID != want.clientID || r.kind != want.kind || r.receiver != want.receiver || !bytes.Equal(r.text, want.text)) {
			t.Fatalf("got %+v\nwant %+v", r, want)
		}
		if p != nil && r.kind == kindSend && r.clientID != want.clientID {
			t.Fatalf("client_id %v, want %v: it decides between ECID and EINVAL", r.clientID, want.clientID)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for name, frame := range map[string]string{
		"send":      plainSend,
		"send 4 KB": strings.Replace(plainSend, "hello", strings.Repeat("text with some words ", 200), 1),
		"ack":       `{"client_id":"` + idOne + `","id":"` + idTwo + `","kind":"ack","data":null}`,
	} {
		b.Run(name, func(b *testing.B) {
			in := []byte(frame)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, p := decode(in); p != nil {
					b.Fatal(p.description)
				}
			}
		})
	}
}
