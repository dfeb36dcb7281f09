package account

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// opened is a session with its token.
func (f *fixture) opened(u relay.User) (string, Session) {
	f.t.Helper()
	token, s, err := f.Open(f.t.Context(), u)
	if err != nil {
		f.t.Fatal(err)
	}
	return token, s
}

func (f *fixture) standing(keys ...string) []bool {
	f.t.Helper()
	standing, err := f.Standing(f.t.Context(), keys...)
	if err != nil {
		f.t.Fatal(err)
	}
	return standing
}

func TestSession(t *testing.T) {
	f := newFixture(t, 0, 0)
	alice := f.alice()
	token, opened := f.opened(alice)
	if left := time.Until(opened.Expires); left > SessionLife || left < SessionLife-time.Hour {
		t.Errorf("it expires in %v, want %v", left, SessionLife)
	}
	found, err := f.Session(t.Context(), token)
	if err != nil || found.Key != opened.Key || found.User != alice || !found.Expires.Equal(opened.Expires) {
		t.Errorf("found %+v (%v), want %+v", found, err, opened)
	}
	again, another := f.opened(alice)
	if again == token || another.Key == opened.Key {
		t.Error("two sessions have one token, or one key")
	}
	if got := f.standing(another.Key, "session/none", opened.Key); !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("standing: %v", got)
	}
	if err := f.End(t.Context(), token); err != nil {
		t.Error(err)
	}
	if _, err := f.Session(t.Context(), token); !errors.Is(err, ErrNoSession) {
		t.Errorf("after its end: error = %v, want %v", err, ErrNoSession)
	}
	if got := f.standing(opened.Key, another.Key); !slices.Equal(got, []bool{false, true}) {
		t.Errorf("standing: %v", got)
	}
	if err := f.End(t.Context(), token); err != nil {
		t.Errorf("ending it again: %v", err)
	}
	sent := f.publisher.Sent()
	if len(sent) != 1 || sent[0].Topic != RevokedTopic || string(sent[0].Body) != opened.Key {
		t.Errorf("told: %+v, want the end of one session", sent)
	}
}

// A session lasts for seven days, and no longer.
func TestSessionExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 0, 0)
		token, s := f.opened(relay.User{ID: 1, Username: "alice"})
		time.Sleep(7*24*time.Hour - time.Second)
		if _, err := f.Session(t.Context(), token); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if _, err := f.Session(t.Context(), token); !errors.Is(err, ErrNoSession) {
			t.Errorf("error = %v, want %v", err, ErrNoSession)
		}
		if f.standing(s.Key)[0] {
			t.Error("it stands")
		}
	})
}

// What is no token is looked up nowhere.
func TestBadTokens(t *testing.T) {
	f := newFixture(t, 0, 0)
	token, s := f.opened(relay.User{ID: 1})
	f.store.Fail(errDown)
	for _, bad := range []string{"", "x", token[1:], token + "A", token[:42] + "=", token[:42] + "+", strings.Repeat("é", 43), s.Key, token[:42] + "B", "\n" + token} {
		if bad == token {
			continue
		}
		if _, err := f.Session(t.Context(), bad); !errors.Is(err, ErrNoSession) {
			t.Errorf("%q: error = %v, want %v", bad, err, ErrNoSession)
		}
		if err := f.End(t.Context(), bad); err != nil {
			t.Errorf("ending %q: %v", bad, err)
		}
	}
}

// Who reads Redis learns no token.
func TestTokensAreSecret(t *testing.T) {
	f := newFixture(t, 0, 0)
	token, s := f.opened(relay.User{ID: 1, Username: "alice"})
	values, err := f.store.Get(t.Context(), s.Key)
	if err != nil || values[0] == nil {
		t.Fatal(err)
	}
	if strings.Contains(s.Key, token) || bytes.Contains(values[0], []byte(token)) || strings.Contains(f.log.String(), token) {
		t.Errorf("the token %s is in %s, %s or the log", token, s.Key, values[0])
	}
	if !strings.HasPrefix(s.Key, "session/") || len(s.Key) != len("session/")+64 || !isToken(token) {
		t.Errorf("the key is %q, the token %q", s.Key, token)
	}
	if err := f.End(t.Context(), token); err != nil {
		t.Error(err)
	}
	if strings.Contains(f.log.String(), token) {
		t.Error("the token is in the log")
	}
}

func TestSessionsWithoutRedis(t *testing.T) {
	f := newFixture(t, 0, 0)
	token, s := f.opened(relay.User{ID: 1})
	f.store.Fail(errDown)
	if _, _, err := f.Open(t.Context(), relay.User{ID: 1}); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Open: error = %v", err)
	}
	if _, err := f.Session(t.Context(), token); !errors.Is(err, relay.ErrUnavailable) || errors.Is(err, ErrNoSession) {
		t.Errorf("Session: error = %v", err)
	}
	if _, err := f.Standing(t.Context(), s.Key); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Standing: error = %v", err)
	}
	if err := f.End(t.Context(), token); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("End: error = %v", err)
	}
	f.store.Fail(nil)
	if !f.standing(s.Key)[0] {
		t.Error("a session that could not be ended has ended")
	}
	// It has ended, even if nobody hears of it.
	f.publisher.Fail(errDown)
	if err := f.End(t.Context(), token); err != nil || f.standing(s.Key)[0] {
		t.Errorf("End: %v, and it stands: %v", err, f.standing(s.Key)[0])
	}
}

// The end of a session is told, also when its client does not wait for it.
func TestEndIsToldAnyway(t *testing.T) {
	f := newFixture(t, 0, 0)
	token, _ := f.opened(relay.User{ID: 1})
	ctx, cancel := context.WithCancel(t.Context())
	f.cfg.Values = leaving{&f.store, cancel}
	if err := f.End(ctx, token); err != nil {
		t.Error(err)
	}
	if len(f.publisher.Sent()) != 1 {
		t.Error("nobody was told")
	}
}

// leaving are values whose client goes as soon as something was deleted.
type leaving struct {
	relay.Values
	leave func()
}

func (l leaving) Delete(ctx context.Context, key string) (bool, error) {
	was, err := l.Values.Delete(ctx, key)
	l.leave()
	return was, err
}

// A session that another version of the program has written: what it adds is passed
// over, and what is no session is none.
func TestSessionValues(t *testing.T) {
	f := newFixture(t, 0, 0)
	token, s := f.opened(relay.User{ID: 1})
	for value, ok := range map[string]bool{
		`{"id":7,"username":"alice","email":"","opened":1,"expires":2,"more":[1]}`: true,
		`{}`: false, ``: false, `[]`: false, `{"id":"7"}`: false, "\xff": false,
	} {
		if err := f.store.Put(t.Context(), s.Key, []byte(value), time.Hour); err != nil {
			t.Fatal(err)
		}
		found, err := f.Session(t.Context(), token)
		if ok && (err != nil || found.User.ID != 7 || found.User.Username != "alice") {
			t.Errorf("%s: %+v (%v)", value, found, err)
		}
		if !ok && !errors.Is(err, ErrNoSession) {
			t.Errorf("%s: error = %v, want %v", value, err, ErrNoSession)
		}
	}
}
