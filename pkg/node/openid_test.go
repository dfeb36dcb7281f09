package node

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/pkg/account/openid/oidctest"
	"parley/pkg/relaytest"
)

// issuerDir is where the tests' issuer is.
const issuerDir = "../account/openid/oidctest/server"

// byName is the address of a node by another name than that of the issuer, so that
// browsers take them for two sites.
func byName(t *testing.T, n *testNode) string {
	t.Helper()
	_, port, err := net.SplitHostPort(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + port
}

// The sample app in Chromium: signed in at a real issuer, by one node, back by the
// other, with accounts in a database.
func TestSampleAppOpenID(t *testing.T) {
	issuer, err := oidctest.Start(oidctest.Options{Dir: issuerDir, ID: "parley", Secret: "a secret of the tests", Auth: "client_secret_basic", Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	redis := relaytest.StartRedis(t)
	args := []string{"--redis-url=" + redis.URL(), "--database-url=sqlite:" + t.TempDir() + "/parley.db",
		"--oidc-issuer=" + issuer.URL, "--oidc-client-id=parley", "--oidc-client-secret=a secret of the tests"}
	b := startNode(t, args...)
	a := startNode(t, append(args, "--public-url="+byName(t, b))...)
	ready(t, a, b)
	signUp(t, a.addr, "taken")

	said, err := oidctest.Browse(t.Context(), issuerDir, "app.e2e.mjs", "--url", byName(t, a), "--url2", byName(t, b))
	t.Log(said)
	if err != nil || !strings.Contains(said, "PASS all") {
		t.Errorf("%v\nthe issuer said:\n%s\nnode a:\n%s\nnode b:\n%s", err, issuer.Log(), a.log, b.log)
	}
	for name, n := range map[string]*testNode{"a": a, "b": b} {
		for _, secret := range []string{"@example.com", "a secret of", "sid="} {
			if logged(n, secret) {
				t.Errorf("the log of node %s has %q:\n%s", name, secret, n.log)
			}
		}
	}
	if created, taken := metric(t, b, `parley_openid_logins_total{result="created"}`), metric(t, b, `parley_openid_logins_total{result="email_taken"}`); created != 1 || taken != 1 {
		t.Errorf("%v accounts were made on node b, and %v refused; want 1 and 1", created, taken)
	}
}

// Without an issuer, and while it is away, nodes serve all else.
func TestNoIssuer(t *testing.T) {
	client := http.Client{Timeout: 20 * time.Second}
	get := func(n *testNode, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/json")
		w, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Body.Close()
		body, err := io.ReadAll(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		return w.StatusCode, string(body)
	}
	without := startNode(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "http://" + free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	with := startNode(t, "--oidc-issuer="+away, "--oidc-client-id=parley")
	ready(t, without, with)
	for _, path := range []string{"/auth/login", "/auth/callback?state=x&code=y"} {
		if status, body := get(without, path); status != http.StatusServiceUnavailable || !strings.Contains(body, "--oidc-issuer") {
			t.Errorf("%s without an issuer: %d %s", path, status, body)
		}
	}
	if status, body := get(with, "/auth/login"); status != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer") {
		t.Errorf("/auth/login while the issuer is away: %d %s", status, body)
	}
	if status, body := get(with, "/auth/methods"); status != http.StatusOK || !strings.Contains(body, away) {
		t.Errorf("/auth/methods while the issuer is away: %d %s", status, body)
	}
}
