package openid_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"parley/pkg/account/openid"
	"parley/pkg/relay"
)

// Whatever is wrong with what the issuer answers ends in a page, and in no session.
func TestWrongAnswers(t *testing.T) {
	claim := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.claims = func(c map[string]any) { c[name] = value } }
	}
	tokens := func(status int, kind, body string) func(*issuer) {
		return func(i *issuer) {
			i.token = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				_, _ = w.Write([]byte(body))
				return true
			}
		}
	}
	other := func(path string, do func(http.ResponseWriter, *http.Request)) func(*issuer) {
		return func(i *issuer) { i.other = map[string]func(http.ResponseWriter, *http.Request){path: do} }
	}
	const (
		invalid = "does not prove who you are"
		away    = "does not answer"
		setUp   = "not set up right"
	)
	for name, c := range map[string]struct {
		wrong  func(*issuer)
		status int
		text   string
		result string
	}{
		"another nonce":              {claim("nonce", "other"), 401, invalid, "invalid"},
		"no nonce":                   {claim("nonce", nil), 401, invalid, "invalid"},
		"another issuer":             {claim("iss", "https://evil.test"), 401, invalid, "invalid"},
		"another audience":           {claim("aud", "other"), 401, invalid, "invalid"},
		"no audience":                {claim("aud", nil), 401, invalid, "invalid"},
		"two audiences, no party":    {claim("aud", []string{clientID, "other"}), 401, invalid, "invalid"},
		"another party":              {claim("azp", "other"), 401, invalid, "invalid"},
		"expired":                    {claim("exp", time.Now().Add(-time.Second).Unix()), 401, invalid, "invalid"},
		"no expiry":                  {claim("exp", nil), 401, invalid, "invalid"},
		"not yet valid":              {claim("nbf", time.Now().Add(time.Hour).Unix()), 401, invalid, "invalid"},
		"no subject":                 {claim("sub", nil), 401, invalid, "invalid"},
		"an empty subject":           {claim("sub", ""), 401, invalid, "invalid"},
		"a long subject":             {claim("sub", strings.Repeat("x", 256)), 401, invalid, "invalid"},
		"a subject that is no text":  {claim("sub", 7), 401, invalid, "invalid"},
		"no email":                   {claim("email", nil), 403, "address is missing", "no_email"},
		"an email that is no text":   {claim("email", 7), 403, "address is missing", "no_email"},
		"an email that is none":      {claim("email", "nobody"), 403, "does not fit", "no_email"},
		"a long email":               {claim("email", strings.Repeat("x", 90)+"@example.com"), 403, "does not fit", "no_email"},
		"an email with a line break": {claim("email", "a\n@example.com"), 403, "does not fit", "no_email"},
		"another key": {func(i *issuer) {
			i.sign = func(payload []byte) string { return signWith(jose.RS256, rsaKey(), "second", payload) }
		}, 401, invalid, "invalid"},
		"another key by the same name": {func(i *issuer) {
			i.sign = func(payload []byte) string { return signWith(jose.ES256, ecdsaKey(), "first", payload) }
		}, 401, invalid, "invalid"},
		"no keys in the set": {func(i *issuer) { i.published = nil }, 401, invalid, "invalid"},
		"no signature": {func(i *issuer) {
			i.sign = func(payload []byte) string { return encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "." }
		}, 401, invalid, "invalid"},
		"a signature by the secret": {func(i *issuer) {
			i.sign = func(payload []byte) string {
				return signWith(jose.HS256, []byte(strings.Repeat(clientSecret, 2)), "first", payload)
			}
		}, 401, invalid, "invalid"},
		"a changed payload": {func(i *issuer) {
			i.sign = func(payload []byte) string {
				parts := strings.Split(i.signed(payload), ".")
				return parts[0] + "." + encode([]byte(strings.Replace(string(payload), "subject-1", "subject-2", 1))) + "." + parts[2]
			}
		}, 401, invalid, "invalid"},
		"no ID token":              {tokens(200, "application/json", `{"access_token":"x","token_type":"Bearer"}`), 401, invalid, "invalid"},
		"an ID token that is none": {tokens(200, "application/json", `{"access_token":"x","token_type":"Bearer","id_token":"x.y.z"}`), 401, invalid, "invalid"},
		"no tokens":                {tokens(200, "application/json", `{}`), 401, invalid, "invalid"},
		"no JSON":                  {tokens(200, "text/html", "<h1>hello"), 401, invalid, "invalid"},
		"an error with status 200": {tokens(200, "application/json", `{"error":"invalid_grant"}`), 401, invalid, "invalid"},
		"a refused code":           {tokens(400, "application/json", `{"error":"invalid_grant"}`), 401, invalid, "invalid"},
		"a refused client":         {tokens(401, "application/json", `{"error":"invalid_client"}`), 503, setUp, "invalid"},
		"a refused request":        {tokens(400, "application/json", `{"error":"unsupported_grant_type"}`), 503, setUp, "invalid"},
		"a broken token endpoint":  {tokens(500, "text/plain", "oops"), 503, away, "unavailable"},
		"a redirect of the token endpoint": {func(i *issuer) {
			i.token = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, i.URL+"/elsewhere", http.StatusTemporaryRedirect)
				return true
			}
		}, 503, setUp, "invalid"},
		"an endless token": {func(i *issuer) {
			i.token = func(w http.ResponseWriter, _ *http.Request) bool { endless(w, `{"access_token":"`); return true }
		}, 401, invalid, "invalid"},
		"a token endpoint that hangs up": {other("/token", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), 503, away, "unavailable"},
		"no keys":                        {other("/keys", http.NotFound), 503, away, "unavailable"},
		"keys that are none":             {other("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }), 503, away, "unavailable"},
		"endless keys":                   {other("/keys", func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"keys":["`) }), 503, away, "unavailable"},
		"userinfo of another": {func(i *issuer) {
			i.claims = func(c map[string]any) { delete(c, "email") }
			i.userinfo = map[string]any{"sub": "subject-2", "email": "carol@example.com"}
		}, 401, invalid, "invalid"},
		"no email in userinfo": {func(i *issuer) {
			i.claims = func(c map[string]any) { delete(c, "email") }
			i.userinfo = map[string]any{"sub": "subject-1"}
		}, 403, "address is missing", "no_email"},
		"userinfo that quotes the token": {func(i *issuer) {
			i.claims = func(c map[string]any) { delete(c, "email") }
			i.userinfo = map[string]any{}
			i.other = map[string]func(http.ResponseWriter, *http.Request){"/userinfo": func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, "what is this? "+r.Header.Get("Authorization"), http.StatusUnauthorized)
			}}
		}, 503, away, "unavailable"},
		"no userinfo": {func(i *issuer) {
			i.claims = func(c map[string]any) { delete(c, "email") }
			i.userinfo = map[string]any{}
			i.other = map[string]func(http.ResponseWriter, *http.Request){"/userinfo": http.NotFound}
		}, 503, away, "unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			n := f.node()
			f.change(func() { c.wrong(f.issuer) })
			b := newBrowser(t)
			asked := b.begin(n, "/x")
			w := b.back(n, url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}})
			f.refused(name, w, c.status, c.text)
			if !strings.Contains(w.body, `href="/auth/login?redirect=%2Fx"`) {
				t.Errorf("no way to try again:\n%s", w.body)
			}
			if got := n.count(t, c.result); got != 1 {
				t.Errorf("%v are counted as %s, want 1", got, c.result)
			}
			if (w.Header.Get("Retry-After") != "") != (c.status == 503) || (w.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
				t.Errorf("headers: %v", w.Header)
			}
			if names := f.identities.names; len(names) > 0 {
				t.Errorf("accounts were made: %q", names)
			}
			again := b.back(n, url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}})
			f.refused("once more", again, http.StatusBadRequest, "not under way")
		})
	}
}

