package openid_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/pkg/account/openid"
	"parley/pkg/relay"
	"parley/pkg/web"
)

// Who would rather have JSON gets it.
func TestAccept(t *testing.T) {
	n := newFleet(t).node()
	for accept, json := range map[string]bool{
		"": false, "*/*": false, "text/html": false, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": false,
		"application/json": true, "application/json, */*": true, "application/json,*/*;q=0.1": true, "application/json, text/html;q=0.9": true,
		"application/json;q=0.5, text/html": false, "application/json, text/html": false, "application/json;q=0": false, "text/plain": false,
		"application/json; charset=utf-8": true, "APPLICATION/JSON": true, "application/json;q=0.5, */*": false, "garbage,,;;": false,
	} {
		b := newBrowser(t)
		b.accept = accept
		w := b.get(n.URL + openid.LoginPath + "?redirect=x")
		if w.StatusCode != http.StatusBadRequest || w.Header.Get("Vary") != "Accept" {
			t.Errorf("%q: %s, Vary %q", accept, w.Status, w.Header.Get("Vary"))
		}
		if !json {
			if !strings.HasPrefix(w.Header.Get("Content-Type"), "text/html") {
				t.Errorf("%q: %s", accept, w.Header.Get("Content-Type"))
			}
		} else if code, message := failure(t, w); code != "bad_request" || message == "" {
			t.Errorf("%q: %s %s", accept, code, message)
		}
	}
}

var style = regexp.MustCompile(`(?s)<style>(.*)</style>`)

// The page has its style by the policy, and nothing in it comes from a request.
func TestPage(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	asked := b.begin(n, `/x?"><script>alert(1)</script>`)
	w := b.get(n.URL + openid.CallbackPath + "?error=access_denied&state=" + asked.Get("state"))
	f.refused("the page", w, http.StatusForbidden, "cancelled")
	if !strings.Contains(w.body, `href="/auth/login?redirect=%2Fx%3F`) || strings.Contains(w.body, "alert(1)</script>") {
		t.Errorf("the page is\n%s", w.body)
	}
	found := style.FindStringSubmatch(w.body)
	if found == nil {
		t.Fatalf("the page has no style:\n%s", w.body)
	}
	sum := sha256.Sum256([]byte(found[1]))
	if policy := w.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") ||
		strings.Contains(policy, "unsafe") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("the policy is %s", policy)
	}
	if strings.Contains(w.body, "http://") || strings.Contains(w.body, "https://") {
		t.Errorf("the page needs something from elsewhere:\n%s", w.body)
	}
}

// What may be asked of the endpoints, and by whom.
func TestMethods(t *testing.T) {
	f := newFleet(t)
	n := f.node(func(c *openid.Config) {
		var err error
		if c.Origins, err = web.ParseOrigins("https://app.example"); err != nil {
			t.Fatal(err)
		}
	})
	if got, want := n.handler.Routes(), []string{"GET /auth/callback", "GET /auth/login", "OPTIONS /auth/callback", "OPTIONS /auth/login"}; !slices.Equal(got, want) {
		t.Errorf("the routes are %q, want %q", got, want)
	}
	do := func(method, path string, headers ...string) reply {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return newBrowser(t).do(r)
	}
	for _, path := range []string{openid.LoginPath, openid.CallbackPath} {
		for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "BREW"} {
			if w := do(method, path); w.StatusCode != http.StatusMethodNotAllowed || w.Header.Get("Allow") != "GET, OPTIONS" || w.Header.Get("Set-Cookie") != "" {
				t.Errorf("%s %s: %s, Allow %q", method, path, w.Status, w.Header.Get("Allow"))
			}
		}
		if w := do("OPTIONS", path); w.StatusCode != http.StatusNoContent || w.Header.Get("Allow") != "GET, OPTIONS" {
			t.Errorf("OPTIONS %s: %s, Allow %q", path, w.Status, w.Header.Get("Allow"))
		}
		for origin, allowed := range map[string]bool{"https://app.example": true, "https://evil.test": false} {
			w := do("OPTIONS", path, "Origin", origin, "Access-Control-Request-Method", "GET")
			if w.StatusCode != http.StatusNoContent || w.Header.Get("Allow") == "" || (w.Header.Get("Access-Control-Allow-Origin") == origin) != allowed ||
				(w.Header.Get("Access-Control-Allow-Methods") != "") != allowed {
				t.Errorf("preflight of %s: %s %v", origin, w.Status, w.Header)
			}
		}
	}
	if w := do("GET", "/auth/other"); w.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", w.Status)
	}
}

