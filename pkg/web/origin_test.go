package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestOrigins(t *testing.T) {
	const host = "relay.example"
	for name, c := range map[string]struct {
		allowed, host, origin string
		ok                    bool
	}{
		"no browser":                        {"", host, "", true},
		"same host":                         {"", host, "https://relay.example", true},
		"same host, other case":             {"", "Relay.Example", "HTTPS://RELAY.EXAMPLE", true},
		"same host and port":                {"", "relay.example:8398", "http://relay.example:8398", true},
		"same host, other port":             {"", "relay.example:8398", "http://relay.example:8399", false},
		"same host, no port":                {"", "relay.example:8398", "http://relay.example", false},
		"same IPv6 host":                    {"", "[::1]:8398", "http://[::1]:8398", true},
		"other IPv6 host":                   {"", "[::1]:8398", "http://[::2]:8398", false},
		"foreign":                           {"", host, "https://elsewhere.example", false},
		"opaque":                            {"", host, "null", false},
		"opaque, and every origin may come": {"*", host, "null", true},
		"not a URL":                         {"", host, "%", false},
		"not a URL, and every origin may":   {"*", host, "%", true},
		"not a URL with the host in it":     {"relay.example", host, "https://elsewhere.example\\.relay.example", false},
		"the host as a path":                {"relay.example", host, "https://elsewhere.example/relay.example", false},
		"the host as a fragment":            {"*.example.com", host, "https://evil.test#.example.com", false},
		"the host as a query":               {"*.example.com", host, "https://evil.test?.example.com", false},
		"the host as a user":                {"", host, "https://relay.example@evil.test", false},
		"no scheme":                         {"app.example", host, "app.example", false},
		"a file":                            {"app.example", host, "file://", false},
		"allowed":                           {"app.example", host, "https://app.example", true},
		"allowed, other case":               {"App.Example", host, "https://aPP.example", true},
		"allowed among others":              {"a.test, app.example ,b.test", host, "https://app.example", true},
		"allowed, but for the port":         {"app.example", host, "https://app.example:8443", false},
		"allowed with its port":             {"app.example:8443", host, "https://app.example:8443", true},
		"allowed with any port":             {"app.example:*", host, "https://app.example:8443", true},
		"allowed with its scheme":           {"https://app.example", host, "https://app.example", true},
		"allowed, but for the scheme":       {"https://app.example", host, "http://app.example", false},
		"allowed with any scheme":           {"*://app.example", host, "http://app.example", true},
		"below":                             {"*.example.com", host, "https://a.example.com", true},
		"far below":                         {"*.example.com", host, "https://a.b.example.com", true},
		"not below":                         {"*.example.com", host, "https://example.com", false},
		"longer":                            {"*.example.com", host, "https://a.example.com.evil.test", false},
		"a wildcard inside":                 {"app-*.example.com", host, "https://app-17.example.com", true},
		"two wildcards":                     {"app-*.*.example.com", host, "https://app-17.eu.example.com", true},
		"two wildcards, one empty":          {"a*b*c", host, "https://abc", true},
		"two wildcards that overlap":        {"ab*ba", host, "https://aba", false},
		"wildcards out of order":            {"a*b*c", host, "https://acb", false},
		"an IPv6 address":                   {"[2001:db8::7]:8443", host, "https://[2001:db8::7]:8443", true},
		"one of its digits":                 {"[2001:db8::7]", host, "https://2", false},
		"no other wildcards":                {"[a-z]pp.example", host, "https://app.example", false},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := ParseOrigins(c.allowed)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "http://"+host+"/", nil)
			r.Host = c.host
			if c.origin != "" {
				r.Header.Set("Origin", c.origin)
			}
			err = o.Check(r)
			if c.ok && err != nil || !c.ok && !errors.Is(err, ErrOrigin) {
				t.Errorf("%q at host %q with %q allowed: %v, want allowed %v", c.origin, c.host, c.allowed, err, c.ok)
			}
			w := httptest.NewRecorder()
			o.Expose(w, r)
			want := ""
			if c.ok {
				want = c.origin
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("Access-Control-Allow-Origin is %q, want %q", got, want)
			}
			if got := w.Header().Get("Access-Control-Expose-Headers"); (got == exposedHeaders) != (want != "") {
				t.Errorf("Access-Control-Expose-Headers is %q", got)
			}
			if !slices.Contains(w.Header().Values("Vary"), "Origin") {
				t.Error("a cache would give the answer to another origin: no Vary")
			}
		})
	}
}

func TestParseOrigins(t *testing.T) {
	o, err := ParseOrigins(" *, ,App.Example ,https://*.example.com:8443,http://[::1]:8398,")
	if want := []string{"*", "app.example", "https://*.example.com:8443", "http://[::1]:8398"}; err != nil || !slices.Equal(o, want) {
		t.Errorf("got %q, %v, want %q", o, err, want)
	}
	for _, s := range []string{"https://app.example/", "app.example/path", "https://app.example/path", "https://", "://app.example",
		"https://user@app.example", "app example", `app\example`, "app?.example", "app.example#top", `"app.example"`} {
		if o, err := ParseOrigins("ok.example," + s); err == nil {
			t.Errorf("%q is taken as %q", s, o)
		}
	}
}

func TestSeveralOriginHeaders(t *testing.T) {
	r := httptest.NewRequest("GET", "http://relay.example/", nil)
	r.Header = http.Header{"Origin": {"https://evil.test", "https://relay.example"}}
	if err := (Origins)(nil).Check(r); !errors.Is(err, ErrOrigin) {
		t.Errorf("a second header makes up for the first: %v", err)
	}
}
