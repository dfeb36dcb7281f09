package openid

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
)

func TestCheckedRedirect(t *testing.T) {
	for s, want := range map[string]string{
		"": "/", "/": "/", "/x": "/x", "/x/y?z=https://a.test//b#c": "/x/y?z=https://a.test//b#c", "/#room=a": "/#room=a",
		"/x y": "/x%20y", "/é": "/%C3%A9", "/a%2fb": "/a%2fb", "/x:80": "/x:80", "/?": "/?", "/authors": "/authors", "/%25": "/%25",
		"/.well-known": "/.well-known", "/@evil.test": "/@evil.test",
		"/" + strings.Repeat("x", maxRedirect-1): "/" + strings.Repeat("x", maxRedirect-1),
	} {
		if got, ok := checkedRedirect(s); !ok || got != want {
			t.Errorf("%.60q is taken as %.60q, %v, want %.60q", s, got, ok, want)
		}
	}
	for _, s := range []string{
		"x", "?x", "#x", " /x", "https://evil.test", "https:evil.test", "https:/evil.test", "javascript:alert(1)", "data:text/html,x", "mailto:a@b",
		"//evil.test", "///evil.test", `/\evil.test`, `\\evil.test`, `\/evil.test`, "/\t/evil.test", "/\n/evil.test", "/\r\nSet-Cookie: x", "\t//evil.test", "/x\x00", "/x\x7f", "/\u0085x",
		"/%2f%2fevil.test", "/%2fevil.test", "/%5cevil.test", "/%09/evil.test", "/%0d%0ax", "/%252f%252fevil.test", "/%25252fevil.test", "/%255c", "/%00",
		"/x//evil.test", "/./", "/..//evil.test", "/../x", "/x/..//evil.test", "/%2e%2e//evil.test", "/%2e/x", "/%2e%2e/x", "/x/%2E",
		"/auth", "/auth/", "/auth/login", "/auth/callback?state=x", "/%61uth/login", "/%2561uth/login", "/\xff", "/%zz", "/%", "/x?y\\z",
		"/" + strings.Repeat("x", maxRedirect),
	} {
		if got, ok := checkedRedirect(s); ok {
			t.Errorf("%.60q is taken as %.60q", s, got)
		}
	}
}

// Whatever is taken stays on this origin, for a browser that knows the rules and for one
// that does not.
func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"/x?y#z", "//evil.test", `/\evil.test`, "/%2f%2fevil.test", "/\t/evil.test", "https:evil.test", "/x/..//y", "/a%2fb", "/%25"} {
		f.Add(s)
	}
	base, err := url.Parse("https://parley.example/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := checkedRedirect(s)
		if !ok {
			return
		}
		u, err := base.Parse(got)
		if err != nil || u.Scheme != "https" || u.Host != "parley.example" || u.User != nil {
			t.Fatalf("%q leads to %v, %v", got, u, err)
		}
		if !strings.HasPrefix(got, "/") || strings.HasPrefix(got, "//") || strings.Contains(got, `\`) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q becomes %q", s, got)
		}
		if again, ok := checkedRedirect(got); len(got) <= maxRedirect && (!ok || again != got) {
			t.Fatalf("%q becomes %q, and that %q, %v", s, got, again, ok)
		}
	})
}
