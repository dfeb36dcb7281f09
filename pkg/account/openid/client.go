package openid

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Client is what the issuer knows the fleet by.
type Client struct {
	Issuer string // as its ID tokens name it; empty: nobody can sign in this way
	ID     string
	Secret string   // empty: a public client, which PKCE alone protects
	Scopes []string // "openid" among them
	// PublicURL is where browsers reach the fleet, as "https://parley.example". Empty:
	// wherever a request says that it was sent to.
	PublicURL string
}

const (
	// maxIssuer is the longest name of an issuer, in bytes: the database keeps it.
	maxIssuer = 255
	// maxPublicURL is the longest PublicURL, in bytes.
	maxPublicURL = 255
	// maxScopes bounds the list of scopes, in bytes: it goes to the issuer in an address.
	maxScopes = 1024
)

// CheckIssuer tells what is wrong with the name of an issuer: it is an https URL without
// query and fragment (OpenID Connect Discovery 1.0, section 2), or, for tests, an http
// URL of this machine.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(issuer, "?#"):
		return errors.New("want a URL such as https://accounts.example.com, without user, query and fragment")
	case len(issuer) > maxIssuer:
		return fmt.Errorf("want at most %d bytes", maxIssuer)
	case !protected(u):
		return errors.New("want an https URL; http is for an issuer on 127.0.0.1, [::1] or localhost alone")
	}
	return nil
}

// protected tells whether nobody on the way to a URL reads along.
func protected(u *url.URL) bool {
	if u.Scheme != "http" {
		return u.Scheme == "https"
	}
	address, err := netip.ParseAddr(u.Hostname())
	return err == nil && address.IsLoopback() || strings.EqualFold(u.Hostname(), "localhost")
}

// ParsePublicURL reads a PublicURL: scheme and host, and nothing else.
func ParsePublicURL(s string) (string, error) {
	s = strings.TrimSuffix(s, "/")
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || s != u.Scheme+"://"+u.Host {
		return "", errors.New("want a URL such as https://parley.example.com, without a path")
	}
	if len(s) > maxPublicURL {
		return "", fmt.Errorf("want at most %d bytes", maxPublicURL)
	}
	return s, nil
}

// ParseScopes reads scopes (RFC 6749, section 3.3) that spaces separate. "openid" has to
// be one of them.
func ParseScopes(s string) ([]string, error) {
	scopes := strings.Fields(s)
	strange := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	switch {
	case len(s) > maxScopes || slices.ContainsFunc(scopes, func(scope string) bool { return strings.ContainsFunc(scope, strange) }):
		return nil, fmt.Errorf("want visible ASCII characters but \" and \\, separated by spaces, %d at most", maxScopes)
	case !slices.Contains(scopes, "openid"):
		return nil, errors.New("want openid among them")
	}
	return scopes, nil
}

// hostname is a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}
