package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

var errDown = fmt.Errorf("%w: the test says so", relay.ErrUnavailable)

func TestCreate(t *testing.T) {
	f := newFixture(t, 0, 0)
	u := f.alice()
	if want := (relay.User{ID: 1, Username: "alice", Email: email}); u != want {
		t.Errorf("created %+v, want %+v", u, want)
	}
	f.computed.Store(0)
	for _, c := range []struct {
		username, email string
		want            error
	}{
		{"alice", "other@example.com", relay.ErrUsernameTaken},
		{"other", strings.ToUpper(email), relay.ErrEmailTaken},
		{"alice", email, relay.ErrEmailTaken},
	} {
		if _, err := f.Create(t.Context(), c.username, c.email, password); !errors.Is(err, c.want) {
			t.Errorf("%s with %s: error = %v, want %v", c.username, c.email, err, c.want)
		}
	}
	var invalid *Invalid
	for field, args := range map[string][3]string{
		"username": {"abc", "b@example.com", password},
		"email":    {"other", "nobody", password},
		"password": {"other", "b@example.com", "123456789"},
	} {
		if _, err := f.Create(t.Context(), args[0], args[1], args[2]); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("a bad %s: error = %v", field, err)
		}
	}
	if n := f.computed.Load(); n != 0 {
		t.Errorf("%d passwords were computed for nothing", n)
	}
	f.users.Fail(errDown)
	if _, err := f.Create(t.Context(), "other", "b@example.com", password); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("without a database: error = %v, want %v", err, relay.ErrUnavailable)
	}
	if n := f.figure("parley_accounts_created_total", ""); n != 1 {
		t.Errorf("%v accounts are counted, want 1", n)
	}
}

