package openid_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"parley/pkg/account/openid"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/web"
)

// The first visit makes an account, the next one finds it, on whichever node.
func TestSignIn(t *testing.T) {
	relaytest.NoLeaks(t)
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	asked := b.begin(n, "/x?y=1#room=a")
	for name, want := range map[string]string{"response_type": "code", "client_id": clientID, "scope": "openid email", "tenant": "7",
		"redirect_uri": n.URL + openid.CallbackPath, "code_challenge_method": "S256"} {
		if got := asked.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(asked.Get(name)) != 43 {
			t.Errorf("%s is %q", name, asked.Get(name))
		}
	}
	w := b.back(n, url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}})
	alice := f.signedIn(w, "/x?y=1#room=a")
	if want := (relay.User{ID: 1, Username: "alice", Email: "Alice@Example.com"}); alice != want {
		t.Errorf("signed in as %+v, want %+v", alice, want)
	}
	f.change(func() {
		f.claims = func(c map[string]any) { c["email"], c["preferred_username"] = "other@example.com", "other" }
	})
	again := f.signedIn(newBrowser(t).signIn(f, f.node(), ""), "/")
	if again != alice {
		t.Errorf("the second time signed in as %+v, want %+v", again, alice)
	}
	f.change(func() { f.claims = func(c map[string]any) { c["sub"], c["email"] = "subject-2", "bob@example.com" } })
	if bob := f.signedIn(newBrowser(t).signIn(f, n, ""), "/"); bob.ID == alice.ID || !strings.HasPrefix(bob.Username, "alice-") {
		t.Errorf("somebody else with the same name is %+v", bob)
	}
	if created, ok := n.count(t, "created"), n.count(t, "ok"); created != 2 || ok != 0 {
		t.Errorf("counted: %v created, %v ok", created, ok)
	}
	for _, key := range f.store.Keys() {
		if strings.HasPrefix(key, "openid/login/") {
			t.Errorf("%s is left", key)
		}
	}
}

var loopback = web.Proxies{netip.MustParsePrefix("127.0.0.0/8")}

// What binds a sign-in to its browser.
func TestCookie(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	w := newBrowser(t).get(n.URL + openid.LoginPath)
	cookie := w.Header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "openid-") || !strings.HasSuffix(cookie, "; Path=/auth; Max-Age=600; HttpOnly; SameSite=Lax") {
		t.Errorf("the cookie is %q", cookie)
	}
	b := newBrowser(t)
	first, second := b.begin(n, "/1"), b.begin(n, "/2") // two tabs
	if first.Get("state") == second.Get("state") || first.Get("nonce") == second.Get("nonce") || first.Get("code_challenge") == second.Get("code_challenge") {
		t.Error("two sign-ins share a secret")
	}
	f.refused("another browser", newBrowser(t).back(n, url.Values{"state": {first.Get("state")}, "code": {f.code(first)}}), http.StatusBadRequest, "not under way")
	f.signedIn(b.back(n, url.Values{"state": {second.Get("state")}, "code": {f.code(second)}}), "/2")
	end := b.back(n, url.Values{"state": {first.Get("state")}, "code": {f.code(first)}})
	f.signedIn(end, "/1")
	if cookie := end.Header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "openid-") || !strings.Contains(cookie, "=; Path=/auth; Max-Age=0;") {
		t.Errorf("the cookie stays: %q", cookie)
	}
}

// A browser has at most ten sign-ins under way: the eleventh has the first forgotten.
func TestTabs(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	var tabs []url.Values
	for range 11 {
		tabs = append(tabs, b.begin(n, "/"))
	}
	address, _ := url.Parse(n.URL + openid.CallbackPath)
	if left := len(b.jar.Cookies(address)); left != 10 {
		t.Errorf("the browser has %d cookies, want 10", left)
	}
	f.signedIn(b.back(n, url.Values{"state": {tabs[10].Get("state")}, "code": {f.code(tabs[10])}}), "/")
}

// Behind a proxy that speaks TLS, cookies go by TLS alone, and the issuer is told so.
func TestTLS(t *testing.T) {
	f := newFleet(t)
	n := f.node(func(c *openid.Config) { c.Proxies = loopback })
	r, _ := http.NewRequest(http.MethodGet, n.URL+openid.LoginPath, nil)
	r.Host = "parley.example"
	r.Header.Set("X-Forwarded-Proto", "https")
	w := newBrowser(t).do(r)
	to, err := w.Location()
	if err != nil || to.Query().Get("redirect_uri") != "https://parley.example/auth/callback" || !strings.Contains(w.Header.Get("Set-Cookie"), "; Secure;") {
		t.Errorf("to %v with the cookie %q, %v", to, w.Header.Get("Set-Cookie"), err)
	}
}

