package wsclient

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Target is where a connection goes.
type Target struct {
	Secure bool   // TLS
	Addr   string // host:port that is dialled
	Host   string // the Host header: without the port where it is the scheme's own
	Path   string // path and query of the request
	Cookie string // the Cookie header of the request; "": none
}

// ParseTarget reads host:port, or a ws, wss, http or https URL (http means ws,
// https wss). A URL without a path of its own, like host:port, gets
// defaultPath.
func ParseTarget(s, defaultPath string) (Target, error) {
	if !strings.Contains(s, "://") {
		s = "ws://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Target{}, err
	}
	t := Target{Path: u.RequestURI()}
	port := "80"
	switch u.Scheme {
	case "ws", "http":
	case "wss", "https":
		t.Secure, port = true, "443"
	default:
		return t, fmt.Errorf("%q: scheme %q is none of ws, wss, http, https", s, u.Scheme)
	}
	if u.Hostname() == "" {
		return t, fmt.Errorf("%q has no host", s)
	}
	if u.User != nil {
		return t, fmt.Errorf("%q: a name or password has no meaning here", u.Redacted())
	}
	t.Host = u.Host
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return t, fmt.Errorf("%q: port %q is not between 1 and 65535", s, p)
		}
		port = p
	}
	t.Addr = net.JoinHostPort(u.Hostname(), port)
	if u.Path == "" || u.Path == "/" {
		t.Path = defaultPath
		if u.RawQuery != "" {
			t.Path += "?" + u.RawQuery
		}
	}
	return t, nil
}

// String returns the target as a ws or wss URL.
func (t Target) String() string {
	if t.Secure {
		return "wss://" + t.Host + t.Path
	}
	return "ws://" + t.Host + t.Path
}
