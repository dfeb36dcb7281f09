package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
)

type form struct {
	Name  *string `json:"name"`
	Age   *int    `json:"age"`
	Note  *string `json:"note,omitempty"`
	Count int     `json:"count"`
}

const formLimit = 64

// readForm reads a body as ReadJSON does.
func readForm(contentType string, body io.Reader) (form, error) {
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.Header["Content-Type"] = []string{contentType}
	var f form
	err := ReadJSON(httptest.NewRecorder(), r, formLimit, &f)
	return f, err
}

func TestReadJSON(t *testing.T) {
	for _, body := range []string{
		`{"name":"x","age":7}`, " {\"age\" : 7 ,\"name\":\"x\"}\r\n", `{"name":"y","name":"x","age":7}`,
		`{"name":"x","age":7,"other":{"deep":[1]}}`, `{"name":"\u0078","age":7,"note":null}`,
	} {
		f, err := readForm("application/json", strings.NewReader(body))
		if err != nil || *f.Name != "x" || *f.Age != 7 || f.Note != nil || f.Count != 0 {
			t.Errorf("%s: %+v, %v", body, f, err)
		}
	}
}

func TestReadJSONEmptyValues(t *testing.T) {
	f, err := readForm("application/json", strings.NewReader(`{"name":"","age":0}`))
	if err != nil || *f.Name != "" || *f.Age != 0 {
		t.Errorf("%+v, %v: what is empty is there", f, err)
	}
}

func TestReadJSONContentType(t *testing.T) {
	const body = `{"name":"x","age":7}`
	for _, good := range []string{"application/json", "Application/JSON", "application/json; charset=utf-8",
		`application/json;charset="UTF-8"`, "application/json;", "application/json; charset", "application/json ; a=b; a=c"} {
		if _, err := readForm(good, strings.NewReader(body)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "text/plain", "text/json", "application/jsonx", "application/json, text/plain",
		"application/x-www-form-urlencoded", "application", "application/problem+json", "; charset=utf-8"} {
		if _, err := readForm(bad, strings.NewReader(body)); !errors.Is(err, ErrContentType) {
			t.Errorf("%q: error = %v, want %v", bad, err, ErrContentType)
		}
	}
}

func TestReadJSONBroken(t *testing.T) {
	for _, body := range []string{
		"", " ", "{", `{"name":"x","age":7`, `{"name":"x","age":7}}`, `{"name":"x","age":7} {}`, `{"name":"x","age":7},`,
		`{name:"x"}`, `{'name':'x'}`, `{"name":"x",}`, "{\"name\":\"a\nb\"}", "{\"name\":\"\xff\"}", "\xef\xbb\xbf{}", "nul",
		strings.Repeat("[", formLimit),
	} {
		if _, err := readForm("application/json", strings.NewReader(body)); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: error = %v, want %v", body, err, ErrNotJSON)
		}
	}
}

func TestReadJSONFields(t *testing.T) {
	for body, want := range map[string]FieldError{
		`{}`:                                {"name", true},
		`null`:                              {"name", true},
		`{"name":"x"}`:                      {"age", true},
		`{"name":null,"age":7}`:             {"name", true},
		`{"name":7,"age":7}`:                {"name", false},
		`{"name":"x","age":"7"}`:            {"age", false},
		`{"name":"x","age":7.5}`:            {"age", false},
		`{"name":"x","age":1e99}`:           {"age", false},
		`{"name":["x"],"age":7}`:            {"name", false},
		`{"name":"x","age":7,"count":"1"}`:  {"count", false},
		`{"name":"x","age":7,"note":false}`: {"note", false},
		`[]`:                                {"", false},
		`"x"`:                               {"", false},
		`7`:                                 {"", false},
		`true`:                              {"", false},
	} {
		_, err := readForm("application/json", strings.NewReader(body))
		var got *FieldError
		if !errors.As(err, &got) || *got != want {
			t.Errorf("%s: error = %v, want %+v", body, err, want)
		} else if got.Error() == "" || !strings.Contains(got.Error(), want.Field) {
			t.Errorf("%s: %q does not name %q", body, got, want.Field)
		}
	}
}

func TestReadJSONLimit(t *testing.T) {
	body := `{"name":"x","age":7}`
	body += strings.Repeat(" ", formLimit-len(body))
	if _, err := readForm("application/json", strings.NewReader(body)); err != nil {
		t.Errorf("a body of %d bytes: %v", len(body), err)
	}
	if _, err := readForm("application/json", strings.NewReader(body+" ")); !errors.Is(err, ErrTooLong) {
		t.Errorf("a body of %d bytes: error = %v, want %v", len(body)+1, err, ErrTooLong)
	}
	broken := errors.New("broken")
	_, err := readForm("application/json", iotest.ErrReader(broken))
	if !errors.Is(err, broken) || !errors.Is(err, ErrCutOff) || errors.Is(err, ErrNotJSON) {
		t.Errorf("a body that breaks off: error = %v, want %v", err, ErrCutOff)
	}
}

// Where the type does not matter, all else does.
func TestReadUntypedJSON(t *testing.T) {
	read := func(contentType, body string) (f form, err error) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header["Content-Type"] = []string{contentType}
		err = ReadUntypedJSON(httptest.NewRecorder(), r, formLimit, &f)
		return f, err
	}
	body := `{"name":"x","age":7}`
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json"} {
		if f, err := read(contentType, body); err != nil || *f.Name != "x" || *f.Age != 7 {
			t.Errorf("%q: %+v, %v", contentType, f, err)
		}
	}
	if _, err := read("", body+"}"); !errors.Is(err, ErrNotJSON) {
		t.Errorf("more than one value: error = %v, want %v", err, ErrNotJSON)
	}
	body += strings.Repeat(" ", formLimit-len(body))
	if _, err := read("", body); err != nil {
		t.Errorf("a body of %d bytes: %v", len(body), err)
	}
	if _, err := read("", body+" "); !errors.Is(err, ErrTooLong) {
		t.Errorf("a body of %d bytes: error = %v, want %v", len(body)+1, err, ErrTooLong)
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	WriteJSON(w, http.StatusTeapot, map[string]string{"a": "<b>&\u2028"})
	if got, want := w.Body.String(), "{\"a\":\"<b>&\\u2028\"}\n"; got != want || w.Code != http.StatusTeapot {
		t.Errorf("%d %q, want 418 %q", w.Code, got, want)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Content-Length": "19", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a value that is no JSON was written")
		}
	}()
	WriteJSON(httptest.NewRecorder(), http.StatusOK, func() {})
}

// FuzzReadJSON holds what is read to what any reader of JSON finds in the body.
func FuzzReadJSON(f *testing.F) {
	for _, body := range []string{`{"name":"x","age":7}`, `{"NAME":"x","age":7,"note":null}`, `{"name":"\ud800","age":-0}`, `null`, `[{}]`, "{\"name\":\"\xff\"}"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got form
		err := ParseJSON(body, &got)
		var field *FieldError
		switch {
		case err == nil:
			if got.Name == nil || got.Age == nil {
				t.Fatalf("%q lacks something: %+v", body, got)
			}
			var any map[string]any
			if err := json.Unmarshal(body, &any); err != nil {
				t.Fatalf("%q is taken for an object: %v", body, err)
			}
		case errors.As(err, &field):
			if !json.Valid(body) {
				t.Fatalf("%q is taken for JSON: %v", body, err)
			}
		case !errors.Is(err, ErrNotJSON):
			t.Fatalf("%q: %v", body, err)
		}
	})
}