// Of those that want the same at once, one gets it.
func TestCreateAtOnce(t *testing.T) {
	f := newFixture(t, 0, 0)
	var created, taken atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := f.Create(t.Context(), "alice", fmt.Sprintf("%d@example.com", i), password)
			switch {
			case err == nil:
				created.Add(1)
			case errors.Is(err, relay.ErrUsernameTaken):
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || taken.Load() != 49 {
		t.Errorf("%d have the name, and %d are told that it is taken; want 1 and 49", created.Load(), taken.Load())
	}
}

func TestLogin(t *testing.T) {
	f := newFixture(t, 0, 0)
	alice := f.alice()
	for _, e := range []string{email, strings.ToLower(email), strings.ToUpper(email)} {
		if u, err := f.Login(t.Context(), home, e, password); err != nil || u != alice {
			t.Errorf("%s: signed in as %+v (%v), want %+v", e, u, err, alice)
		}
	}
	if _, err := f.users.Create(t.Context(), relay.User{Username: "guest", Email: "guest@example.com"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := f.users.Create(t.Context(), relay.User{Username: "broken", Email: "broken@example.com"}, "$scrypt$"); err != nil {
		t.Fatal(err)
	}
	var invalid *Invalid
	for _, c := range []struct {
		name, email, password string
		is                    func(error) bool
	}{
		{"a wrong password", email, password + "x", func(err error) bool { return errors.Is(err, ErrLogin) }},
		{"an unknown email", "bob@example.com", password, func(err error) bool { return errors.Is(err, ErrLogin) }},
		{"no password", "guest@example.com", password, func(err error) bool { return errors.Is(err, ErrLogin) }},
		{"a password that cannot be read", "broken@example.com", password, func(err error) bool { return errors.Is(err, ErrLogin) }},
		{"a bad email", "alice", password, func(err error) bool { return errors.As(err, &invalid) && invalid.Field == "email" }},
		{"a short password", email, "guess", func(err error) bool { return errors.As(err, &invalid) && invalid.Field == "password" }},
	} {
		if u, err := f.Login(t.Context(), home, c.email, c.password); !c.is(err) || u != (relay.User{}) {
			t.Errorf("%s: %+v, error = %v", c.name, u, err)
		}
	}
	for result, want := range map[string]float64{"ok": 3, "failed": 4, "invalid": 2, "limited": 0, "busy": 0, "unavailable": 0} {
		if got := f.figure("parley_logins_total", result); got != want {
			t.Errorf("%v sign-ins are counted as %s, want %v", got, result, want)
		}
	}
	if got := f.figure("parley_password_seconds", ""); got != 8 {
		t.Errorf("%v passwords were timed, want 8", got)
	}
}

// Who does not exist, who has no password and who has another one cost the same work,
// and look the same.
func TestLoginDoesTheSameWork(t *testing.T) {
	f := newFixture(t, 10, 10)
	f.alice()
	for username, kept := range map[string]string{"guest": "", "broken": "x"} {
		if _, err := f.users.Create(t.Context(), relay.User{Username: username, Email: username + "@example.com"}, kept); err != nil {
			t.Fatal(err)
		}
	}
	var works, errs []string
	for _, e := range []string{email, "bob@example.com", "guest@example.com", "broken@example.com"} {
		f.work = nil
		err := f.login(e, "guess guess")
		works, errs = append(works, strings.Join(f.work, "; ")), append(errs, fmt.Sprintf("%T %v", err, err))
		if n := f.store.Count(failureKey("account", strings.ToLower(e))); n != 1 {
			t.Errorf("%s: %d failures are counted, want 1", e, n)
		}
	}
	if want := fmt.Sprint(1<<costLog, blockSize, parallel, saltBytes, hashBytes); works[0] != want {
		t.Errorf("a wrong password costs %q, want %q", works[0], want)
	}
	if len(slices.Compact(works)) != 1 || len(slices.Compact(errs)) != 1 {
		t.Errorf("they can be told apart: %q %q", works, errs)
	}
}

// limited fails the test unless an error says to come back within the window.
func limited(t *testing.T, err error) {
	t.Helper()
	var l *Limited
	if !errors.As(err, &l) || l.Wait <= 0 || l.Wait > FailureWindow {
		t.Errorf("error = %v, want to be told how long to wait", err)
	}
}

func TestFailuresPerAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 3, 0)
		f.alice()
		for range 10 { // what succeeds does not count
			if err := f.login(email, password); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 3 {
			if _, err := f.Login(t.Context(), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), email, "guess guess"); !errors.Is(err, ErrLogin) {
				t.Errorf("guess %d: error = %v, want %v", i, err, ErrLogin)
			}
		}
		before := f.computed.Load()
		limited(t, f.login(email, "guess guess"))
		limited(t, f.login(strings.ToUpper(email), password)) // right, but who knows
		if f.computed.Load() != before {
			t.Error("a password was looked at after the last guess")
		}
		if err := f.login("bob@example.com", "guess guess"); !errors.Is(err, ErrLogin) {
			t.Errorf("another account: error = %v, want %v", err, ErrLogin)
		}
		time.Sleep(FailureWindow - time.Second)
		limited(t, f.login(email, password))
		time.Sleep(time.Second)
		if err := f.login(email, password); err != nil {
			t.Errorf("after the window: %v", err)
		}
		if got := f.figure("parley_logins_total", "limited"); got != 3 {
			t.Errorf("%v sign-ins are counted as limited, want 3", got)
		}
	})
}

func TestFailuresPerAddress(t *testing.T) {
	f := newFixture(t, 2, 3)
	f.alice()
	guess := func(address, email string) error {
		_, err := f.Login(t.Context(), netip.MustParseAddr(address), email, "guess guess")
		return err
	}
	failed := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrLogin) {
			t.Errorf("error = %v, want %v", err, ErrLogin)
		}
	}
	failed(guess("192.0.2.1", "a@example.com"))
	failed(guess("192.0.2.1", "a@example.com"))
	for range 5 { // the account's limit: nothing was guessed
		limited(t, guess("192.0.2.1", "a@example.com"))
	}
	failed(guess("::ffff:192.0.2.1", "b@example.com"))
	limited(t, guess("192.0.2.1", "c@example.com"))
	if n := f.store.Count(failureKey("account", "c@example.com")); n != 0 {
		t.Errorf("%d failures of an account that nobody tried, want 0", n)
	}
	if _, err := f.Login(t.Context(), home, email, password); err == nil {
		t.Error("signed in from an address that has failed too often")
	}
	failed(guess("192.0.2.2", "c@example.com"))
	for i := range 3 {
		failed(guess(fmt.Sprintf("2001:db8:0:1::%x", i+1), fmt.Sprintf("%d@example.org", i)))
	}
	limited(t, guess("2001:db8:0:1:ffff::", "d@example.com"))
	failed(guess("2001:db8:0:2::1", "d@example.com"))
	for i := range 3 { // clients without an address are one
		_, err := f.Login(t.Context(), netip.Addr{}, fmt.Sprintf("%d@example.net", i), "guess guess")
		failed(err)
	}
	_, err := f.Login(t.Context(), netip.Addr{}, "e@example.com", "guess guess")
	limited(t, err)
}

