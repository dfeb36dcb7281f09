package openid_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	clientID     = "the fleet's id"
	clientSecret = "the fleet's secret: & % +"
	accessToken  = "the access token"
)

// issuer is an OpenID Connect issuer that does what a test wants, right or wrong.
type issuer struct {
	*httptest.Server
	t *testing.T

	mu        sync.Mutex
	metadata  func(m map[string]any)                                  // changes what it says of itself
	claims    func(c map[string]any)                                  // changes what the ID token says
	sign      func(payload []byte) string                             // makes the ID token; nil: with key
	token     func(w http.ResponseWriter, r *http.Request) bool       // answers instead of the token endpoint, if true
	userinfo  map[string]any                                          // nil: there is no such endpoint
	other     map[string]func(w http.ResponseWriter, r *http.Request) // answers instead, by path
	methods   []string                                                // that it takes the secret by
	takes     string                                                  // the one that it takes it by indeed
	key       jose.SigningKey
	published []jose.JSONWebKey
	codes     map[string]url.Values // what each code was asked for with
	asked     map[string]int        // requests by path
	secrets   []string              // that nobody else may learn
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, codes: map[string]url.Values{}, asked: map[string]int{}, methods: []string{"client_secret_basic"}, takes: "client_secret_basic"}
	i.use(jose.RS256, "first")
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	return i
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecdsaKey() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// use has the issuer sign with another key, and publish that one alone.
func (i *issuer) use(algorithm jose.SignatureAlgorithm, id string) {
	var private crypto.Signer
	switch algorithm {
	case jose.ES256:
		private = ecdsaKey()
	case jose.EdDSA:
		_, private, _ = ed25519.GenerateKey(rand.Reader)
	default:
		private = rsaKey()
		if id != "first" {
			private, _ = rsa.GenerateKey(rand.Reader, 2048)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private, KeyID: id}}
	i.published = []jose.JSONWebKey{{Key: private.Public(), KeyID: id, Algorithm: string(algorithm), Use: "sig"}}
}

func (i *issuer) signed(payload []byte) string {
	s, err := jose.NewSigner(i.key, nil)
	if err != nil {
		i.t.Error(err)
		return ""
	}
	signed, err := s.Sign(payload)
	if err != nil {
		i.t.Error(err)
		return ""
	}
	compact, _ := signed.CompactSerialize()
	return compact
}

// visits is how often a path was asked for.
func (i *issuer) visits(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// code is what the issuer would send a browser back with that has come with this
// address.
func (i *issuer) code(asked url.Values) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	code := "code-" + rand.Text()
	i.codes[code] = asked
	i.secrets = append(i.secrets, code)
	return code
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked[r.URL.Path]++
	if do := i.other[r.URL.Path]; do != nil {
		do(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		m := map[string]any{
			"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize?tenant=7", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256", "ES256", "EdDSA", "none", "HS256"},
			"token_endpoint_auth_methods_supported": i.methods,
		}
		if i.userinfo != nil {
			m["userinfo_endpoint"] = i.URL + "/userinfo"
		}
		if i.metadata != nil {
			i.metadata(m)
		}
		i.write(w, http.StatusOK, m)
	case "/keys":
		i.write(w, http.StatusOK, jose.JSONWebKeySet{Keys: i.published})
	case "/token":
		i.serveToken(w, r)
	case "/userinfo":
		if r.Header.Get("Authorization") != "Bearer "+accessToken {
			i.write(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
			return
		}
		i.write(w, http.StatusOK, i.userinfo)
	default:
		http.NotFound(w, r)
	}
}

func (i *issuer) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// serveToken gives an ID token for a code, once, to the client that shows its secret and
// the verifier of the challenge.
func (i *issuer) serveToken(w http.ResponseWriter, r *http.Request) {
	if i.token != nil && i.token(w, r) {
		return
	}
	refuse := func(status int, code string) {
		i.write(w, status, map[string]any{"error": code, "error_description": "the description quotes " + r.FormValue("code")})
	}
	id, secret, basic := r.BasicAuth()
	method := "none"
	if id == "" {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
		if secret != "" {
			method = "client_secret_post"
		}
	} else if basic {
		method = "client_secret_basic"
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	wanted := clientSecret
	if i.takes == "none" {
		wanted = ""
	}
	if method != i.takes || id != clientID || secret != wanted {
		refuse(http.StatusUnauthorized, "invalid_client")
		return
	}
	asked := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case asked == nil, r.PostFormValue("grant_type") != "authorization_code",
		asked.Get("redirect_uri") != r.PostFormValue("redirect_uri"),
		asked.Get("code_challenge_method") != "S256", asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]):
		refuse(http.StatusBadRequest, "invalid_grant")
		return
	}
	claims := map[string]any{
		"iss": i.URL, "sub": "subject-1", "aud": clientID, "nonce": asked.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"email": "Alice@Example.com", "preferred_username": "alice", "name": "Alice Liddell",
	}
	if i.claims != nil {
		i.claims(claims)
	}
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		i.t.Error(err)
	}
	sign := i.sign
	if sign == nil {
		sign = i.signed
	}
	token := sign(payload)
	i.secrets = append(i.secrets, token, r.PostFormValue("code_verifier"), asked.Get("nonce"), asked.Get("state"))
	i.write(w, http.StatusOK, map[string]any{"access_token": accessToken, "token_type": "Bearer", "expires_in": 60, "id_token": token})
}

// change has the issuer be another one from now on.
func (i *issuer) change(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f()
}

// learned fails the test if a text has something that nobody but the issuer and the node
// may know.
func (i *issuer) learned(what, text string) {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, secret := range append([]string{clientSecret, url.QueryEscape(clientSecret), accessToken}, i.secrets...) {
		if secret != "" && strings.Contains(text, secret) {
			i.t.Errorf("%s has the secret %q:\n%s", what, secret, text)
		}
	}
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signWith signs with any key.
func signWith(algorithm jose.SignatureAlgorithm, key any, id string, payload []byte) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		panic(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		panic(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return compact
}

// endless answers with more than anybody should read.
func endless(w http.ResponseWriter, start string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(start))
	for range 3 << 10 {
		if _, err := w.Write([]byte(strings.Repeat("x", 1<<10))); err != nil {
			return
		}
	}
}
