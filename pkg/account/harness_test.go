package account

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/account/accounttest"
	"parley/pkg/relay"
)

// fixture is Accounts in memory, whose passwords cost next to nothing.
type fixture struct {
	*Accounts
	t         *testing.T
	users     accounttest.Users
	store     accounttest.Store
	publisher accounttest.Publisher
	log       logged
	computed  atomic.Int32 // passwords
	mu        sync.Mutex
	work      []string // what was computed: parameters and lengths
}

// logged is what was logged.
type logged struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

var home = netip.MustParseAddr("192.0.2.1")

const (
	email    = "Alice@Example.com"
	password = "correct horse battery"
)

func newFixture(t *testing.T, perAccount, perAddress int) *fixture {
	f := &fixture{t: t}
	f.Accounts = New(Config{Users: &f.users, Values: &f.store, Meter: &f.store, Publisher: &f.publisher,
		FailuresPerAccount: perAccount, FailuresPerAddress: perAddress,
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	f.pool.key = f.cheap
	t.Cleanup(func() { // whatever the test did, nothing secret is in the log, nor an email
		for _, secret := range []string{"alice@", password, "correct", "guess"} {
			if strings.Contains(strings.ToLower(f.log.String()), secret) {
				t.Errorf("the log has %q:\n%s", secret, f.log.String())
			}
		}
	})
	return f
}

// cheap stands in for scrypt.
func (f *fixture) cheap(password, salt []byte, cost, blockSize, parallel, length int) ([]byte, error) {
	f.computed.Add(1)
	f.mu.Lock()
	f.work = append(f.work, fmt.Sprint(cost, blockSize, parallel, len(salt), length))
	f.mu.Unlock()
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d %d", password, salt, cost, blockSize, parallel))
	return sum[:length], nil
}

// alice makes an account.
func (f *fixture) alice() relay.User {
	f.t.Helper()
	u, err := f.Create(f.t.Context(), "alice", email, password)
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

// login tries to sign in from a client at home.
func (f *fixture) login(email, password string) error {
	_, err := f.Login(f.t.Context(), home, email, password)
	return err
}

// figure is one of the metrics, by its name and the value of its label.
func (f *fixture) figure(name, label string) float64 {
	f.t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(f.Metrics().Collectors()...)
	families, err := r.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == name && (label == "" || m.Label[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	f.t.Fatalf("no metric %s of %q", name, label)
	return 0
}