// Guesses that come together count like those that come one by one.
func TestParallelGuesses(t *testing.T) {
	f := newFixture(t, 5, 0)
	f.alice()
	f.computed.Store(0)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { _ = f.login(email, "guess guess") })
	}
	wg.Wait()
	if n := f.computed.Load(); n != 5 {
		t.Errorf("%d guesses were looked at, want 5", n)
	}
}

// What fails for another reason than the password is no failure; a guess is, also
// when nobody waits for the answer.
func TestWhatCountsAsFailure(t *testing.T) {
	f := newFixture(t, 3, 3)
	f.alice()
	counts := func(want int64) {
		t.Helper()
		account, address := f.store.Count(failureKey("account", strings.ToLower(email))), f.store.Count(failureKey("address", network(home)))
		if account != want || address != want {
			t.Errorf("%d failures of the account and %d of the address are counted, want %d", account, address, want)
		}
	}
	f.users.Fail(errDown)
	if err := f.login(email, password); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("without a database: error = %v, want %v", err, relay.ErrUnavailable)
	}
	f.users.Fail(nil)
	counts(0)

	full := f.pool.line
	f.pool.line = make(chan struct{})
	if err := f.login(email, password); !errors.Is(err, ErrBusy) {
		t.Errorf("too many at once: error = %v, want %v", err, ErrBusy)
	}
	f.pool.line = full
	counts(0)

	// left signs in, or tries to, as a client that goes while its password is computed.
	left := func(password string) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f.pool.key = func(p, salt []byte, cost, blockSize, parallel, length int) ([]byte, error) {
			cancel()
			return f.cheap(p, salt, cost, blockSize, parallel, length)
		}
		_, err := f.Login(ctx, home, email, password)
		return err
	}
	if err := left("guess guess"); !errors.Is(err, ErrLogin) {
		t.Errorf("a guess whose client has gone: error = %v, want %v", err, ErrLogin)
	}
	counts(1)
	if err := left(password); err != nil {
		t.Errorf("the right password of a client that has gone: %v", err)
	}
	counts(1)
	f.pool.key = f.cheap
	if err := f.login(email, password); err != nil {
		t.Error(err)
	}
	counts(1)

	f.store.Fail(errDown)
	before := f.computed.Load()
	if err := f.login(email, password); !errors.Is(err, relay.ErrUnavailable) || f.computed.Load() != before {
		t.Errorf("without Redis: error = %v, want %v and no look at the password", err, relay.ErrUnavailable)
	}
	for result, want := range map[string]float64{"ok": 2, "failed": 1, "busy": 1, "unavailable": 2} {
		if got := f.figure("parley_logins_total", result); got != want {
			t.Errorf("%v sign-ins are counted as %s, want %v", got, result, want)
		}
	}
}

// Who is counted cannot be read from the keys.
func TestFailureKeys(t *testing.T) {
	f := newFixture(t, 3, 3)
	_ = f.login(email, "guess guess")
	keys := f.store.Keys()
	if len(keys) != 2 {
		t.Errorf("keys %q, want two", keys)
	}
	for _, key := range keys {
		if len(key) != len("login/account/")+64 || strings.Contains(key, "192") || strings.Contains(strings.ToLower(key), "alice") {
			t.Errorf("the key %q", key)
		}
	}
}
