package openid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/oauth2"

	"parley/pkg/account"
)

const (
	// maxSubject is the longest name that an issuer may have for somebody, in bytes
	// (OpenID Connect Core 1.0, section 2).
	maxSubject = 255
	// maxNames is how many usernames are tried for a new account.
	maxNames = 8
	// suffixSpace is what a username leaves free for what makes it unique.
	suffixSpace = 10
	// defaultName is the username of somebody of whom nothing is known.
	defaultName = "user"
)

// person is somebody as the issuer has told.
type person struct {
	subject  string
	email    string // empty: it has not told
	username string // what it would be called here, by what was told; may be empty
}

// claims are those of an ID token, and of the userinfo endpoint.
type claims struct {
	Email     text `json:"email"`
	Preferred text `json:"preferred_username"`
	Name      text `json:"name"`
	AZP       text `json:"azp"`
}

// text is a claim that should be a text. Where it is something else, it is as if it were
// not there.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// person returns who the ID token among the tokens is of. It checks the signature, the
// issuer, the audience and the expiry (go-oidc), the authorised party and the nonce
// (OpenID Connect Core 1.0, section 3.1.3.7). Errors wrap errInvalid or errIssuerAway.
func (i *issuer) person(ctx context.Context, p *provider, token *oauth2.Token, nonce string) (person, error) {
	raw, ok := token.Extra("id_token").(string)
	if !ok || raw == "" {
		return person{}, fmt.Errorf("%w: there is no ID token", errInvalid)
	}
	t, err := p.verifier.Verify(i.context(ctx), raw)
	switch {
	case err != nil && strings.Contains(err.Error(), "fetching keys"): // go-oidc does not wrap it
		return person{}, fmt.Errorf("%w: its keys: %w", errIssuerAway, err)
	case err != nil:
		return person{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	var c claims
	if err := t.Claims(&c); err != nil {
		return person{}, fmt.Errorf("%w: the claims: %w", errInvalid, err)
	}
	switch {
	case t.Nonce != nonce:
		return person{}, fmt.Errorf("%w: the nonce is another one", errInvalid)
	case c.AZP != "" && string(c.AZP) != i.client.ID, c.AZP == "" && len(t.Audience) > 1:
		return person{}, fmt.Errorf("%w: the token was issued to %.100q", errInvalid, c.AZP)
	case t.Subject == "" || len(t.Subject) > maxSubject || !utf8.ValidString(t.Subject):
		return person{}, fmt.Errorf("%w: the subject has %d bytes", errInvalid, len(t.Subject))
	}
	who := person{subject: t.Subject}
	who.learn(c)
	return who, nil
}

// more asks the userinfo endpoint for what the ID token did not tell. An issuer that has
// none has told all. Errors wrap errInvalid or errIssuerAway.
func (i *issuer) more(ctx context.Context, p *provider, token *oauth2.Token, who person) (person, error) {
	if p.UserInfoEndpoint() == "" {
		return who, nil
	}
	info, err := p.UserInfo(i.context(ctx), oauth2.StaticTokenSource(token))
	if err != nil {
		return who, fmt.Errorf("%w: its userinfo endpoint: %w", errIssuerAway, withoutBody(err))
	}
	var c claims
	if err := info.Claims(&c); err != nil {
		return who, fmt.Errorf("%w: the userinfo: %w", errInvalid, err)
	}
	if info.Subject != who.subject { // OpenID Connect Core 1.0, section 5.3.2
		return who, fmt.Errorf("%w: the userinfo is of somebody else", errInvalid)
	}
	who.learn(c)
	return who, nil
}

// withoutBody is go-oidc's error without the answer that it quotes, which may have the
// token.
func withoutBody(err error) error {
	var unreachable *url.Error
	if errors.As(err, &unreachable) {
		return err
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "oidc: "), ":")
	return errors.New(text)
}

// learn takes what claims tell and was not known. Whether the issuer has verified the
// email does not matter: it opens nothing here, and accounts with passwords have theirs
// unverified too.
func (p *person) learn(c claims) {
	if p.email == "" {
		p.email = strings.TrimSpace(string(c.Email))
	}
	local, _, _ := strings.Cut(p.email, "@")
	for _, name := range []string{p.username, string(c.Preferred), string(c.Name), local} {
		if p.username = plainName(name); p.username != "" {
			return
		}
	}
}

// plainName is a name as it may be shown to others: without what is not to be seen, with
// single spaces, and not longer than a username may be with a suffix. What looks like an email
// ends before the @, since usernames are public.
func plainName(s string) string {
	s, _, _ = strings.Cut(strings.ToValidUTF8(s, ""), "@")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsGraphic(r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > account.MaxUsername-suffixSpace {
		s = strings.TrimSpace(string(runes[:account.MaxUsername-suffixSpace]))
	}
	return s
}

// usernames are those to try for a new account: its own, if it is long enough, and then
// with numbers that grow longer.
func usernames(who person) iter.Seq[string] {
	return func(yield func(string) bool) {
		name := who.username
		if name == "" {
			name = defaultName
		}
		from := int64(1000)
		for i := range maxNames {
			try := name
			if i > 0 || utf8.RuneCountInString(name) < account.MinUsername {
				try = fmt.Sprintf("%s-%d", name, from+rand.Int64N(9*from))
				if i%2 == 1 && from < 10_000_000 {
					from *= 100
				}
			}
			if !yield(try) {
				return
			}
		}
	}
}
