package node

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/pkg/account/openid"
	"parley/pkg/protocol/chat"
	"parley/pkg/redisbus"
	"parley/pkg/web"
)

// Config is how a node is set up. Fields are named like their settings; see
// Settings for what they mean. A limit of 0 is off.
type Config struct {
	Listen              string
	InternalAddr        string
	RedisURL            string
	RedisCredentials    redisbus.Credentials
	RedisWaitReplicas   int
	RedisWaitTimeout    time.Duration
	NodeName            string
	AllowedOrigins      web.Origins
	MaxMessageBytes     int
	MaxQueueBytes       int
	Rate                float64
	IdleTimeout         time.Duration
	PingInterval        time.Duration
	MaxConnections      int
	MaxConnectionsPerIP int
	// DirectRetention and DirectRetentionMessages bound what is kept of direct
	// messages for clients that come back; 0: nothing is.
	DirectRetention         time.Duration
	DirectRetentionMessages int
	FleetSecrets            [][]byte // the first one signs, all verify; none: one is made up
	DatabaseURL             string   // empty: none beside an external Redis, else a file of the user's
	ChatRooms               []chat.RoomConfig
	ChatRoomLength          int
	LoginFailuresPerAccount int
	LoginFailuresPerAddress int
	OpenID                  openid.Client // without an issuer: nobody signs in this way
	RoomsMaxClients         int           // committed by all relay rooms of the fleet
	RoomTTL                 time.Duration // of a relay room in which nobody is
	RoomsAPIToken           string        // empty: none is needed
	TrustedProxies          web.Proxies
	DrainDelay              time.Duration
	DrainWindow             time.Duration
	LogFormat               string
	LogLevel                slog.Level
}

// Setting is one thing that can be set: by a flag, else by an environment
// variable, else by a line of the file that --config names.
type Setting struct {
	Name     string   // of the flag, without dashes
	Env      []string // variables, the first one that is set counts
	Default  string
	Argument string // what stands for the value in the help
	Help     string
	Secret   bool // the value is never shown
	set      func(c *Config, value string) error
}

const (
	// maxBytes bounds settings of sizes, so that sums of them cannot overflow.
	maxBytes = 1 << 30
	// maxCount bounds settings of numbers.
	maxCount = 1 << 30
	// minRetention and maxRetention bound for how long messages are kept, if they
	// are, and maxRetentionMessages how many of one client.
	minRetention         = time.Second
	maxRetention         = 24 * time.Hour
	maxRetentionMessages = 1_000_000
	// minSecret is the least length of a secret, in bytes.
	minSecret = 16
)

