package chat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// signIn is a SignIn that does as it is told, and notes with what it was called.
type signIn struct {
	err     error
	panics  any
	address netip.Addr
	given   []string
}

func (s *signIn) called(given ...string) error {
	s.given = given
	if s.panics != nil {
		panic(s.panics)
	}
	return s.err
}

func (s *signIn) Create(_ context.Context, username, email, password string) (relay.User, error) {
	return relay.User{ID: 1}, s.called(username, email, password)
}

func (s *signIn) Login(_ context.Context, address netip.Addr, email, password string) (relay.User, error) {
	s.address = address
	return relay.User{ID: 1}, s.called(email, password)
}

func (s *signIn) Open(context.Context, relay.User) (string, account.Session, error) {
	return strings.Repeat("A", 43), account.Session{}, nil
}

func (s *signIn) End(_ context.Context, token string) error { return s.called(token) }

// apiOn is the HTTP half on s, and what it logs.
func apiOn(s SignIn) (http.Handler, *bytes.Buffer) {
	var log bytes.Buffer
	return NewAPI(APIConfig{Accounts: s, Log: slog.New(slog.NewTextHandler(&log, nil))}), &log
}

func postTo(h http.Handler, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// failure is what an answer says that failed; the test fails when it says so in
// another form.
func failure(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var told map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || len(told) != 2 || told["id"] == "" || told["message"] == "" {
		t.Errorf("%d %q (%v), want an id and a message", w.Code, w.Body.String(), err)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" || len(w.Result().Cookies()) != 0 {
		t.Errorf("the headers of a failure: %v", w.Header())
	}
	return told["id"]
}

const aliceBody = `{"username":"alice","email":"alice@example.com","password":"password one"}`

func TestAPIErrors(t *testing.T) {
	away := fmt.Errorf("asking: %w: no connection", relay.ErrUnavailable)
	for _, c := range []struct {
		err    error
		status int
		id     string
		retry  string
		logged string
	}{
		{account.ErrLogin, 400, "LOGIN_FAILED", "", ""},
		{fmt.Errorf("x: %w", relay.ErrEmailTaken), 400, "EMAIL_EXISTS", "", ""},
		{fmt.Errorf("x: %w", relay.ErrUsernameTaken), 400, "USERNAME_EXISTS", "", ""},
		{&account.Invalid{Field: "email", Reason: "x"}, 400, "BAD_REQUEST", "", ""},
		{&account.Limited{Wait: time.Millisecond}, 429, "TOO_MANY_REQUESTS", "1", ""},
		{&account.Limited{Wait: 2*time.Second + 1}, 429, "TOO_MANY_REQUESTS", "3", ""},
		{account.ErrBusy, 503, "UNAVAILABLE", "5", "level=WARN"},
		{away, 503, "UNAVAILABLE", "1", "level=WARN"},
		{relay.ErrClosed, 503, "UNAVAILABLE", "1", "level=WARN"},
		{errors.New("who knows"), 500, "INTERNAL", "", "level=ERROR"},
	} {
		for _, path := range []string{"/api/create-account", "/api/login"} {
			h, log := apiOn(&signIn{err: c.err})
			w := postTo(h, path, aliceBody)
			if id := failure(t, w); w.Code != c.status || id != c.id || w.Header().Get("Retry-After") != c.retry {
				t.Errorf("%s, %v: %d %s, retry after %q; want %d %s, %q", path, c.err, w.Code, id, w.Header().Get("Retry-After"), c.status, c.id, c.retry)
			}
			if c.logged == "" && log.Len() > 0 || strings.Count(log.String(), "\n") > 1 || !strings.Contains(log.String(), c.logged) {
				t.Errorf("%s, %v: logged %q, want %q", path, c.err, log.String(), c.logged)
			}
			if strings.Contains(w.Body.String(), "who knows") || strings.Contains(w.Body.String(), "no connection") {
				t.Errorf("%s: the client is told %s", path, w.Body.String())
			}
		}
	}
}

// A client that has gone is not Redis being away.
func TestAPIClientGone(t *testing.T) {
	h, log := apiOn(&signIn{err: relay.ErrUnavailable})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest(http.MethodPost, "/api/login", strings.NewReader(aliceBody)).WithContext(ctx)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if id := failure(t, w); id != "UNAVAILABLE" || log.Len() != 0 {
		t.Errorf("%s, logged %q", id, log.String())
	}
}

// A panic harms one request.
func TestAPIPanics(t *testing.T) {
	for _, path := range []string{"/api/create-account", "/api/login"} {
		h, log := apiOn(&signIn{panics: "the test says so"})
		w := postTo(h, path, aliceBody)
		if id := failure(t, w); w.Code != 500 || id != "INTERNAL" {
			t.Errorf("%s: %d %s, want 500 INTERNAL", path, w.Code, id)
		}
		for _, part := range []string{"level=ERROR", "the test says so", "api_test.go"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: %q is not in the log: %s", path, part, log.String())
			}
		}
		if strings.Contains(log.String(), "alice") || strings.Contains(log.String(), "password one") {
			t.Errorf("%s: a secret is in the log: %s", path, log.String())
		}
	}
	defer func() {
		if p := recover(); p != any(http.ErrAbortHandler) { //nolint:errorlint // it is panicked with as it is
			t.Errorf("recovered %v, want the server to abort", p)
		}
	}()
	h, _ := apiOn(&signIn{panics: http.ErrAbortHandler})
	postTo(h, "/api/login", aliceBody)
}

