package node

import (
	"io"
	"slices"
	"strings"
	"testing"

	"parley/pkg/account/openid"
)

func TestOpenIDSettings(t *testing.T) {
	c, err := ParseConfig(nil, env(), io.Discard)
	if err != nil || c.OpenID.Issuer != "" || !slices.Equal(c.OpenID.Scopes, []string{"openid", "email", "profile"}) {
		t.Errorf("%+v, %v", c.OpenID, err)
	}
	c, err = ParseConfig([]string{"--oidc-issuer=https://accounts.example.com/tenant/", "--oidc-client-id=parley", "--oidc-scopes= email  openid ", "--public-url=https://parley.example:8443/"},
		env("PARLEY_OIDC_CLIENT_SECRET", "a secret"), io.Discard)
	want := openid.Client{Issuer: "https://accounts.example.com/tenant/", ID: "parley", Secret: "a secret", PublicURL: "https://parley.example:8443"}
	scopes := c.OpenID.Scopes
	c.OpenID.Scopes = nil
	if err != nil || c.OpenID.Issuer != want.Issuer || c.OpenID.ID != want.ID || c.OpenID.Secret != want.Secret || c.OpenID.PublicURL != want.PublicURL ||
		!slices.Equal(scopes, []string{"email", "openid"}) {
		t.Errorf("%+v with %q, %v", c.OpenID, scopes, err)
	}
	for setting, values := range map[string][]string{
		"oidc-issuer": {"accounts.example.com", "http://accounts.example.com", "https://", "https://a?b=c", "https://a#b", "https://user@a", "ftp://a",
			"http://192.0.2.1", "http://localhost.example.com", "https://a/" + strings.Repeat("x", 250)},
		"oidc-client-id":     {"a\nb", strings.Repeat("x", 513), "\xff"},
		"oidc-client-secret": {"a\x00b", strings.Repeat("x", 4097)},
		"oidc-scopes":        {"", "email", "openid em\"ail", "openid é", "openid " + strings.Repeat("x", 1018)},
		"public-url":         {"parley.example", "https://parley.example/path", "https://", "https://a?b", "ftp://a", "https://u@a", "https://a:x", "https://" + strings.Repeat("x", 250)},
	} {
		for _, v := range values {
			_, err := ParseConfig([]string{"--" + setting + "=" + v}, env(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), "--"+setting) {
				t.Errorf("--%s=%q: error = %v", setting, v, err)
			}
			if setting == "oidc-client-secret" && err != nil && strings.Contains(err.Error(), "xxx") {
				t.Errorf("the error tells the secret: %v", err)
			}
		}
	}
	for _, issuer := range []string{"http://localhost:1", "http://127.0.0.2", "http://[::1]:1/a", "https://a/" + strings.Repeat("x", 245)} {
		if _, err := ParseConfig([]string{"--oidc-issuer=" + issuer, "--oidc-client-id=x"}, env(), io.Discard); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

// Half of what the sign-in needs is an error that names the other half.
func TestHalfOfOpenID(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"--oidc-issuer=https://a.test"}, []string{"--oidc-issuer", "--oidc-client-id"}},
		{[]string{"--oidc-client-id=a"}, []string{"--oidc-issuer", "--oidc-client-id"}},
		{[]string{"--oidc-client-secret=hunter2"}, []string{"--oidc-issuer", "--oidc-client-secret"}},
	} {
		_, err := ParseConfig(c.args, env(), io.Discard)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error = %v", c.args, err)
			continue
		}
		for _, name := range c.want {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%q: the error does not name %s: %v", c.args, name, err)
			}
		}
	}
}
