package rest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"parley/pkg/web"
)

// answer is what a handler answers with.
type answer struct {
	status   int
	body     any    // nil: none
	location string // of what was made
	cached   bool   // it may be asked for again with the tag of what it was (RFC 9110, section 13)
}

func ok(body any) *answer     { return &answer{status: http.StatusOK, body: body} }
func cached(body any) *answer { return &answer{status: http.StatusOK, body: body, cached: true} }
func made(body any, location string) *answer {
	return &answer{status: http.StatusCreated, body: body, location: location}
}

var done = &answer{status: http.StatusNoContent}

// encode is a value as JSON. It panics when it cannot be written so, which is the program's
// mistake.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is not HTML, as the header says
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	if !a.cached {
		web.WriteJSON(w, a.status, a.body)
		return
	}
	body := encode(a.body)
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	h.Set("ETag", tag)
	h.Set("Cache-Control", "private, no-cache") // to be kept, and asked for each time
	h.Add("Vary", "Authorization, Cookie")
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	_, _ = io.Copy(w, bytes.NewReader(body)) // the client may have gone; to HEAD nothing goes out
}

// matches tells whether a tag is among those of If-None-Match, which are compared weakly.
func matches(lists []string, tag string) bool {
	for _, list := range lists {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}