// The server's writer of cookies leaves none behind when what follows panics.
func TestAPIPanicSetsNoCookie(t *testing.T) {
	h, _ := apiOn(&signIn{})
	w := &panicking{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodPost, "/api/login", strings.NewReader(aliceBody))
	r.Header.Set("Content-Type", "application/json")
	h.ServeHTTP(w, r)
	if id := failure(t, w.ResponseRecorder); id != "INTERNAL" {
		t.Errorf("%s, want INTERNAL", id)
	}
}

// panicking panics at the first status that is written.
type panicking struct {
	*httptest.ResponseRecorder
	done bool
}

func (p *panicking) WriteHeader(status int) {
	if !p.done {
		p.done = true
		panic("the test says so")
	}
	p.ResponseRecorder.WriteHeader(status)
}

// A body that breaks off is the client's mistake.
func TestAPIBodyBreaksOff(t *testing.T) {
	s := &signIn{}
	h, log := apiOn(s)
	r := httptest.NewRequest(http.MethodPost, "/api/login", io.MultiReader(strings.NewReader(aliceBody), brokenReader{}))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if id := failure(t, w); w.Code != 400 || id != "BAD_REQUEST" || s.given != nil || log.Len() != 0 {
		t.Errorf("%d %s, called with %q, logged %q", w.Code, id, s.given, log.String())
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzAPIBody sends any body: what is accepted is what any reader of JSON finds in it,
// and all else is a failure in the usual form.
func FuzzAPIBody(f *testing.F) {
	for _, body := range []string{aliceBody, `{"email":"a","password":"b"}`, `{"email":"\ud83d\ude42\u0000","password":"<>&"}`, `{"EMAIL":"a","Password":"b","email":"c"}`,
		`{"email":null,"password":7}`, `[]`, `null`, `{`, "{\"email\":\"\xff\"}", strings.Repeat("[", 20000)} {
		f.Add(body, true)
		f.Add(body, false)
	}
	f.Fuzz(func(t *testing.T, body string, creates bool) {
		s := &signIn{}
		h, log := apiOn(s)
		path := "/api/login"
		if creates {
			path = "/api/create-account"
		}
		w := postTo(h, path, body)
		if log.Len() > 0 {
			t.Errorf("logged: %s", log.String())
		}
		if w.Code != http.StatusNoContent {
			if id := failure(t, w); w.Code != http.StatusBadRequest || id != "BAD_REQUEST" || s.given != nil {
				t.Errorf("%d %s, called with %q", w.Code, id, s.given)
			}
			return
		}
		if w.Body.Len() != 0 || len(w.Result().Cookies()) != 1 || len(body) > maxAPIBody || !utf8.ValidString(body) {
			t.Errorf("accepted with %q and %v", w.Body.String(), w.Header())
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(body), &fields); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		for _, given := range s.given {
			found := false
			for _, value := range fields {
				found = found || value == any(given)
			}
			if !found && len(fields) >= len(s.given) {
				t.Errorf("%q is not in %q", given, body)
			}
		}
	})
}