// Settings are all settings of a node, in the order in which they are shown.
func Settings() []Setting {
	all := []Setting{
		{Name: "listen", Env: []string{"PORT"}, Default: "127.0.0.1:8398", Argument: "ADDRESS",
			Help: "host:port for clients; \":8398\" listens on every interface. PORT gives the port alone, on every interface",
			set:  func(c *Config, v string) error { return setAddress(&c.Listen, v) }},
		{Name: "internal-addr", Default: "127.0.0.1:9398", Argument: "ADDRESS",
			Help: "host:port for /livez, /readyz, /metrics, /version, /fleet and /debug/pprof; \"off\" for none",
			set: func(c *Config, v string) error {
				if v == "off" {
					c.InternalAddr = ""
					return nil
				}
				return setAddress(&c.InternalAddr, v)
			}},
		{Name: "node-name", Argument: "NAME", Default: "",
			Help: "shown to clients and in logs; empty: the host's name and something random",
			set: func(c *Config, v string) error {
				if len(v) > 64 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' }) {
					return errors.New("want at most 64 visible ASCII characters")
				}
				c.NodeName = v
				return nil
			}},
		{Name: "allowed-origins", Argument: "LIST",
			Help: "origins of web pages that may connect besides those of the same host: hosts with wildcards (*.example.com), origins with a scheme, or * for all; separated by commas",
			set:  func(c *Config, v string) (err error) { c.AllowedOrigins, err = web.ParseOrigins(v); return err }},
		{Name: "max-message-bytes", Default: "65536", Argument: "BYTES",
			Help: "the longest text of a message, as written in JSON; a frame of over twice this and 4096 bytes more closes the connection",
			set:  func(c *Config, v string) error { return setInt(&c.MaxMessageBytes, v, maxBytes) }},
		{Name: "max-queue-bytes", Default: "1048576", Argument: "BYTES",
			Help: "what may be queued for a client that reads slowly before it is disconnected",
			set:  func(c *Config, v string) error { return setInt(&c.MaxQueueBytes, v, maxBytes) }},
		{Name: "rate", Default: "50", Argument: "NUMBER",
			Help: "relayed messages a second and connection; four seconds' worth may come at once, and ten times as much of what is not relayed; twenty times as many frames of any kind, for longer than ten seconds' worth, are a flood and close the connection",
			set: func(c *Config, v string) error {
				n, err := strconv.ParseFloat(v, 64)
				if err != nil || !(n >= 0 && n <= maxCount) {
					return errors.New("want a number of messages a second, 0 for no limit")
				}
				c.Rate = n
				return nil
			}},
		{Name: "idle-timeout", Default: "5m", Argument: "DURATION",
			Help: "a client that is not heard of for so long, not even by an answer to a ping, is closed",
			set:  func(c *Config, v string) error { return setDuration(&c.IdleTimeout, v) }},
		{Name: "ping-interval", Default: "25s", Argument: "DURATION",
			Help: "a silent client is pinged this often, and closed when it does not answer within 8s",
			set:  func(c *Config, v string) error { return setDuration(&c.PingInterval, v) }},
		{Name: "max-connections", Default: "0", Argument: "NUMBER",
			Help: "connections that this node takes",
			set:  func(c *Config, v string) error { return setInt(&c.MaxConnections, v, maxCount) }},
		{Name: "max-connections-per-ip", Default: "0", Argument: "NUMBER",
			Help: "connections that this node takes from one client address (IPv6: one /64 network); behind a balancer set --trusted-proxies too",
			set:  func(c *Config, v string) error { return setInt(&c.MaxConnectionsPerIP, v, maxCount) }},
		{Name: "direct-retention", Default: "30s", Argument: "DURATION",
			Help: "how long a message for one client is kept in Redis, so that a client which comes back gets what it missed; at least 1s. 0: nothing is kept, and who comes back gets its address only. The same on all nodes",
			set: func(c *Config, v string) error {
				d, err := time.ParseDuration(v)
				if err != nil || d != 0 && (d < minRetention || d > maxRetention) {
					return fmt.Errorf("want a duration from %s to %s such as 30s, 0 to keep nothing", minRetention, maxRetention)
				}
				c.DirectRetention = d
				return nil
			}},
		{Name: "direct-retention-messages", Default: "1000", Argument: "NUMBER",
			Help: "at most so many messages are kept for one client; at least 1",
			set: func(c *Config, v string) error {
				n, err := strconv.Atoi(v)
				if err != nil || n < 1 || n > maxRetentionMessages {
					return fmt.Errorf("want a whole number from 1 to %d; --direct-retention=0 keeps nothing", maxRetentionMessages)
				}
				c.DirectRetentionMessages = n
				return nil
			}},
		{Name: "fleet-secret", Argument: "LIST", Secret: true,
			Help: "signs the tokens by which clients come back under their address; the same on all nodes, at least 16 characters, without commas. To replace it, put the new one before the old one, separated by a comma, and drop the old one a day later: the first signs, all are accepted. Empty: one is made up, and a token holds for this node alone, until it ends",
			set:  setSecrets},
		{Name: "trusted-proxies", Argument: "LIST",
			Help: "addresses and networks whose X-Forwarded-For is believed, separated by commas: those of the balancer",
			set:  func(c *Config, v string) (err error) { c.TrustedProxies, err = web.ParseProxies(v); return err }},
		{Name: "drain-delay", Default: "5s", Argument: "DURATION",
			Help: "on SIGTERM: how long the node still takes clients while /readyz says 503, so that the balancer notices",
			set:  func(c *Config, v string) error { return setDuration(&c.DrainDelay, v) }},
		{Name: "drain-window", Default: "20s", Argument: "DURATION",
			Help: "then: the time over which connections are closed, evenly",
			set:  func(c *Config, v string) error { return setDuration(&c.DrainWindow, v) }},
		{Name: "log-format", Default: "text", Argument: "FORMAT", Help: "text or json",
			set: func(c *Config, v string) error {
				if c.LogFormat = v; v != "text" && v != "json" {
					return errors.New("want text or json")
				}
				return nil
			}},
		{Name: "log-level", Default: "info", Argument: "LEVEL", Help: "debug, info, warn or error",
			set: func(c *Config, v string) error {
				if c.LogLevel.UnmarshalText([]byte(v)) != nil {
					return errors.New("want debug, info, warn or error")
				}
				return nil
			}},
	}
	all = slices.Insert(all, 2, redisSettings()...) // after the addresses
	secrets := slices.IndexFunc(all, func(s Setting) bool { return s.Name == "trusted-proxies" })
	all = slices.Insert(all, secrets, slices.Concat(chatSettings(), openidSettings(), roomsSettings())...)
	for i := range all {
		s := &all[i]
		s.Env = append([]string{"PARLEY_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))}, s.Env...)
	}
	return all
}

func setAddress(p *string, v string) error {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return fmt.Errorf("want host:port, such as 127.0.0.1:8398 or :8398: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	} else {
		*p = net.JoinHostPort(host, strconv.FormatUint(n, 10))
	}
	return nil
}

func setInt(p *int, v string, most int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		return fmt.Errorf("want a whole number from 0 to %d, 0 for no limit", most)
	}
	*p = n
	return nil
}

