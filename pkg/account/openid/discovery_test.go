package openid_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/account/openid"
	"parley/pkg/relaytest"
)

// faked is an issuer at http://localhost without a network: it says what it is, when it
// is there.
type faked struct {
	asked  atomic.Int32
	fails  atomic.Bool
	hangs  atomic.Bool // until the client has had enough
	change func(map[string]any)
}

func (f *faked) RoundTrip(r *http.Request) (*http.Response, error) {
	f.asked.Add(1)
	if f.hangs.Load() {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if f.fails.Load() {
		return nil, errors.New("connection refused")
	}
	time.Sleep(time.Second) // it takes its time
	m := map[string]any{"issuer": "http://localhost", "authorization_endpoint": "http://localhost/a", "token_endpoint": "http://localhost/t", "jwks_uri": "http://localhost/k"}
	if f.change != nil {
		f.change(m)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m)
	return w.Result(), nil
}

// handler is one in front of a faked issuer.
func (f *faked) handler(t *testing.T) http.Handler {
	t.Helper()
	all := &fleet{t: t}
	h, err := openid.New(openid.Config{Client: openid.Client{Issuer: "http://localhost", ID: clientID}, Transport: f,
		Identities: &all.identities, Values: &all.store, Meter: &all.store})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// login asks for a sign-in, and returns the status and how long it took.
func login(h http.Handler) (status int, took time.Duration) {
	began := time.Now()
	w := serve(h, openid.LoginPath, nil)
	return w.Code, time.Since(began)
}

// The issuer is asked when somebody signs in, once for all who come together, and not
// again for an hour; then whoever comes first waits, and the others do not.
func TestDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(faked)
		h := f.handler(t)
		if f.asked.Load() != 0 {
			t.Error("the issuer is asked at the start")
		}
		together := func(n int, slow int32) {
			t.Helper()
			var waited atomic.Int32
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					status, took := login(h)
					if status != http.StatusSeeOther {
						t.Errorf("%d", status)
					}
					if took > 0 {
						waited.Add(1)
					}
				})
			}
			wg.Wait()
			if waited.Load() != slow {
				t.Errorf("%d have waited for the issuer, want %d", waited.Load(), slow)
			}
		}
		together(10, 10)
		time.Sleep(time.Hour - time.Millisecond)
		together(1, 0)
		if f.asked.Load() != 1 {
			t.Errorf("the issuer was asked %d times, want once", f.asked.Load())
		}
		time.Sleep(time.Millisecond)
		together(10, 1)
		if f.asked.Load() != 2 {
			t.Errorf("the issuer was asked %d times, want twice", f.asked.Load())
		}
		// It goes away: what is known of it serves on, and it is asked each second.
		f.fails.Store(true)
		time.Sleep(time.Hour)
		together(5, 0)
		together(5, 0)
		if f.asked.Load() != 3 {
			t.Errorf("the issuer was asked %d times, want three times", f.asked.Load())
		}
		time.Sleep(time.Second)
		together(5, 0)
		if f.asked.Load() != 4 {
			t.Errorf("the issuer was asked %d times, want four times", f.asked.Load())
		}
	})
}

// An issuer that is away at first is found when it is there; until then it is asked once
// a second at most, and nobody waits for longer than five seconds.
func TestDiscoveryLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(faked)
		f.hangs.Store(true)
		h := f.handler(t)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if status, took := login(h); status != http.StatusServiceUnavailable || took != 5*time.Second {
					t.Errorf("%d after %v, want 503 after 5s", status, took)
				}
			})
		}
		wg.Wait()
		if status, took := login(h); status != http.StatusServiceUnavailable || took != 0 || f.asked.Load() != 1 {
			t.Errorf("right after it: %d after %v, and the issuer was asked %d times", status, took, f.asked.Load())
		}
		f.hangs.Store(false)
		time.Sleep(time.Second)
		if status, _ := login(h); status != http.StatusSeeOther {
			t.Errorf("when it is there: %d", status)
		}
	})
}

// A look goes on when the one who began it leaves.
func TestDiscoveryOfOneWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(faked)
		h := f.handler(t)
		r := httptest.NewRequest(http.MethodGet, openid.LoginPath, nil)
		ctx, cancel := context.WithCancel(r.Context())
		var wg sync.WaitGroup
		wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx)) })
		synctest.Wait()
		cancel()
		if status, took := login(h); status != http.StatusSeeOther || took != time.Second {
			t.Errorf("%d after %v", status, took)
		}
		wg.Wait()
	})
}

// An issuer that is reached by https has all of its endpoints there.
func TestMixedEndpoints(t *testing.T) {
	for _, endpoint := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", ""} {
		synctest.Test(t, func(t *testing.T) {
			f := &faked{change: func(m map[string]any) {
				for name := range m {
					m[name] = "https://issuer.test/x"
				}
				m["issuer"], m[endpoint] = "https://issuer.test", "http://127.0.0.1/x"
			}}
			all := &fleet{t: t}
			h, err := openid.New(openid.Config{Client: openid.Client{Issuer: "https://issuer.test", ID: clientID}, Transport: f,
				Identities: &all.identities, Values: &all.store, Meter: &all.store})
			if err != nil {
				t.Fatal(err)
			}
			w := serve(h, openid.LoginPath, nil)
			if endpoint == "" && w.Code != http.StatusSeeOther {
				t.Errorf("all by https: %d %s", w.Code, w.Body)
			}
			if endpoint != "" && (w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "not set up right")) {
				t.Errorf("%s: %d to %q", endpoint, w.Code, w.Header().Get("Location"))
			}
		})
	}
}

// Sixty-four sign-ins at once ask the issuer; one more is told to come again.
func TestTooManyAtOnce(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	b := newBrowser(t)
	more := b.begin(n, "/") // it knows the issuer from here on
	let := make(chan struct{})
	var waiting atomic.Int32
	f.identities.looked = func() {
		waiting.Add(1)
		<-let
	}
	var wg sync.WaitGroup
	var ok atomic.Int32
	for i := range 64 {
		r := httptest.NewRequest(http.MethodGet, openid.LoginPath, nil)
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, r)
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		asked := to.Query()
		cookies := w.Result().Cookies()
		wg.Go(func() {
			w := serve(n.handler, openid.CallbackPath+"?"+url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}}.Encode(), cookies)
			if w.Code == http.StatusSeeOther {
				ok.Add(1)
			}
		})
	}
	relaytest.Eventually(t, "all are under way", func() bool { return waiting.Load() == 64 })
	w := b.back(n, url.Values{"state": {more.Get("state")}, "code": {f.code(more)}})
	f.refused("one more", w, http.StatusServiceUnavailable, "Too many sign in at once")
	close(let)
	wg.Wait()
	if ok.Load() != 64 {
		t.Errorf("%d were signed in, want 64", ok.Load())
	}
}

// A browser that leaves before the end is signed in for nothing; its account is made.
func TestLeaving(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	w := serve(n.handler, openid.LoginPath, nil)
	to, err := url.Parse(w.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	asked := to.Query()
	r := httptest.NewRequest(http.MethodGet, openid.CallbackPath+"?"+url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}}.Encode(), nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	ctx, cancel := context.WithCancel(r.Context())
	f.identities.looked = cancel
	n.handler.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	f.identities.looked = nil
	if _, err := f.identities.ByIdentity(t.Context(), f.URL, "subject-1"); err != nil {
		t.Errorf("the account: %v", err)
	}
}
