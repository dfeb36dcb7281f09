package web

import (
	"crypto/tls"
	"net/http"
	"testing"
)

func TestSecure(t *testing.T) {
	const trusted = "10.0.0.0/8, 2001:db8:1::/48"
	for name, c := range map[string]struct {
		peer   string
		tls    bool
		protos []string
		want   bool
	}{
		"plain":                         {"203.0.113.1:4000", false, nil, false},
		"TLS":                           {"203.0.113.1:4000", true, nil, true},
		"TLS, whatever a header says":   {"10.0.0.1:4000", true, []string{"http"}, true},
		"a client says so itself":       {"203.0.113.1:4000", false, []string{"https"}, false},
		"proxy":                         {"10.0.0.1:4000", false, []string{"https"}, true},
		"proxy, other case":             {"10.0.0.1:4000", false, []string{" HTTPS "}, true},
		"proxy without TLS":             {"10.0.0.1:4000", false, []string{"http"}, false},
		"proxy without a header":        {"10.0.0.1:4000", false, nil, false},
		"IPv6 proxy":                    {"[2001:db8:1::1]:4000", false, []string{"https"}, true},
		"IPv4 proxy on an IPv6 socket":  {"[::ffff:10.0.0.1]:4000", false, []string{"https"}, true},
		"TLS up to the outer proxy":     {"10.0.0.1:4000", false, []string{"https, http"}, true},
		"TLS between the proxies alone": {"10.0.0.1:4000", false, []string{"http,https"}, false},
		"two headers":                   {"10.0.0.1:4000", false, []string{"https", "http"}, true},
		"another word":                  {"10.0.0.1:4000", false, []string{"httpsx"}, false},
		"empty":                         {"10.0.0.1:4000", false, []string{""}, false},
		"no TCP":                        {"@", false, []string{"https"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-Proto": c.protos}}
			if c.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if got := proxies(t, trusted).Secure(r); got != c.want {
				t.Errorf("over TLS: %v, want %v", got, c.want)
			}
		})
	}
}
