package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Origins decide which web pages may use this fleet. A page of the same host
// always may, and so does a client that is no browser and sends no Origin.
type Origins []string

// ParseOrigins reads patterns separated by commas: "*" for every origin, a host
// such as "app.example.com" or "*.example.com", with or without a port, or an
// origin with its scheme, "https://app.example.com". A * stands for any number
// of characters.
func ParseOrigins(s string) (Origins, error) {
	var o Origins
	for f := range strings.SplitSeq(s, ",") {
		f = strings.ToLower(strings.TrimSpace(f))
		if f == "" {
			continue
		}
		scheme, host, found := strings.Cut(f, "://")
		if !found {
			scheme, host = "*", f
		}
		switch {
		case strings.ContainsAny(host, "/?#"):
			return nil, fmt.Errorf("%q is not an origin: it has a path", f)
		case scheme == "" || host == "" || strings.ContainsAny(f, "@\\ \t\"'<>"):
			return nil, fmt.Errorf("%q is neither a host nor an origin like https://app.example.com", f)
		}
		o = append(o, f)
	}
	return o, nil
}

// match tells whether s is what the pattern describes.
func match(pattern, s string) bool {
	head, rest, found := strings.Cut(pattern, "*")
	if !found {
		return s == pattern
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		var part string
		if part, rest, found = strings.Cut(rest, "*"); !found {
			return strings.HasSuffix(s, part)
		}
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
}

// ErrOrigin means that the page's origin is not allowed.
var ErrOrigin = errors.New("origin not allowed")

// Check returns nil or an error that is ErrOrigin and says what was compared.
func (o Origins) Check(r *http.Request) error {
	origin := strings.ToLower(r.Header.Get("Origin"))
	if origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	if err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	for _, pattern := range o {
		if pattern == "*" {
			return nil
		}
		if err != nil || u.Host == "" {
			continue
		}
		target := u.Host
		if strings.Contains(pattern, "://") {
			target = u.Scheme + "://" + u.Host
		}
		if match(pattern, target) {
			return nil
		}
	}
	return fmt.Errorf("%w: %q is neither of host %q nor in --allowed-origins", ErrOrigin, origin, r.Host)
}
