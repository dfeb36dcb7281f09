package openid_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"parley/pkg/account"
	"parley/pkg/account/accounttest"
	"parley/pkg/account/openid"
	"parley/pkg/account/openid/oidctest"
	"parley/pkg/relay"
)

const serverDir = "oidctest/server"

// home shows whose session the browser has: that of the page's own request, and that of
// what it asks for afterwards.
const home = `<!doctype html><title>Home</title><p id="navigated">%s</p><p id="who"></p>
<script>fetch('/who').then((r) => r.text()).then((t) => { document.querySelector('#who').textContent = t })</script>`

// realFleet is two nodes on shared memory, in front of a real issuer; the browser begins
// at the first and ends at the second.
func realFleet(t *testing.T, o oidctest.Options, log *slog.Logger) (first, second string, users *identities) {
	t.Helper()
	o.Dir = serverDir
	issuer, err := oidctest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		issuer.Close()
		if t.Failed() {
			t.Logf("the issuer said:\n%s", issuer.Log())
		}
	})
	users = new(identities)
	store := new(accounttest.Store)
	accounts := account.New(account.Config{Users: users, Values: store, Meter: store, Publisher: new(accounttest.Publisher)})
	var servers []*httptest.Server
	var urls []string
	for range 2 {
		s := httptest.NewUnstartedServer(nil)
		servers = append(servers, s)
		// By name: to the browser the issuer, at 127.0.0.1, is another site.
		urls = append(urls, fmt.Sprintf("http://localhost:%d", s.Listener.Addr().(*net.TCPAddr).Port))
	}
	for _, s := range servers {
		h, err := openid.New(openid.Config{
			Client:     openid.Client{Issuer: issuer.URL, ID: o.ID, Secret: o.Secret, Scopes: []string{"openid", "email", "profile"}, PublicURL: urls[1]},
			Identities: users, Values: store, Meter: store, Sessions: accounts, Log: log,
		})
		if err != nil {
			t.Fatal(err)
		}
		who := func(r *http.Request) string {
			session, err := accounts.Session(r.Context(), account.TokenOf(r))
			if err != nil {
				return "without a session"
			}
			return fmt.Sprintf("%s (%d)", session.User.Username, session.User.ID)
		}
		mux := http.NewServeMux()
		mux.Handle("/auth/", h)
		mux.HandleFunc("/home", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, home, who(r)) })
		mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, who(r)) })
		s.Config.Handler = mux
		s.Start()
		t.Cleanup(s.Close)
	}
	return urls[0], urls[1], users
}

// A certified issuer, in each of the ways in which issuers differ, and Chromium.
func TestRealIssuer(t *testing.T) {
	for _, o := range []oidctest.Options{
		{ID: "parley", Secret: "a secret: &+% /", Auth: "client_secret_basic", Algorithm: "RS256", EmailInToken: true},
		{ID: "parley", Secret: "a secret: &+% /", Auth: "client_secret_post", Algorithm: "ES256", EmailInToken: false},
		{ID: "parley", Auth: "none", Algorithm: "EdDSA", EmailInToken: false},
	} {
		t.Run(o.Algorithm+" "+o.Auth, func(t *testing.T) {
			log := new(logged)
			first, second, users := realFleet(t, o, slog.New(slog.NewTextHandler(log, nil)))
			args := []string{"--url", first, "--url2", second}
			if o.EmailInToken {
				args = append(args, "--all")
			}
			if dir := os.Getenv("PARLEY_SHOTS"); dir != "" {
				args = append(args, "--shots", dir)
			}
			if _, err := users.Create(t.Context(), relay.User{Username: "mallory", Email: "taken@example.com"}, "a password"); err != nil {
				t.Fatal(err)
			}
			said, err := oidctest.Browse(t.Context(), serverDir, "signin.e2e.mjs", args...)
			t.Log(said)
			if err != nil || !strings.Contains(said, "PASS all") {
				t.Errorf("%v\nthe nodes' log:\n%s", err, log.String())
			}
			if strings.Contains(log.String(), "@example.com") || o.Secret != "" && strings.Contains(log.String(), o.Secret) {
				t.Errorf("the log tells too much:\n%s", log.String())
			}
		})
	}
}
