package redisbus

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		url                      string
		mode                     mode
		hosts                    []string
		master                   string
		user, password           string
		db                       int
		tls                      bool
		sentinelUser, sentinelPW string
	}{
		{url: "redis://r", hosts: []string{"r:6379"}},
		{url: "redis://u:p@r:1/2", hosts: []string{"r:1"}, user: "u", password: "p", db: 2},
		{url: "rediss://:p@r:1", hosts: []string{"r:1"}, password: "p", tls: true},
		{url: "redis+sentinel://a,b:1,[::1]:2/main", mode: modeSentinel, hosts: []string{"a:26379", "b:1", "[::1]:2"}, master: "main"},
		{url: "redis+sentinel://u:p%40,%2F@a:1/main/3?sentinel_username=su&sentinel_password=sp", mode: modeSentinel,
			hosts: []string{"a:1"}, master: "main", user: "u", password: "p@,/", db: 3, sentinelUser: "su", sentinelPW: "sp"},
		{url: "rediss+sentinel://a/main?sentinel_password=sp", mode: modeSentinel, hosts: []string{"a:26379"}, master: "main", tls: true, sentinelPW: "sp"},
		{url: "redis+cluster://u:p@a,b:1", mode: modeCluster, hosts: []string{"a:6379", "b:1"}, user: "u", password: "p"},
		{url: "rediss+cluster://a/0", mode: modeCluster, hosts: []string{"a:6379"}, tls: true},
	} {
		a, err := parseAddress(c.url, Credentials{})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		o := a.options
		if a.mode != c.mode || !slices.Equal(a.hosts, c.hosts) || a.master != c.master || o.Username != c.user || o.Password != c.password ||
			o.DB != c.db || (o.TLSConfig != nil) != c.tls || a.sentinel.Username != c.sentinelUser || a.sentinel.Password != c.sentinelPW {
			t.Errorf("%s: %+v, user %q, password %q, db %d, tls %v, sentinel %q %q", c.url, a.hosts, o.Username, o.Password, o.DB, o.TLSConfig != nil,
				a.sentinel.Username, a.sentinel.Password)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, url := range []string{"", "r:6379", "http://r", "redis+other://r", "redis://r/x", "redis+sentinel://a", "redis+sentinel://a/",
		"redis+sentinel:///main", "redis+sentinel://a,,b/main", "redis+sentinel://secret@a:x/main", "redis+cluster://", "redis+cluster://secret@a,:1",
		"redis+cluster://a/1", "redis+cluster://secret:secret@a/secret", "http+cluster://a", "redis+sentinel://:secret@a/main/secret"} {
		err := CheckURL(url)
		if err == nil {
			t.Errorf("%q is taken", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error for %q shows it: %v", url, err)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url            string
		credentials    Credentials
		user, password string
		refused        string
	}{
		{"redis://r", Credentials{Username: "u", Password: "p"}, "u", "p", ""},
		{"redis+cluster://r", Credentials{Password: "p"}, "", "p", ""},
		{"redis://x:y@r", Credentials{Username: "u", Password: "p"}, "x", "y", ""},
		{"redis://x@r", Credentials{Username: "u", Password: "p"}, "x", "p", ""},
		{"redis://r", Credentials{CAFile: junk}, "", "", "rediss"},
		{"rediss://r", Credentials{CAFile: junk}, "", "", "PEM"},
		{"rediss://r", Credentials{CAFile: filepath.Join(dir, "none")}, "", "", "no such file"},
	} {
		a, err := parseAddress(c.url, c.credentials)
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: error = %v, want one that says %q", c.url, err, c.refused)
			}
		case err != nil || a.options.Username != c.user || a.options.Password != c.password:
			t.Errorf("%s: user %q, password %q, %v", c.url, a.options.Username, a.options.Password, err)
		}
	}
}

// Each of several hosts must show a certificate for its own name.
func TestServerNames(t *testing.T) {
	one, err := parseAddress("rediss://a:1", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if got := one.tlsFor("elsewhere:1").ServerName; got != "a" {
		t.Errorf("the server's name is %q", got)
	}
	many, err := parseAddress("rediss+cluster://a:1,b:1", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if got := many.tlsFor("c:1").ServerName; got != "c" {
		t.Errorf("the server's name is %q", got)
	}
	plain, err := parseAddress("redis://a", Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if plain.tlsFor("a:6379") != nil {
		t.Error("TLS, though nobody has asked for it")
	}
}