// A broken query is no sign-in.
func TestBrokenLogin(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for _, query := range []string{"redirect=//evil.test", "redirect=/a&redirect=/b", "redirect=%zz", "redirect=/%09/evil.test"} {
		f.refused(query, newBrowser(t).get(n.URL+openid.LoginPath+"?"+query), http.StatusBadRequest, "no page of this server")
	}
	if f.visits("/.well-known/openid-configuration") != 0 || len(f.store.Keys()) != 0 {
		t.Error("it costs the issuer or Redis something")
	}
}

// Without an issuer.
func TestUnset(t *testing.T) {
	h, err := openid.New(openid.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{openid.LoginPath, openid.CallbackPath} {
		w := serve(h, path, nil)
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "--oidc-issuer") || strings.Contains(w.Body.String(), "Try again") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if _, err := openid.New(openid.Config{Client: openid.Client{Issuer: "http://accounts.example.com", ID: "x"}}); err == nil {
		t.Error("an issuer that everybody can read is taken")
	}
}

// broken are identities that panic.
type broken struct{ relay.Identities }

// A panic ends in a page, without a session.
func TestPanic(t *testing.T) {
	f := newFleet(t)
	n := f.node(func(c *openid.Config) { c.Identities = broken{} })
	w := newBrowser(t).signIn(f, n, "/")
	f.refused("a panic", w, http.StatusInternalServerError, "Something went wrong here")
	if w.Header.Get("Set-Cookie") != "" || !strings.Contains(f.log.String(), "level=ERROR") || n.count(t, "internal") != 1 {
		t.Errorf("cookie %q, log:\n%s", w.Header.Get("Set-Cookie"), f.log.String())
	}
}

// Values that another version of the program has written.
func TestAttemptValues(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for change, ok := range map[string]bool{`{"more":[1],`: true, `{"verifier":"",`: true, `x{`: false, `[`: false} {
		b := newBrowser(t)
		asked := b.begin(n, "/")
		for _, key := range f.store.Keys() {
			if !strings.HasPrefix(key, "openid/login/") {
				continue
			}
			values, err := f.store.Get(t.Context(), key)
			if err != nil || values[0] == nil {
				continue
			}
			value := append([]byte(change), bytes.TrimPrefix(values[0], []byte("{"))...) // of two members the last one counts
			if err := f.store.Put(t.Context(), key, value, 1e9); err != nil {
				t.Fatal(err)
			}
		}
		w := b.get(n.URL + openid.CallbackPath + "?state=" + asked.Get("state") + "&code=" + f.code(asked))
		if ok {
			f.signedIn(w, "/")
		} else {
			f.refused(change, w, http.StatusBadRequest, "not under way")
		}
	}
}

// Who reads Redis learns neither a state nor a cookie, nor whose sign-in it is.
func TestKeysTellNothing(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	w := b.get(n.URL + openid.LoginPath)
	to, err := w.Location()
	if err != nil {
		t.Fatal(err)
	}
	state, cookie := to.Query().Get("state"), w.Cookies()[0].Value
	keys := f.store.Keys()
	if len(keys) != 2 {
		t.Errorf("keys %q, want two", keys)
	}
	for _, key := range keys {
		values, err := f.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if text := key + string(values[0]); strings.Contains(text, state) || strings.Contains(text, cookie) || strings.Contains(key, "127.0.0") {
			t.Errorf("%s tells too much", text)
		}
	}
	f.learned("the cookie", cookie)
}
