package web

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var site = fstest.MapFS{
	"index.html":     {Data: []byte("<!doctype html><title>start</title>")},
	"app/parley.js":  {Data: []byte("export const a = 1\n")},
	"app/style.css":  {Data: []byte("body { margin: 0 }\n")},
	"app/empty.html": {},
}

func static(t *testing.T) http.Handler {
	t.Helper()
	h, err := Static(site)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func answer(h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://relay.example/", nil)
	r.URL.Path = target // as it is, not cleaned
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestStatic(t *testing.T) {
	h := static(t)
	for target, want := range map[string]struct {
		status int
		kind   string
		body   string
	}{
		"/":                    {200, "text/html; charset=utf-8", string(site["index.html"].Data)},
		"/index.html":          {200, "text/html; charset=utf-8", string(site["index.html"].Data)},
		"/app/parley.js":       {200, "text/javascript; charset=utf-8", string(site["app/parley.js"].Data)},
		"/app/style.css":       {200, "text/css; charset=utf-8", string(site["app/style.css"].Data)},
		"/app/empty.html":      {200, "text/html; charset=utf-8", ""},
		"/app":                 {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/app/":                {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/missing":             {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/app/../index.html":   {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/../../etc/passwd":    {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/app\\..\\index.html": {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"":                     {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/index.html\x00.js":   {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"//app/parley.js":      {404, "text/plain; charset=utf-8", "404 page not found\n"},
		"/static.go":           {404, "text/plain; charset=utf-8", "404 page not found\n"},
	} {
		w := answer(h, "GET", target)
		if w.Code != want.status || w.Header().Get("Content-Type") != want.kind || w.Body.String() != want.body {
			t.Errorf("%q: %d %q %q, want %d %q %q", target, w.Code, w.Header().Get("Content-Type"), w.Body, want.status, want.kind, want.body)
		}
	}
}

func TestStaticHeaders(t *testing.T) {
	w := answer(static(t), "GET", "/")
	for name, want := range map[string]string{
		"Cache-Control":          "no-cache",
		"X-Content-Type-Options": "nosniff",
		"Referrer-Policy":        "no-referrer",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s: %s", part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy lets scripts inside the page run: %s", policy)
	}
}

func TestStaticCaching(t *testing.T) {
	h := static(t)
	tag := answer(h, "GET", "/app/parley.js").Header().Get("ETag")
	if tag == "" || tag == answer(h, "GET", "/app/style.css").Header().Get("ETag") {
		t.Fatalf("the tag, %q, does not tell the file apart", tag)
	}
	for _, match := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		if w := answer(h, "GET", "/app/parley.js", "If-None-Match", match); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("If-None-Match: %s: %d with %d bytes, want 304 with none", match, w.Code, w.Body.Len())
		}
	}
	if w := answer(h, "GET", "/app/parley.js", "If-None-Match", `"other"`); w.Code != http.StatusOK {
		t.Errorf("another tag: %d, want 200", w.Code)
	}
}

func TestStaticMethods(t *testing.T) {
	h := static(t)
	if w := answer(h, "HEAD", "/app/parley.js"); w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "19" {
		t.Errorf("HEAD: %d, %d bytes, Content-Length %q", w.Code, w.Body.Len(), w.Header().Get("Content-Length"))
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		if w := answer(h, method, "/"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
		if w := answer(h, method, "/missing"); w.Code != http.StatusNotFound {
			t.Errorf("%s of what is not there: %d", method, w.Code)
		}
	}
	if w := answer(h, "GET", "/app/parley.js", "Range", "bytes=0-5"); w.Code != http.StatusPartialContent || w.Body.String() != "export" {
		t.Errorf("a range: %d %q", w.Code, w.Body)
	}
}

// broken is a file system whose files cannot be read.
type broken struct{ fs.FS }

var errBroken = errors.New("broken")

func (b broken) Open(name string) (fs.File, error) {
	if strings.HasSuffix(name, ".js") {
		return nil, errBroken
	}
	return b.FS.Open(name)
}

func TestStaticOfABrokenFileSystem(t *testing.T) {
	if _, err := Static(broken{site}); !errors.Is(err, errBroken) {
		t.Errorf("got %v, want the file system's error", err)
	}
}