// What the issuer may say of itself.
func TestWrongMetadata(t *testing.T) {
	set := func(name string, value any) func(*issuer) {
		return func(i *issuer) { i.metadata = func(m map[string]any) { m[name] = value } }
	}
	answer := func(do func(http.ResponseWriter, *http.Request)) func(*issuer) {
		return func(i *issuer) {
			i.other = map[string]func(http.ResponseWriter, *http.Request){"/.well-known/openid-configuration": do}
		}
	}
	for name, c := range map[string]struct {
		wrong func(*issuer)
		text  string
	}{
		"another name":              {set("issuer", "https://evil.test"), "not set up right"},
		"its name with a slash":     {func(i *issuer) { i.metadata = func(m map[string]any) { m["issuer"] = i.URL + "/" } }, "not set up right"},
		"no endpoint":               {set("authorization_endpoint", ""), "not set up right"},
		"a script":                  {set("authorization_endpoint", "javascript:alert(1)"), "not set up right"},
		"a token endpoint to read":  {set("token_endpoint", "http://token.test/"), "not set up right"},
		"keys to read":              {set("jwks_uri", "http://keys.test/"), "not set up right"},
		"keys in a file":            {set("jwks_uri", "file:///etc/passwd"), "not set up right"},
		"userinfo to read":          {set("userinfo_endpoint", "http://userinfo.test/"), "not set up right"},
		"no way to show the secret": {set("token_endpoint_auth_methods_supported", []string{"private_key_jwt"}), "not set up right"},
		"methods that are no list":  {set("token_endpoint_auth_methods_supported", "client_secret_basic"), "not set up right"},
		"nothing":                   {answer(http.NotFound), "does not answer"},
		"no JSON":                   {answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), "does not answer"},
		"too much":                  {answer(func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"issuer":"`) }), "does not answer"},
		"elsewhere":                 {answer(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) }), "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.change(func() { c.wrong(f.issuer) })
			n := f.node()
			w := newBrowser(t).get(n.URL + openid.LoginPath)
			f.refused(name, w, http.StatusServiceUnavailable, c.text)
			if w.Header.Get("Retry-After") == "" || w.Header.Get("Set-Cookie") != "" {
				t.Errorf("headers: %v", w.Header)
			}
		})
	}
}

