package embedded

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relaytest"
)

func start(t *testing.T) *Redis {
	t.Helper()
	r, err := StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client connects to url until the test ends.
func client(t *testing.T, url string, change func(*redis.Options)) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries, o.DisableIdentity = -1, 1, true
	if change != nil {
		change(o)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// It can be reached from this machine only, and with its password only.
func TestPasswordIsRequired(t *testing.T) {
	relaytest.NoLeaks(t)
	r, other := start(t), start(t)
	defer r.Close()
	defer other.Close()
	if err := client(t, r.URL(), nil).Ping(t.Context()).Err(); err != nil {
		t.Errorf("with its URL: %v", err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*redis.Options)
	}{
		{"no password", "NOAUTH", func(o *redis.Options) { o.Password = "" }},
		{"a wrong one", "WRONGPASS", func(o *redis.Options) { o.Password += "x" }},
		{"that of another", "WRONGPASS", func(o *redis.Options) {
			theirs, err := redis.ParseURL(other.URL())
			if err != nil {
				t.Fatal(err)
			}
			o.Password = theirs.Password
		}},
	} {
		err := client(t, r.URL(), c.change).Publish(t.Context(), "channel", "message").Err()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error = %v, want %s", c.name, err, c.want)
		}
	}
	o, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	if at, err := netip.ParseAddrPort(o.Addr); err != nil || !at.Addr().IsLoopback() {
		t.Errorf("listens on %q, want a loopback address", o.Addr)
	}
	if len(o.Password) < 20 {
		t.Errorf("a password of %d characters can be guessed", len(o.Password))
	}
}

// What has an expiry goes when its time has come, and nothing else does.
func TestExpiry(t *testing.T) {
	relaytest.NoLeaks(t)
	r := start(t)
	defer r.Close()
	c := client(t, r.URL(), nil)
	ctx := t.Context()
	began := time.Now()
	for key, age := range map[string]time.Duration{"short": 1500 * time.Millisecond, "long": time.Hour, "ever": 0} {
		if err := c.Set(ctx, key, "value", age).Err(); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(key string) bool {
		n, err := c.Exists(ctx, key).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	if !exists("short") {
		t.Error("gone at once")
	}
	relaytest.Eventually(t, "the key expires", func() bool { return !exists("short") })
	if took := time.Since(began); took < 1500*time.Millisecond-expiryStep {
		t.Errorf("expired after %v, more than %v too early", took, expiryStep)
	} else {
		t.Logf("expired after %v, was to after 1.5s", took.Round(time.Millisecond))
	}
	if !exists("long") || !exists("ever") {
		t.Error("what had its time before it has gone, too")
	}
}

// Close ends it with all its connections, whatever they are at.
func TestCloseLeavesNothing(t *testing.T) {
	relaytest.NoLeaks(t)
	r := start(t)
	idle, subscriber := client(t, r.URL(), nil), client(t, r.URL(), nil)
	if err := idle.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	subscription := subscriber.Subscribe(t.Context(), "channel")
	defer subscription.Close()
	if _, err := subscription.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		_, err := subscription.Receive(t.Context())
		received <- err
	}()
	r.Close()
	select {
	case err := <-received:
		if err == nil {
			t.Error("a message from nobody")
		}
	case <-time.After(relaytest.Patience):
		t.Error("a subscriber waits on")
	}
	if err := idle.Ping(t.Context()).Err(); err == nil {
		t.Error("it answers after Close")
	}
	if err := client(t, r.URL(), nil).Ping(t.Context()).Err(); err == nil {
		t.Error("it takes connections after Close")
	}
}
