package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/pkg/protocol/chat"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

func TestDefaults(t *testing.T) {
	c, err := ParseConfig(nil, env(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:8398" || c.RedisURL != "" || c.MaxMessageBytes != 64<<10 || c.MaxQueueBytes != 1<<20 ||
		c.Rate != 50 || c.IdleTimeout != 5*time.Minute || c.PingInterval != 25*time.Second || c.MaxConnections != 0 {
		t.Errorf("%+v", c)
	}
}

// A flag counts before the environment, and that before the file.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parley.conf")
	text := "# a comment\n\nrate = 1\nmax-connections=1\n  idle-timeout = 1s  \n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig([]string{"--rate=3"}, env("PARLEY_CONFIG", file, "PARLEY_RATE", "2", "PARLEY_MAX_CONNECTIONS", "2"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Rate != 3 || c.MaxConnections != 2 || c.IdleTimeout != time.Second {
		t.Errorf("rate %v, max-connections %d, idle-timeout %s", c.Rate, c.MaxConnections, c.IdleTimeout)
	}
	c, err = ParseConfig(nil, env("PORT", "8080", "REDIS_URL", "redis://a:1"), io.Discard)
	if err != nil || c.Listen != ":8080" || c.RedisURL != "redis://a:1" {
		t.Errorf("listen %s, redis %s, %v", c.Listen, c.RedisURL, err)
	}
	c, err = ParseConfig(nil, env("PORT", "8080", "PARLEY_LISTEN", "127.0.0.1:1", "REDIS_URL", "redis://a:1", "PARLEY_REDIS_URL", "redis://b:1"), io.Discard)
	if err != nil || c.Listen != "127.0.0.1:1" || c.RedisURL != "redis://b:1" {
		t.Errorf("the variables named after Parley count first: listen %s, redis %s, %v", c.Listen, c.RedisURL, err)
	}
}

func TestFileErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parley.conf")
	if err := os.WriteFile(file, []byte("rate\nno-such = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ParseConfig([]string{"--config", file}, env(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), ":1:") || !strings.Contains(err.Error(), `:2: no setting is called "no-such"`) {
		t.Errorf("error: %v", err)
	}
	if _, err := ParseConfig([]string{"--config", file + ".missing"}, env(), io.Discard); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error: %v", err)
	}
}

// Every setting refuses nonsense, and takes its own default.
func TestEverySetting(t *testing.T) {
	for _, s := range Settings() {
		var c Config
		if err := s.set(&c, s.Default); err != nil {
			t.Errorf("--%s refuses its default: %v", s.Name, err)
		}
		if s.Help == "" || s.Argument == "" || len(s.Env) == 0 {
			t.Errorf("--%s is not described", s.Name)
		}
	}
	for setting, values := range map[string][]string{
		"listen":                     {"x", "1.2.3.4", ":99999", ":http"},
		"redis-url":                  {"http://x", "redis://h:port", "redis://h/notanumber", "redis+sentinel://h", "redis+cluster://h/1"},
		"redis-wait-replicas":        {"-1", "101", "x"},
		"redis-wait-timeout":         {"0", "999us", "1501ms", "x"},
		"node-name":                  {"a b", "ä", strings.Repeat("x", 65)},
		"allowed-origins":            {"example.com/path", "https://a/b"},
		"max-message-bytes":          {"-1", "1.5", "64K", "1073741825"},
		"rate":                       {"-1", "NaN", "x", "Inf"},
		"idle-timeout":               {"5", "-5m", "x"},
		"trusted-proxies":            {"10.0.0.0/33", "localhost"},
		"log-format":                 {"", "JSON"},
		"log-level":                  {"loud"},
		"max-connections-per-ip":     {"x"},
		"direct-retention":           {"-1s", "999ms", "24h1s", "30", "x"},
		"direct-retention-messages":  {"0", "-1", "1000001", "x"},
		"database-url":               {"postgres://a/b", "mysql://", "mysql://u:p@h:99999/db", "sqlite:", "parley.db"},
		"chat-rooms":                 {"", "a", "a=", "=A", "a=A,", "a=A,a=B", "ä=A", "a b=A", "a=A\x07", strings.Repeat("x", 65) + "=A", "a=" + strings.Repeat("é", 101), strings.Join(roomList(101), ",")},
		"chat-room-length":           {"0", "-1", "10000001", "x"},
		"login-failures-per-account": {"-1", "x"},
		"rooms-max-clients":          {"-1", "x", "1073741825"},
		"room-ttl":                   {"0", "999ms", "720h1s", "x"},
		"rooms-api-token":            {"fifteen-letters", strings.Repeat("x", 513), "sixteen letters."},
		"login-failures-per-address": {"-1", "x"},
		"fleet-secret":               {"123456789012345", "1234567890123456,", "1234567890123456,short", ","},
	} {
		for _, v := range values {
			if _, err := ParseConfig([]string{"--" + setting + "=" + v}, env(), io.Discard); err == nil {
				t.Errorf("--%s=%s was taken", setting, v)
			} else if !strings.Contains(err.Error(), "--"+setting) {
				t.Errorf("--%s=%s: the error does not name it: %v", setting, v, err)
			}
		}
	}
}

