package node

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// startIssuer runs an OpenID Connect issuer until the test ends. It believes everybody: a
// code is what the ID token is to say, in JSON.
func startIssuer(t *testing.T, clientID string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the node may have gone
	}
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token", "jwks_uri": s.URL + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"EdDSA"},
			"code_challenge_methods_supported": []string{"S256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "one", Algorithm: "EdDSA", Use: "sig"}}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		claims := map[string]any{"iss": s.URL, "aud": clientID, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
		var more map[string]any
		if json.Unmarshal([]byte(r.FormValue("code")), &more) != nil {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		maps.Copy(claims, more)
		payload, _ := json.Marshal(claims)
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Error(err)
			return
		}
		token, _ := signed.CompactSerialize()
		answer(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": token})
	})
	return s.URL
}

// logins sign in by a browser, and fail to.
func (c *contract) logins(t *testing.T) {
	const id = "fleet"
	n := startNode(t, "--oidc-issuer="+startIssuer(t, id), "--oidc-client-id="+id, "--allowed-origins=app.example")
	ready(t, n)
	signUp(t, n.addr, "alice")
	// begin starts a sign-in, and returns what the browser has then.
	begin := func() (cookie, state, nonce string) {
		a := c.want(t, 303, n, "startLogin", "", query("redirect="+url.QueryEscape("/#people")))
		to, err := url.Parse(a.Header.Get("Location"))
		if err != nil || len(a.Cookies()) != 1 {
			t.Fatalf("%v: %v", err, a.Header)
		}
		return a.Cookies()[0].Name + "=" + a.Cookies()[0].Value, to.Query().Get("state"), to.Query().Get("nonce")
	}
	back := func(status int, claims string, more ...edit) *answer {
		cookie, state, nonce := begin()
		code := url.QueryEscape(fmt.Sprintf(`{"nonce":%q,%s}`, nonce, claims))
		edits := append([]edit{header("Cookie", cookie), query("state=" + state + "&code=" + code)}, more...)
		return c.want(t, status, n, "finishLogin", "", edits...)
	}
	bob := `"sub":"bob","email":"robert@example.com","email_verified":true,"preferred_username":"robert"`
	if a := back(303, bob); a.Header.Get("Location") != "/#people" {
		t.Errorf("the browser goes to %q", a.Header.Get("Location"))
	}
	wantsJSON := header("Accept", "application/json")
	for _, more := range [][]edit{nil, {wantsJSON}} {
		back(401, `"nonce":"another"`, more...)
		back(409, `"sub":"alice","email":"alice@example.com","email_verified":true,"preferred_username":"alice"`, more...)
		c.want(t, 400, n, "finishLogin", "", append(more, query("state=x&code=y"))...)
		c.want(t, 400, n, "finishLogin", "", append(more, query("%zz"))...)
		for _, wrong := range []string{"redirect=" + url.QueryEscape("https://evil.test/"), "redirect=//evil.test", "redirect=%5C%5Cevil.test", "redirect=x", "redirect=/&redirect=/", "%zz"} {
			c.want(t, 400, n, "startLogin", "", append(more, query(wrong))...)
		}
		cookie, state, _ := begin()
		c.want(t, 403, n, "finishLogin", "", append(more, header("Cookie", cookie), query("state="+state+"&error=access_denied"))...)
	}
	asks := header("Access-Control-Request-Method", "GET")
	for _, op := range []string{"optionsLogin", "optionsCallback"} {
		c.want(t, 204, n, op, "")
		c.want(t, 204, n, op, "", asks, header("Origin", allowedPage))
		c.want(t, 204, n, op, "", asks, header("Origin", foreignPage))
	}
	for range 1000 {
		if c.do(t, n, "startLogin", "").StatusCode == 429 {
			return
		}
	}
	t.Error("one may begin to sign in for ever")
}
