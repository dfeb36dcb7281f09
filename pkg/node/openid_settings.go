package node

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"parley/pkg/account/openid"
)

const (
	// maxClientID and maxClientSecret bound what an issuer knows the fleet by, in bytes.
	maxClientID     = 512
	maxClientSecret = 4096
)

// openidSettings are those of the sign-in with OpenID Connect.
func openidSettings() []Setting {
	return []Setting{
		{Name: "oidc-issuer", Argument: "URL",
			Help: "users may sign in with the accounts that they have at this OpenID Connect issuer, such as https://accounts.google.com; it is known by what it says below /.well-known/openid-configuration, and redirects browsers to /auth/callback. Behind a balancer set --trusted-proxies too. Empty: with a password alone; the same on all nodes, as are the next ones",
			set: func(c *Config, v string) error {
				if v != "" {
					if err := openid.CheckIssuer(v); err != nil {
						return err
					}
				}
				c.OpenID.Issuer = v
				return nil
			}},
		{Name: "oidc-client-id", Argument: "ID",
			Help: "what the issuer knows the fleet by",
			set:  func(c *Config, v string) error { return setPlain(&c.OpenID.ID, v, maxClientID) }},
		{Name: "oidc-client-secret", Argument: "SECRET", Secret: true,
			Help: "proves to the issuer that it is the fleet; better by the variable, which other users of the machine do not see. Empty: the fleet is a public client there, with PKCE",
			set:  func(c *Config, v string) error { return setPlain(&c.OpenID.Secret, v, maxClientSecret) }},
		{Name: "oidc-scopes", Default: "openid email profile", Argument: "LIST",
			Help: "what the issuer is asked to tell of users, separated by spaces; openid is one of them. An account needs an email",
			set:  func(c *Config, v string) (err error) { c.OpenID.Scopes, err = openid.ParseScopes(v); return err }},
		{Name: "public-url", Argument: "URL",
			Help: "where browsers reach the fleet, such as https://parley.example.com: the issuer sends them back to /auth/callback there. Empty: to wherever a request says that it was sent to",
			set: func(c *Config, v string) (err error) {
				if c.OpenID.PublicURL = v; v != "" {
					c.OpenID.PublicURL, err = openid.ParsePublicURL(v)
				}
				return err
			}},
	}
}

// setPlain takes a text without control characters. Its errors tell nothing of it.
func setPlain(p *string, v string, most int) error {
	if len(v) > most || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
		return fmt.Errorf("want at most %d bytes of UTF-8 without control characters", most)
	}
	*p = v
	return nil
}

// checkOpenID tells what is missing of the sign-in with OpenID Connect.
func (c *Config) checkOpenID() error {
	switch o := c.OpenID; {
	case o.Issuer != "" && o.ID == "":
		return errors.New("--oidc-issuer needs --oidc-client-id: what the issuer knows the fleet by")
	case o.Issuer == "" && o.ID != "":
		return errors.New("--oidc-client-id is of no use without --oidc-issuer")
	case o.Issuer == "" && o.Secret != "":
		return errors.New("--oidc-client-secret is of no use without --oidc-issuer")
	}
	return nil
}