// roomList is n rooms.
func roomList(n int) (rooms []string) {
	for i := range n {
		rooms = append(rooms, fmt.Sprintf("r%d=Room %d", i, i))
	}
	return rooms
}

func TestChatRooms(t *testing.T) {
	long := strings.Repeat("x", 64) + "=" + strings.Repeat("é", 100)
	c, err := ParseConfig([]string{"--chat-rooms", " a=The = sign , B-2_c=Küche," + long}, env(), io.Discard)
	want := []chat.RoomConfig{{ID: "a", Name: "The = sign"}, {ID: "B-2_c", Name: "Küche"}, {ID: long[:64], Name: long[65:]}}
	if err != nil || !slices.Equal(c.ChatRooms, want) {
		t.Errorf("%v, %v", c.ChatRooms, err)
	}
	if c, err = ParseConfig([]string{"--chat-rooms", strings.Join(roomList(100), ",")}, env(), io.Discard); err != nil || len(c.ChatRooms) != 100 {
		t.Errorf("%d rooms, %v", len(c.ChatRooms), err)
	}
}

func TestDatabaseURLStaysSecret(t *testing.T) {
	_, err := ParseConfig([]string{"--database-url=mysql://u:hunter2@h:x/db"}, env(), io.Discard)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func TestHelp(t *testing.T) {
	var b strings.Builder
	if _, err := ParseConfig([]string{"--rate=x", "-h"}, env(), &b); !errors.Is(err, ErrHelp) {
		t.Fatal(err)
	}
	for _, s := range Settings() {
		if !strings.Contains(b.String(), "--"+s.Name+" ") {
			t.Errorf("the help does not have --%s", s.Name)
		}
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > 90 {
			t.Errorf("a line of %d bytes: %s", len(line), line)
		}
	}
}

// The limits of what is kept, at their edges.
func TestRetention(t *testing.T) {
	for value, want := range map[string]time.Duration{"0": 0, "1s": time.Second, "24h": 24 * time.Hour} {
		c, err := ParseConfig([]string{"--direct-retention=" + value}, env(), io.Discard)
		if err != nil || c.DirectRetention != want {
			t.Errorf("--direct-retention=%s is %s, %v", value, c.DirectRetention, err)
		}
	}
	for value, want := range map[string]int{"1": 1, "1000000": 1_000_000} {
		c, err := ParseConfig([]string{"--direct-retention-messages=" + value}, env(), io.Discard)
		if err != nil || c.DirectRetentionMessages != want {
			t.Errorf("--direct-retention-messages=%s is %d, %v", value, c.DirectRetentionMessages, err)
		}
	}
}

// Secrets are read from a list, and no error and no help shows one.
func TestSecrets(t *testing.T) {
	const one, two = "0123456789abcdef", "another secret: é and spaces"
	c, err := ParseConfig(nil, env("PARLEY_FLEET_SECRET", one+" , "+two), io.Discard)
	if err != nil || len(c.FleetSecrets) != 2 || string(c.FleetSecrets[0]) != one || string(c.FleetSecrets[1]) != two {
		t.Errorf("%d secrets, %v", len(c.FleetSecrets), err)
	}
	const short = "xyzzy-too-short"
	file := filepath.Join(t.TempDir(), "parley.conf")
	if err := os.WriteFile(file, []byte("fleet-secret = "+short+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		second(ParseConfig([]string{"--fleet-secret=" + one + "," + short}, env(), io.Discard)),
		second(ParseConfig([]string{"--fleet-secret", short}, env(), io.Discard)),
		second(ParseConfig(nil, env("PARLEY_FLEET_SECRET", short), io.Discard)),
		second(ParseConfig([]string{"--config", file}, env(), io.Discard)),
	} {
		if err == nil || strings.Contains(err.Error(), "xyzzy") || strings.Contains(err.Error(), one) {
			t.Errorf("error: %v", err)
		} else if text := strings.ToLower(err.Error()); !strings.Contains(strings.ReplaceAll(text, "_", "-"), "fleet-secret") {
			t.Errorf("the error does not name the setting: %v", err)
		}
	}
}

func second(_ Config, err error) error { return err }

// What the settings of Redis say together.
func TestRedisSettings(t *testing.T) {
	c, err := ParseConfig([]string{"--redis-url=redis+sentinel://a,b/main", "--redis-wait-replicas=1", "--redis-wait-timeout=1500ms", "--redis-username=u"},
		env("PARLEY_REDIS_PASSWORD", "sesame"), io.Discard)
	if err != nil || c.RedisWaitReplicas != 1 || c.RedisWaitTimeout != 1500*time.Millisecond || c.RedisCredentials.Username != "u" || c.RedisCredentials.Password != "sesame" {
		t.Errorf("%+v, %v", c.RedisCredentials, err)
	}
	for args, want := range map[string]string{
		"--redis-wait-replicas=1":                          "--redis-url",
		"--redis-url=rediss://a --redis-ca-file=/no/such":  "--redis-ca-file",
		"--redis-url=redis://a --redis-ca-file=config.go":  "rediss",
		"--redis-url=rediss://a --redis-ca-file=config.go": "PEM",
	} {
		if _, err := ParseConfig(strings.Fields(args), env(), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error = %v, want one that says %s", args, err, want)
		}
	}
}