// With a public URL the issuer is told that one, and a browser that has come by another
// name goes there first, once.
func TestPublicURL(t *testing.T) {
	f := newFleet(t)
	n := f.node(func(c *openid.Config) { c.PublicURL = "https://parley.example" })
	get := func(host, query string) *url.URL {
		t.Helper()
		r, _ := http.NewRequest(http.MethodGet, n.URL+openid.LoginPath+query, nil)
		r.Host = host
		to, err := newBrowser(t).do(r).Location()
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	if to := get("10.0.0.1:8398", "?redirect=/x").String(); to != "https://parley.example/auth/login?moved=1&redirect=%2Fx" {
		t.Errorf("from another name to %s", to)
	}
	for host, query := range map[string]string{"Parley.Example:8443": "?redirect=/x", "10.0.0.1:8398": "?moved=1&redirect=%2Fx"} {
		if to := get(host, query); to.Path != "/authorize" || to.Query().Get("redirect_uri") != "https://parley.example/auth/callback" {
			t.Errorf("from %s to %s", host, to)
		}
	}
}

// A host that is none goes to no issuer.
func TestHost(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for _, host := range []string{"parley.example:x", "a@b", "parley.example/path", ":80", ""} {
		r := httptest.NewRequest(http.MethodGet, openid.LoginPath, nil)
		r.Host = host
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest {
			t.Errorf("host %q: %d, to %q", host, w.Code, w.Header().Get("Location"))
		}
	}
}

// However the issuer wants its client to prove itself, and whatever it says of that.
func TestClientAuthentication(t *testing.T) {
	for name, c := range map[string]struct {
		methods []string
		takes   string
		secret  string
		tries   int // requests for two sign-ins
	}{
		"basic":                        {[]string{"client_secret_basic"}, "client_secret_basic", clientSecret, 2},
		"nothing said":                 {nil, "client_secret_basic", clientSecret, 2},
		"post":                         {[]string{"client_secret_post", "private_key_jwt"}, "client_secret_post", clientSecret, 2},
		"both, basic":                  {[]string{"client_secret_post", "client_secret_basic"}, "client_secret_basic", clientSecret, 2},
		"both, post":                   {[]string{"client_secret_post", "client_secret_basic"}, "client_secret_post", clientSecret, 3},
		"public":                       {[]string{"none"}, "none", "", 2},
		"public, of those with secret": {[]string{"client_secret_basic"}, "none", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			f.change(func() { f.methods, f.takes = c.methods, c.takes })
			n := f.node(func(o *openid.Config) { o.Secret = c.secret })
			for range 2 {
				f.signedIn(newBrowser(t).signIn(f, n, "/"), "/")
			}
			if got := f.visits("/token"); got != c.tries {
				t.Errorf("the token endpoint was asked %d times, want %d", got, c.tries)
			}
		})
	}
}

// Whatever it signs with; and when it takes another key, it is asked for that.
func TestKeys(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for i, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA} {
		if i > 0 {
			f.use(algorithm, string(algorithm))
		}
		for range 2 {
			f.signedIn(newBrowser(t).signIn(f, n, "/"), "/")
		}
		if got := f.visits("/keys"); got != i+1 {
			t.Errorf("%s: the keys were asked for %d times, want %d", algorithm, got, i+1)
		}
	}
	if got := f.visits("/.well-known/openid-configuration"); got != 1 {
		t.Errorf("the issuer was asked %d times what it is, want once", got)
	}
}

// An email that the ID token does not tell is asked for; with an account it does not
// matter.
func TestUserinfo(t *testing.T) {
	f := newFleet(t)
	f.change(func() {
		f.claims = func(c map[string]any) {
			delete(c, "email")
			delete(c, "preferred_username")
			c["name"] = []string{"no text"}
		}
		f.userinfo = map[string]any{"sub": "subject-1", "email": "carol@example.com", "name": "Carol", "email_verified": false}
	})
	n := f.node()
	u := f.signedIn(newBrowser(t).signIn(f, n, "/"), "/")
	if u.Username != "Carol" || u.Email != "carol@example.com" {
		t.Errorf("signed in as %+v", u)
	}
	f.change(func() { f.userinfo = nil })
	if again := f.signedIn(newBrowser(t).signIn(f, n, "/"), "/"); again != u || f.visits("/userinfo") != 1 {
		t.Errorf("signed in as %+v, and userinfo was asked %d times", again, f.visits("/userinfo"))
	}
}

// An account that another tab, or another node, has just made is found.
func TestIdentityTaken(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	f.identities.before = func() {
		f.identities.before = nil // else it would come here again
		other := relay.User{Username: "made elsewhere", Email: "alice@example.com"}
		if _, err := f.identities.CreateWithIdentity(t.Context(), other, f.URL, "subject-1"); err != nil {
			t.Error(err)
		}
	}
	if u := f.signedIn(newBrowser(t).signIn(f, n, "/"), "/"); u.Username != "made elsewhere" {
		t.Errorf("signed in as %+v", u)
	}
}

// What the audience may be.
func TestAudience(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	for _, change := range []func(map[string]any){
		func(c map[string]any) { c["aud"] = []string{clientID} },
		func(c map[string]any) { c["aud"], c["azp"] = []string{"another", clientID}, clientID },
		func(c map[string]any) { c["azp"] = clientID },
	} {
		f.change(func() { f.claims = change })
		f.signedIn(newBrowser(t).signIn(f, n, "/"), "/")
	}
}

// One who signs in twenty times at once, on two nodes, has one account.
func TestSeveralAtOnce(t *testing.T) {
	relaytest.NoLeaks(t)
	f := newFleet(t)
	nodes := []*node{f.node(), f.node()}
	var wg sync.WaitGroup
	for i := range 20 {
		b := newBrowser(t)
		asked := b.begin(nodes[i%2], "/")
		wg.Go(func() {
			w := b.back(nodes[(i+1)%2], url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}})
			if w.StatusCode != http.StatusSeeOther || w.sid() == "" {
				t.Errorf("%s %s", w.Status, w.body)
			}
		})
	}
	wg.Wait()
	if names := len(f.identities.names); names == 0 {
		t.Error("no account was made")
	}
	if _, err := f.identities.ByID(t.Context(), 2); err == nil {
		t.Error("one subject has two accounts")
	}
}
