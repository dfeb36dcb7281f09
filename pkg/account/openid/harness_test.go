package openid_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/account"
	"parley/pkg/account/accounttest"
	"parley/pkg/account/openid"
	"parley/pkg/relay"
)

// identities are relay.Identities in memory.
type identities struct {
	accounttest.Users
	mu    sync.Mutex
	ids   map[string]int64
	names []string // usernames that were tried
	// before is called before an account is made, and refuse is what is answered then.
	before func()
	refuse error
	// looked is called when an account is looked for.
	looked func()
}

func (d *identities) ByIdentity(ctx context.Context, issuer, subject string) (relay.User, error) {
	if d.looked != nil {
		d.looked()
	}
	d.mu.Lock()
	id, ok := d.ids[issuer+" "+subject]
	d.mu.Unlock()
	if !ok {
		id = -1
	}
	return d.ByID(ctx, id)
}

func (d *identities) CreateWithIdentity(ctx context.Context, u relay.User, issuer, subject string) (relay.User, error) {
	if d.before != nil {
		d.before()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = append(d.names, u.Username)
	if d.refuse != nil {
		return relay.User{}, d.refuse
	}
	if _, ok := d.ids[issuer+" "+subject]; ok {
		return relay.User{}, relay.ErrIdentityTaken
	}
	u, err := d.Create(ctx, u, "")
	if err == nil {
		if d.ids == nil {
			d.ids = map[string]int64{}
		}
		d.ids[issuer+" "+subject] = u.ID
	}
	return u, err
}

// fleet is what nodes share, and an issuer.
type fleet struct {
	*issuer
	t          *testing.T
	identities identities
	store      accounttest.Store
	log        logged
}

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

func newFleet(t *testing.T) *fleet {
	f := &fleet{issuer: newIssuer(t), t: t}
	t.Cleanup(func() { // whatever the test did
		f.learned("the log", f.log.String())
		if strings.Contains(strings.ToLower(f.log.String()), "alice@") {
			t.Errorf("the log has an email:\n%s", f.log.String())
		}
	})
	return f
}

// node is one node of a fleet, behind HTTP.
type node struct {
	*httptest.Server
	handler *openid.Handler
	cfg     openid.Config
}

func (f *fleet) node(change ...func(*openid.Config)) *node {
	f.t.Helper()
	cfg := openid.Config{
		Client:     openid.Client{Issuer: f.URL, ID: clientID, Secret: clientSecret, Scopes: []string{"openid", "email"}},
		Identities: &f.identities, Values: &f.store, Meter: &f.store,
		Sessions: account.New(account.Config{Users: &f.identities, Values: &f.store, Meter: &f.store, Publisher: new(accounttest.Publisher)}),
		Log:      slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	h, err := openid.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	n := &node{Server: httptest.NewServer(h), handler: h, cfg: cfg}
	f.t.Cleanup(n.Close)
	return n
}

// count is how many sign-ins have ended in a way.
func (n *node) count(t *testing.T, result string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(n.handler.Metrics().Collectors()...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == result {
			return m.GetCounter().GetValue()
		}
	}
	t.Errorf("no sign-in is counted as %s", result)
	return 0
}

// browser keeps cookies and follows nothing by itself.
type browser struct {
	t      *testing.T
	jar    http.CookieJar
	accept string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, jar: jar, accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
}

// reply is an answer that was read.
type reply struct {
	*http.Response
	body string
}

func (b *browser) get(address string) reply {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.accept != "" {
		r.Header.Set("Accept", b.accept)
	}
	return b.do(r)
}

func (b *browser) do(r *http.Request) reply {
	b.t.Helper()
	client := http.Client{Jar: b.jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.Body.Close()
	body, err := io.ReadAll(w.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return reply{w, string(body)}
}

// begin starts a sign-in, and returns what the issuer is asked.
func (b *browser) begin(n *node, redirect string) url.Values {
	b.t.Helper()
	w := b.get(n.URL + openid.LoginPath + "?" + url.Values{"redirect": {redirect}}.Encode())
	if w.StatusCode != http.StatusSeeOther {
		b.t.Fatalf("login: %s %s", w.Status, w.body)
	}
	to, err := w.Location()
	if err != nil {
		b.t.Fatal(err)
	}
	return to.Query()
}

// back comes back from the issuer with a query.
func (b *browser) back(n *node, query url.Values) reply {
	b.t.Helper()
	return b.get(n.URL + openid.CallbackPath + "?" + query.Encode())
}

// signIn does all of it.
func (b *browser) signIn(f *fleet, n *node, redirect string) reply {
	b.t.Helper()
	asked := b.begin(n, redirect)
	return b.back(n, url.Values{"state": {asked.Get("state")}, "code": {f.code(asked)}})
}

// sid is the session's cookie that a reply sets.
func (r reply) sid() string {
	for _, c := range r.Cookies() {
		if c.Name == account.CookieName {
			return c.Value
		}
	}
	return ""
}

// signedIn fails the test unless a reply ends a sign-in well, and returns who it is.
func (f *fleet) signedIn(r reply, redirect string) relay.User {
	f.t.Helper()
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != redirect || r.sid() == "" {
		f.t.Fatalf("%s, to %q, want %q; %s", r.Status, r.Header.Get("Location"), redirect, r.body)
	}
	sessions := account.New(account.Config{Values: &f.store})
	s, err := sessions.Session(f.t.Context(), r.sid())
	if err != nil {
		f.t.Fatal(err)
	}
	return s.User
}

// refused fails the test unless a reply is a page with a status and a text, and nothing
// else.
func (f *fleet) refused(what string, r reply, status int, text string) {
	f.t.Helper()
	if r.StatusCode != status || !strings.Contains(r.body, text) {
		f.t.Errorf("%s: %s, want %d and %q:\n%s", what, r.Status, status, text, r.body)
	}
	if r.sid() != "" || r.Header.Get("Location") != "" {
		f.t.Errorf("%s: a session is opened, or the browser goes to %q", what, r.Header.Get("Location"))
	}
	if kind := r.Header.Get("Content-Type"); kind != "text/html; charset=utf-8" {
		f.t.Errorf("%s: Content-Type is %q", what, kind)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
		if got := r.Header.Get(name); got != want {
			f.t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	if strings.Contains(r.body, "<script") || !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		f.t.Errorf("%s: the page may run scripts", what)
	}
	f.learned("the page", r.body)
}

// failure is an error as JSON.
func failure(t *testing.T, r reply) (code, message string) {
	t.Helper()
	var body struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s is no JSON: %v", r.Header.Get("Content-Type"), r.body, err)
	}
	return body.Error.Code, body.Error.Message
}

var errDown = fmt.Errorf("%w: the test says so", relay.ErrUnavailable)
