package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

const jsonType = "application/json"

var (
	// ErrContentType means that a request does not say that its body is JSON.
	ErrContentType = errors.New("the Content-Type is not " + jsonType)
	// ErrTooLong means that a body is longer than it may be.
	ErrTooLong = errors.New("the body is too long")
	// ErrCutOff means that a body did not come to its end.
	ErrCutOff = errors.New("the body breaks off")
	// ErrNotJSON means that a body is not one JSON value in UTF-8.
	ErrNotJSON = errors.New("the body is not JSON in UTF-8")
)

// FieldError means that a body is JSON, but not of the form that is wanted.
type FieldError struct {
	Field   string // its path; "" for the whole body
	Missing bool   // it is not there, or null; else it has a wrong type
}

func (e *FieldError) Error() string {
	switch {
	case e.Missing:
		return strconv.Quote(e.Field) + " is missing"
	case e.Field == "":
		return "the body is of the wrong type"
	}
	return strconv.Quote(e.Field) + " is of the wrong type"
}

// ReadJSON reads a request's body, of at most limit bytes, into the struct that v
// points to. Fields of the struct itself that are pointers and not tagged omitempty have
// to be there; what the struct does not have is passed over. Errors wrap ErrContentType,
// ErrTooLong (the connection ends after the answer then), ErrCutOff or ErrNotJSON, or
// are a *FieldError.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";") // parameters make it no other type
	if !strings.EqualFold(strings.TrimSpace(t), jsonType) {
		return ErrContentType
	}
	return ReadUntypedJSON(w, r, limit, v)
}

// ReadUntypedJSON is ReadJSON of a body whose Content-Type does not matter. A page of any
// origin can have a browser send such a request, with cookies: it is for endpoints that
// cookies do not open, and that check the origin.
func ReadUntypedJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCutOff, err)
	}
	return ParseJSON(body, v)
}

// ParseJSON is ReadJSON of a body that has been read.
func ParseJSON(body []byte, v any) error {
	if !utf8.Valid(body) { // the decoder would put other characters in place of what is not
		return ErrNotJSON
	}
	err := json.Unmarshal(body, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return &FieldError{Field: wrong.Field}
	case err != nil: // which would quote the body
		return ErrNotJSON
	}
	if err := missing(reflect.ValueOf(v).Elem()); err != nil {
		return err
	}
	if string(bytes.TrimSpace(body)) == "null" { // which has left v as it was
		return &FieldError{}
	}
	return nil
}

// missing finds the first field that has to be there and is not.
func missing(v reflect.Value) error {
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if f := v.Field(i); f.Kind() == reflect.Pointer && f.IsNil() && options != "omitempty" {
			return &FieldError{Field: name, Missing: true}
		}
	}
	return nil
}

// WriteJSON answers with a status and a value as JSON, which nobody is to keep. It
// panics when the value cannot be written as JSON, which is the program's mistake.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // it is not HTML, as the header says
	if err := encoder.Encode(v); err != nil {
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // the client may have gone
}