// setSecrets reads a list of secrets. Its errors tell nothing of them.
func setSecrets(c *Config, v string) error {
	c.FleetSecrets = nil
	if v == "" {
		return nil
	}
	for secret := range strings.SplitSeq(v, ",") {
		secret = strings.TrimSpace(secret)
		if len(secret) < minSecret {
			return fmt.Errorf("want secrets of at least %d characters each, separated by commas", minSecret)
		}
		c.FleetSecrets = append(c.FleetSecrets, []byte(secret))
	}
	return nil
}

func setDuration(p *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return errors.New("want a duration such as 25s or 5m, 0 to switch it off")
	}
	*p = d
	return nil
}

// ErrHelp means that the help was asked for and has been printed.
var ErrHelp = flag.ErrHelp

// ParseConfig reads the settings from arguments, environment and file. The error
// names all that are wrong. With ErrHelp the help has been written to help.
func ParseConfig(args []string, getenv func(string) string, help io.Writer) (Config, error) {
	settings := Settings()
	var problems []error
	flags := flag.NewFlagSet("parley", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	given := map[string]string{}
	remember := func(name string) func(string) error {
		return func(v string) error { given[name] = v; return nil }
	}
	for _, s := range settings {
		flags.Func(s.Name, s.Help, remember(s.Name))
	}
	flags.Func("config", "", remember("config"))
	for rest := args; len(rest) > 0; { // one wrong argument must not hide the next
		err := flags.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			WriteHelp(help)
			return Config{}, ErrHelp
		}
		left := flags.Args()
		if err != nil {
			problems = append(problems, err)
			if len(left) == len(rest) {
				left = left[1:]
			}
		} else if len(left) > 0 {
			problems = append(problems, fmt.Errorf("unexpected argument %s", shown(left[0])))
			left = left[1:]
		}
		rest = left
	}
	file, err := readFile(first(given["config"], getenv("PARLEY_CONFIG")), settings)
	if err != nil {
		problems = append(problems, err)
	}
	var c Config
	for _, s := range settings {
		value, source := s.Default, "default"
		if v, ok := file[s.Name]; ok {
			value, source = v, "config file: "+s.Name
		}
		for i := len(s.Env) - 1; i >= 0; i-- {
			if v := getenv(s.Env[i]); v != "" {
				if value, source = v, s.Env[i]; s.Env[i] == "PORT" {
					value = ":" + v
				}
			}
		}
		if v, ok := given[s.Name]; ok {
			value, source = v, "--"+s.Name
		}
		if err := s.set(&c, value); err != nil {
			if s.Secret {
				problems = append(problems, fmt.Errorf("%s: %w", source, err))
			} else {
				problems = append(problems, fmt.Errorf("%s %s: %w", source, shown(value), err))
			}
		}
	}
	if c.MaxQueueBytes > 0 && c.MaxQueueBytes < c.MaxMessageBytes {
		problems = append(problems, fmt.Errorf("--max-queue-bytes %d is less than --max-message-bytes %d: a single message would disconnect its recipient",
			c.MaxQueueBytes, c.MaxMessageBytes))
	}
	if c.RedisURL == "" && strings.HasPrefix(c.DatabaseURL, "mysql:") {
		problems = append(problems, errors.New("--database-url: a MySQL is for nodes that share a Redis: set --redis-url too, or sqlite:path for a node alone"))
	}
	if len(problems) == 0 {
		if err := errors.Join(c.checkOpenID(), c.checkRedis()); err != nil {
			problems = append(problems, err)
		}
	}
	return c, errors.Join(problems...)
}

// shown is how a wrong value appears in an error: in quotes, but not a URL, which
// may hold a password.
func shown(value string) string {
	if strings.Contains(value, "://") {
		return "(a URL, not shown)"
	}
	return strconv.Quote(value)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// readFile reads lines of "name = value"; those that start with # are comments.
func readFile(name string, settings []Setting) (map[string]string, error) {
	if name == "" {
		return nil, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	known := map[string]bool{}
	for _, s := range settings {
		known[s.Name] = true
	}
	values := map[string]string{}
	var problems []error
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case !found:
			problems = append(problems, fmt.Errorf("%s:%d: want name = value", name, n))
		case !known[key]:
			problems = append(problems, fmt.Errorf("%s:%d: no setting is called %q", name, n, key))
		default:
			values[key] = strings.TrimSpace(value)
		}
	}
	return values, errors.Join(problems...)
}
