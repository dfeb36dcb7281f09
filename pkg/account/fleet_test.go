package account_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/account"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/sqlstore"
)

const (
	email    = "alice@example.com"
	password = "correct horse battery"
)

func slogTo(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// node is one node's accounts on a Redis and a database that it shares, and what it
// hears.
type node struct {
	*account.Accounts
	*relaytest.Recorder
}

func newNode(t *testing.T, name, redisURL, databaseURL string) *node {
	t.Helper()
	bus, err := redisbus.New(redisbus.Options{URL: redisURL, Node: name, Log: slogTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	heard, _ := relaytest.Run(t, bus)
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: databaseURL, Log: slogTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := bus.Subscribe(t.Context(), account.RevokedTopic); err != nil {
		t.Fatal(err)
	}
	values := bus.Values()
	return &node{account.New(account.Config{Users: store.Users(), Values: values, Meter: values, Publisher: bus,
		FailuresPerAccount: 3, FailuresPerAddress: 10, Log: slogTo(t)}), heard}
}

// Nodes on one Redis and one database: an account of one is an account of all, and so
// is a session, its end, and what fails.
func TestFleet(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	database := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	a, b := newNode(t, "a", r.URL(), database), newNode(t, "b", r.URL(), database)
	ctx, home := t.Context(), netip.MustParseAddr("192.0.2.1")

	alice, err := a.Create(ctx, "alice", email, password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "other", strings.ToUpper(email), password); !errors.Is(err, relay.ErrEmailTaken) {
		t.Errorf("an email that an account of another node has: error = %v, want %v", err, relay.ErrEmailTaken)
	}
	if u, err := b.Login(ctx, home, strings.ToUpper(email), password); err != nil || u != alice {
		t.Errorf("signed in on another node as %+v (%v), want %+v", u, err, alice)
	}
	token, opened, err := b.Open(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	found, err := a.Session(ctx, token)
	if err != nil || found.Key != opened.Key || found.User != alice || !found.Expires.Equal(opened.Expires) {
		t.Errorf("the session on another node is %+v (%v), want %+v", found, err, opened)
	}
	if left, err := r.Client().PTTL(ctx, "parley:v:"+opened.Key).Result(); err != nil || left > account.SessionLife || left < account.SessionLife-time.Hour {
		t.Errorf("redis forgets the session in %v (%v), want %v", left, err, account.SessionLife)
	}
	if err := a.End(ctx, token); err != nil {
		t.Error(err)
	}
	if standing, err := b.Standing(ctx, opened.Key); err != nil || standing[0] {
		t.Errorf("a session that has ended stands: %v (%v)", standing, err)
	}
	for _, n := range []*node{a, b} {
		relaytest.Eventually(t, "the end of the session is told", func() bool { return n.Count(account.RevokedTopic) == 1 })
		if got := string(n.Events(account.RevokedTopic)[0].Message.Body); got != opened.Key {
			t.Errorf("told of the end of %q, want %q", got, opened.Key)
		}
	}

	// Guesses on both nodes at once: three in all are looked at.
	var failed, limited atomic.Int32
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			_, err := []*node{a, b}[i%2].Login(ctx, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), email, fmt.Sprint("guess number ", i))
			var l *account.Limited
			switch {
			case errors.Is(err, account.ErrLogin):
				failed.Add(1)
			case errors.As(err, &l) && l.Wait > 0 && l.Wait <= account.FailureWindow:
				limited.Add(1)
			default:
				t.Errorf("guess %d: error = %v", i, err)
			}
		})
	}
	wg.Wait()
	if failed.Load() != 3 || limited.Load() != 9 {
		t.Errorf("%d guesses have failed, and %d were refused; want 3 and 9", failed.Load(), limited.Load())
	}
	keys, err := r.Client().Keys(ctx, "parley:[vc]:*").Result()
	if err != nil || len(keys) == 0 {
		t.Errorf("keys: %q, %v", keys, err)
	}
	for _, key := range keys {
		if strings.Contains(key, "alice") || strings.Contains(key, "10.0.0") {
			t.Errorf("the key %q tells who it is", key)
		}
		if left, err := r.Client().PTTL(ctx, key).Result(); err != nil || left <= 0 {
			t.Errorf("the key %q expires in %v (%v)", key, left, err)
		}
	}

	r.Kill()
	if _, err := a.Login(ctx, home, email, password); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("without Redis: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if _, err := a.Session(ctx, token); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("without Redis: error = %v, want %v", err, relay.ErrUnavailable)
	}
}

// Many who want the same name at once, on two nodes: one has it.
func TestFleetOneName(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	database := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	nodes := []*node{newNode(t, "a", r.URL(), database), newNode(t, "b", r.URL(), database)}
	var created, taken atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, err := nodes[i%2].Create(t.Context(), "alice", fmt.Sprintf("%d@example.com", i), password)
			switch {
			case err == nil:
				created.Add(1)
			case errors.Is(err, relay.ErrUsernameTaken):
				taken.Add(1)
			default:
				t.Errorf("error = %v", err)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || taken.Load() != 7 {
		t.Errorf("%d have the name, and %d are told that it is taken; want 1 and 7", created.Load(), taken.Load())
	}
}
