package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// asked is a browser's question for a page of an origin.
func asked(origin, method string) *http.Request {
	r := httptest.NewRequest(http.MethodOptions, "http://relay.example/x", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	if method != "" {
		r.Header.Set("Access-Control-Request-Method", method)
	}
	return r
}

func TestPreflight(t *testing.T) {
	if !Preflight(asked("https://app.example", "DELETE")) {
		t.Error("a browser's question is not known as one")
	}
	get := asked("https://app.example", "DELETE")
	get.Method = http.MethodGet
	for name, r := range map[string]*http.Request{
		"no origin": asked("", "DELETE"), "no method": asked("https://app.example", ""), "a GET": get,
	} {
		if Preflight(r) {
			t.Errorf("%s: taken for a browser's question", name)
		}
	}
}

func TestAnswerPreflight(t *testing.T) {
	o, err := ParseOrigins("app.example")
	if err != nil {
		t.Fatal(err)
	}
	r, w := asked("https://app.example", "DELETE"), httptest.NewRecorder()
	o.Expose(w, r)
	if err := o.AnswerPreflight(w, r, http.MethodGet, http.MethodDelete); err != nil {
		t.Fatal(err)
	}
	if w.Code != http.StatusNoContent || w.Body.Len() != 0 {
		t.Errorf("%d with %d bytes, want 204 with none", w.Code, w.Body.Len())
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      "https://app.example",
		"Access-Control-Allow-Methods":     "GET, DELETE",
		"Access-Control-Allow-Headers":     "Authorization, Content-Type, Idempotency-Key, If-None-Match",
		"Access-Control-Max-Age":           "600",
		"Access-Control-Allow-Credentials": "",
		"Vary":                             "Origin",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestAnswerPreflightOfForeignOrigin(t *testing.T) {
	r, w := asked("https://evil.test", "DELETE"), httptest.NewRecorder()
	if err := (Origins{"app.example"}).AnswerPreflight(w, r, http.MethodDelete); !errors.Is(err, ErrOrigin) {
		t.Errorf("got %v, want %v", err, ErrOrigin)
	}
	if len(w.Header()) != 0 || w.Body.Len() != 0 {
		t.Errorf("something was written: %v %q", w.Header(), w.Body)
	}
}

func TestExpose(t *testing.T) {
	for name, c := range map[string]struct {
		allowed, origin  string
		readable, cookie bool
	}{
		"no browser":                          {"app.example", "", false, false},
		"foreign":                             {"app.example", "https://evil.test", false, false},
		"foreign, none allowed":               {"", "https://evil.test", false, false},
		"named":                               {"app.example", "https://app.example", true, true},
		"named with its scheme":               {"https://app.example", "https://app.example", true, true},
		"below a name":                        {"*.example", "https://app.example", true, true},
		"all are allowed":                     {"*", "https://app.example", true, false},
		"all are allowed, in other words":     {"**", "https://app.example", true, false},
		"all with a dot are allowed":          {"*.*", "https://app.example", true, false},
		"all of a port are allowed":           {"*:8443", "https://app.example:8443", true, false},
		"an IPv6 address":                     {"[2001:db8::7]", "https://[2001:db8::7]", true, true},
		"all of a scheme are allowed":         {"https://*", "https://app.example", true, false},
		"all are allowed, and this one named": {"*,app.example", "https://app.example", true, true},
		"all are allowed, and another named":  {"other.example,*", "https://app.example", true, false},
		"opaque":                              {"app.example", "null", false, false},
		"opaque, and all are allowed":         {"*", "null", true, false},
		"of this host":                        {"", "https://relay.example", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := ParseOrigins(c.allowed)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", "http://relay.example/", nil)
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			plain, cookies := httptest.NewRecorder(), httptest.NewRecorder()
			o.Expose(plain, r)
			o.ExposeWithCookies(cookies, r)
			for _, w := range []*httptest.ResponseRecorder{plain, cookies} {
				want := ""
				if c.readable {
					want = c.origin
				}
				if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("Access-Control-Allow-Origin is %q, want %q", got, want)
				}
				if !slices.Contains(w.Header().Values("Vary"), "Origin") {
					t.Error("a cache would give the answer to another origin: no Vary")
				}
			}
			if got := plain.Header().Get("Access-Control-Allow-Credentials"); got != "" {
				t.Errorf("cookies were not asked for, and Access-Control-Allow-Credentials is %q", got)
			}
			if got := cookies.Header().Get("Access-Control-Allow-Credentials"); (got == "true") != c.cookie {
				t.Errorf("Access-Control-Allow-Credentials is %q, want cookies allowed %v", got, c.cookie)
			}
		})
	}
}