// An issuer whose answers to browsers name it has to be named in each.
func TestIssuerOfAnswers(t *testing.T) {
	for _, c := range []struct {
		names, wrong bool
		iss          func(*fleet) []string
	}{
		{false, false, func(*fleet) []string { return nil }},
		{false, false, func(f *fleet) []string { return []string{f.URL} }},
		{false, true, func(*fleet) []string { return []string{"https://evil.test"} }},
		{true, false, func(f *fleet) []string { return []string{f.URL} }},
		{true, true, func(*fleet) []string { return nil }},
		{true, true, func(f *fleet) []string { return []string{f.URL + "/"} }},
	} {
		f := newFleet(t)
		f.change(func() {
			f.metadata = func(m map[string]any) { m["authorization_response_iss_parameter_supported"] = c.names }
		})
		n := f.node()
		b := newBrowser(t)
		asked := b.begin(n, "/")
		w := b.back(n, url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}, "iss": c.iss(f)})
		if c.wrong {
			f.refused("another issuer", w, http.StatusUnauthorized, "does not prove")
			if f.visits("/token") != 0 {
				t.Error("the code of another issuer was sent to this one")
			}
		} else {
			f.signedIn(w, "/")
		}
	}
}

// The issuer says no.
func TestRefusals(t *testing.T) {
	for code, c := range map[string]struct {
		status int
		text   string
		result string
	}{
		"access_denied":             {403, "cancelled, or refused", "refused"},
		"login_required":            {403, "cancelled, or refused", "refused"},
		"interaction_required":      {403, "cancelled, or refused", "refused"},
		"temporarily_unavailable":   {503, "does not answer", "unavailable"},
		"server_error":              {503, "does not answer", "unavailable"},
		"invalid_scope":             {503, "not set up right", "invalid"},
		"unauthorized_client":       {503, "not set up right", "invalid"},
		"<script>alert(1)</script>": {503, "not set up right", "invalid"},
		"":                          {503, "not set up right", "invalid"},
	} {
		f := newFleet(t)
		n := f.node()
		b := newBrowser(t)
		asked := b.begin(n, "/")
		query := url.Values{"state": {asked.Get("state")}, "error": {code}, "error_description": {"<b>alice@example.com"}}
		w := b.back(n, query)
		f.refused(code, w, c.status, c.text)
		if strings.Contains(w.body, "alert") || strings.Contains(w.body, "alice") {
			t.Errorf("the page shows what came with the request:\n%s", w.body)
		}
		if n.count(t, c.result) != 1 {
			t.Errorf("%s is not counted as %s", code, c.result)
		}
		f.refused("once more", b.back(n, query), http.StatusBadRequest, "not under way")
	}
}

// What is no sign-in that is under way in this browser.
func TestUnknownState(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	asked := b.begin(n, "/")
	state, code := asked.Get("state"), f.code(asked)
	for name, query := range map[string]url.Values{
		"nothing":         {},
		"no state":        {"code": {code}},
		"another state":   {"state": {strings.Repeat("A", 43)}, "code": {code}},
		"a broken state":  {"state": {state[:42]}, "code": {code}},
		"a long state":    {"state": {strings.Repeat("A", 5000)}, "code": {code}},
		"two states":      {"state": {state, state}, "code": {code}},
		"two codes":       {"state": {state}, "code": {code, code}},
		"an error, alone": {"error": {"access_denied"}},
		"markup":          {"state": {"<script>"}, "error": {"<script>"}},
	} {
		f.refused(name, b.back(n, query), http.StatusBadRequest, "not under way")
	}
	f.refused("a broken query", b.get(n.URL+openid.CallbackPath+"?state="+state+"&code=%zz"), http.StatusBadRequest, "not under way")
	if f.visits("/token") != 0 {
		t.Error("the issuer was asked")
	}
	w := b.back(n, url.Values{"state": {state}})
	f.refused("no code", w, http.StatusUnauthorized, "does not prove")

	asked = b.begin(n, "/")
	query := url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}}
	f.signedIn(b.back(n, query), "/")
	f.refused("a second time", b.back(n, query), http.StatusBadRequest, "not under way")
	if got := n.count(t, "unknown"); got != 11 {
		t.Errorf("%v are counted as unknown, want 11", got)
	}
}

