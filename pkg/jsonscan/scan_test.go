package jsonscan

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// walk passes over a whole text.
func walk(text []byte) ([]byte, error) {
	s := New(text)
	v, err := s.Value(0)
	if err == nil && !s.End() {
		err = ErrJSON
	}
	return v, err
}

func TestValue(t *testing.T) {
	for _, text := range []string{`null`, ` true `, `-0.5e+7`, `""`, `"a\u00e9\n"`, `[]`, `[1,[2,{"a":null}]]`, `{"a":{"b":[{}]},"a":1}`} {
		v, err := walk([]byte(text))
		if err != nil || string(v) != strings.TrimSpace(text) {
			t.Errorf("%s: %q, %v", text, v, err)
		}
	}
	for _, text := range []string{``, ` `, `nul`, `01`, `1.`, `1e`, `+1`, `"`, `"\x"`, `"\u12g4"`, "\"\n\"", `[1,]`, `[1 2]`, `{"a"}`, `{a:1}`, `{"a":1,}`, `1 2`, "1\x00"} {
		if v, err := walk([]byte(text)); err == nil {
			t.Errorf("%q is taken as %q", text, v)
		}
	}
}

func TestDepth(t *testing.T) {
	for depth, want := range map[int]bool{MaxDepth: true, MaxDepth + 1: false} {
		text := strings.Repeat("[", depth) + "1" + strings.Repeat("]", depth)
		if _, err := walk([]byte(text)); (err == nil) != want {
			t.Errorf("%d arrays around a number: %v", depth, err)
		}
	}
}

func TestUnquote(t *testing.T) {
	for quoted, want := range map[string]string{`""`: "", `"a b"`: "a b", `"\"\\\/\b\f\n\r\t"`: "\"\\/\b\f\n\r\t", `"\u00e9\ud83d\ude00"`: "é😀", `"\ud83d"`: "\ufffd"} {
		if got := Unquote([]byte(quoted)); string(got) != want {
			t.Errorf("%s means %q, want %q", quoted, got, want)
		}
	}
}

func TestElements(t *testing.T) {
	s := New([]byte(` [1, "two",[3]] `))
	var got []string
	err := s.Elements(func() error {
		v, err := s.Value(1)
		got = append(got, string(v))
		return err
	})
	if err != nil || !s.End() || strings.Join(got, " ") != `1 "two" [3]` {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzValue compares with encoding/json.
func FuzzValue(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5e-3,"\u0041",null,true]}`, `[[[]]]`, `"\ud800"`, `{"":{}}`, `-`, `{"a":1}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if !Valid(text) || bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > MaxDepth {
			return
		}
		_, err := walk(text)
		if valid := json.Valid(text); valid != (err == nil) {
			t.Errorf("%q: %v, encoding/json says %v", text, err, valid)
		}
		s := New(text)
		if quoted, err := s.Str(); err == nil && s.End() {
			var want string
			if err := json.Unmarshal(quoted, &want); err != nil || string(Unquote(quoted)) != want {
				t.Errorf("%q means %q, want %q (%v)", quoted, Unquote(quoted), want, err)
			}
			mended := bytes.Clone(quoted)
			Mend(mended)
			if string(Unquote(mended)) != want {
				t.Errorf("%q, mended to %q, means %q, want %q", quoted, mended, Unquote(mended), want)
			}
		}
	})
}

func TestMend(t *testing.T) {
	for quoted, want := range map[string]string{
		`""`: `""`, `"a\u00e9\n"`: `"a\u00e9\n"`, `"\ud83d\ude00"`: `"\ud83d\ude00"`, `"\uD83D\uDE00\udBFF\uDfff"`: `"\uD83D\uDE00\udBFF\uDfff"`,
		`"\ud83d"`: `"\ufffd"`, `"\ude00\ud83d"`: `"\ufffd\ufffd"`, `"\ud83d\ud83d\ude00x"`: `"\ufffd\ud83d\ude00x"`, `"\ud83dx\ude00"`: `"\ufffdx\ufffd"`,
		`"\\ud83d"`: `"\\ud83d"`, `"\\\ud83d"`: `"\\\ufffd"`, `"\ud83d\n\uDBFF\\"`: `"\ufffd\n\ufffd\\"`, `"\ud7ff\ue000"`: `"\ud7ff\ue000"`, `"\uDBFF\uDBFF"`: `"\ufffd\ufffd"`,
	} {
		b := []byte(quoted)
		Mend(b)
		if string(b) != want {
			t.Errorf("%s becomes %s, want %s", quoted, b, want)
		}
	}
}
