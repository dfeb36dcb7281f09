package redisbus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

// mode is how a node finds the Redis server that takes its writes.
type mode uint8

const (
	modeSingle   mode = iota // there is one
	modeSentinel             // Sentinels name it
	modeCluster              // each slot has its own
)

const (
	defaultRedisPort    = "6379"
	defaultSentinelPort = "26379"
)

// Credentials are what a URL may leave out, so that it can be shown and kept
// where secrets must not be. They count only for what the URL does not have.
type Credentials struct {
	Username string
	Password string
	CAFile   string // certificates that are trusted for TLS, besides the system's
}

// address is where Redis is, as a URL says it.
type address struct {
	mode    mode
	hosts   []string // host:port; of the Sentinels, or of some nodes of the Cluster
	master  string   // its name among the Sentinels
	options redis.Options
	// sentinel is what connections to Sentinels need; only Username, Password and
	// TLSConfig are set.
	sentinel redis.Options
}

var errURL = errors.New("want redis://[[user]:password@]host:port[/db], rediss:// for TLS, " +
	"redis+sentinel://[[user]:password@]host:port,host:port/master-name[/db][?sentinel_username=u&sentinel_password=p], " +
	"redis+cluster://[[user]:password@]host:port,host:port, or these with rediss for TLS")

// CheckURL tells whether Options.URL can be used. The error does not contain it,
// since it may hold a password.
func CheckURL(text string) error {
	_, err := parseAddress(text, Credentials{})
	return err
}

// parseAddress reads a URL. Its errors contain nothing of it.
func parseAddress(text string, c Credentials) (a address, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return a, errURL
	}
	base, kind, _ := strings.Cut(scheme, "+")
	if base != "redis" && base != "rediss" {
		if scheme != "unix" {
			return a, errURL
		}
	}
	switch kind {
	case "":
		err = a.parseSingle(text)
	case "sentinel", "cluster":
		err = a.parseMany(base, kind, rest)
	default:
		err = errURL
	}
	if err != nil {
		return a, err
	}
	return a, a.complete(c)
}

// parseSingle leaves to the library what it knows.
func (a *address) parseSingle(text string) error {
	o, err := redis.ParseURL(text)
	if err != nil {
		return errURL
	}
	a.options = *o
	a.hosts = []string{o.Addr}
	return nil
}

// parseMany reads a URL with several hosts.
func (a *address) parseMany(base, kind, rest string) error {
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i+1], authority[i+1:]
	}
	defaultPort := defaultRedisPort
	if kind == "sentinel" {
		a.mode, defaultPort = modeSentinel, defaultSentinelPort
	} else {
		a.mode = modeCluster
	}
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("redis://" + host)
		if err != nil || u.Hostname() == "" || u.User != nil {
			return errURL
		}
		port := u.Port()
		if port == "" {
			port = defaultPort
		}
		a.hosts = append(a.hosts, net.JoinHostPort(u.Hostname(), port))
	}
	if a.mode == modeSentinel {
		name, after, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		name, query, _ := strings.Cut(name, "?")
		if name == "" || !strings.HasPrefix(path, "/") {
			return fmt.Errorf("the name of the master is missing: %w", errURL)
		}
		if a.master, path = name, "/"+after; query != "" {
			path = "/?" + query
		}
	}
	// What is left is what a URL with one host may have too.
	u, err := url.Parse(base + "://" + userinfo + a.hosts[0] + path)
	if err != nil {
		return errURL
	}
	query := u.Query()
	a.sentinel.Username, a.sentinel.Password = query.Get("sentinel_username"), query.Get("sentinel_password")
	query.Del("sentinel_username")
	query.Del("sentinel_password")
	u.RawQuery = query.Encode()
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return errURL
	}
	if a.mode == modeCluster && o.DB != 0 {
		return errors.New("a Redis Cluster has no numbered databases")
	}
	a.options = *o
	return nil
}

// complete adds what the URL leaves out.
func (a *address) complete(c Credentials) error {
	o := &a.options
	if o.Username == "" && o.Password == "" {
		o.Username, o.Password = c.Username, c.Password
	} else if o.Password == "" {
		o.Password = c.Password
	}
	if c.CAFile == "" {
		a.sentinel.TLSConfig = o.TLSConfig
		return nil
	}
	if o.TLSConfig == nil {
		return errors.New("a file with certificates is given, but the URL is not one for TLS (rediss)")
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
	}
	o.TLSConfig.RootCAs = pool
	a.sentinel.TLSConfig = o.TLSConfig
	return nil
}

// tlsFor is the configuration for a connection to addr; nil without TLS. Of several
// hosts each has its own name, that of one is in the URL.
func (a *address) tlsFor(addr string) *tls.Config {
	c := a.options.TLSConfig
	if c == nil || a.mode == modeSingle {
		return c
	}
	c = c.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		c.ServerName = host
	}
	return c
}