// Somebody may take ten minutes at the issuer, and no longer.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t}
		h, err := openid.New(openid.Config{Client: openid.Client{Issuer: "http://localhost", ID: clientID}, Transport: metadataOnly{},
			Identities: &f.identities, Values: &f.store, Meter: &f.store})
		if err != nil {
			t.Fatal(err)
		}
		for after, want := range map[time.Duration]int{10*time.Minute - time.Second: http.StatusForbidden, 10 * time.Minute: http.StatusBadRequest} {
			w := serve(h, openid.LoginPath, nil)
			to, err := url.Parse(w.Header().Get("Location"))
			if err != nil || w.Code != http.StatusSeeOther {
				t.Fatalf("%d %v", w.Code, err)
			}
			time.Sleep(after)
			w = serve(h, openid.CallbackPath+"?error=access_denied&state="+to.Query().Get("state"), w.Result().Cookies())
			if w.Code != want {
				t.Errorf("after %v: %d, want %d", after, w.Code, want)
			}
		}
	})
}

// At most sixty sign-ins are under way from one address, or one IPv6 network.
func TestTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t}
		h, err := openid.New(openid.Config{Client: openid.Client{Issuer: "http://localhost", ID: clientID}, Transport: metadataOnly{},
			Identities: &f.identities, Values: &f.store, Meter: &f.store})
		if err != nil {
			t.Fatal(err)
		}
		begin := func(address string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, openid.LoginPath, nil)
			r.RemoteAddr = address
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		for range 60 {
			if w := begin("[2001:db8::1]:1"); w.Code != http.StatusSeeOther {
				t.Fatal(w.Code)
			}
		}
		w := begin("[2001:db8::2]:1")
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "600" || !strings.Contains(w.Body.String(), "Too many") {
			t.Errorf("%d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
		}
		if w := begin("[2001:db8:0:1::1]:1"); w.Code != http.StatusSeeOther {
			t.Errorf("another network: %d", w.Code)
		}
		time.Sleep(10 * time.Minute)
		if w := begin("[2001:db8::1]:1"); w.Code != http.StatusSeeOther {
			t.Errorf("ten minutes later: %d", w.Code)
		}
	})
}

// What has ended well does not count any more.
func TestEndedDoesNotCount(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for range 61 {
		f.signedIn(newBrowser(t).signIn(f, n, "/"), "/")
	}
}

// metadataOnly is an issuer that says what it is, and nothing else.
type metadataOnly struct{}

func (metadataOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	_ = json.NewEncoder(w).Encode(map[string]string{"issuer": "http://localhost", "authorization_endpoint": "http://localhost/a",
		"token_endpoint": "http://localhost/t", "jwks_uri": "http://localhost/k"})
	return w.Result(), nil
}

// serve gives a handler one request.
func serve(h http.Handler, target string, cookies []*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// An account that has the email already stays whose it is.
func TestEmailTaken(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	if _, err := f.identities.Create(t.Context(), relay.User{Username: "mallory", Email: "alice@example.com"}, "a password"); err != nil {
		t.Fatal(err)
	}
	f.refused("an email that is taken", newBrowser(t).signIn(f, n, "/"), http.StatusConflict, "Sign in to it with its password")
	b := newBrowser(t)
	b.accept = "application/json"
	if code, message := failure(t, b.signIn(f, n, "/")); code != "email_taken" || !strings.Contains(message, "password") {
		t.Errorf("%s: %s", code, message)
	}
	if got := n.count(t, "email_taken"); got != 2 {
		t.Errorf("%v are counted, want 2", got)
	}
}

// Usernames are tried eight times.
func TestNoUsername(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	f.identities.refuse = relay.ErrUsernameTaken
	f.refused("no username", newBrowser(t).signIn(f, n, "/"), http.StatusServiceUnavailable, "not possible right now")
	if got := len(f.identities.names); got != 8 {
		t.Errorf("%d names were tried, want 8: %q", got, f.identities.names)
	}
}

// Redis or the database is away.
func TestAway(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	first, second := b.begin(n, "/"), b.begin(n, "/")
	f.store.Fail(errDown)
	f.refused("login without Redis", b.get(n.URL+openid.LoginPath), http.StatusServiceUnavailable, "not possible right now")
	query := url.Values{"state": {first.Get("state")}, "code": {f.code(first)}}
	f.refused("callback without Redis", b.back(n, query), http.StatusServiceUnavailable, "not possible right now")
	f.store.Fail(nil)
	f.signedIn(b.back(n, query), "/")
	f.identities.Fail(errDown)
	query = url.Values{"state": {second.Get("state")}, "code": {f.code(second)}}
	f.refused("callback without database", b.back(n, query), http.StatusServiceUnavailable, "not possible right now")
}
