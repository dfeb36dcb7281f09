package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/embedded"
	"parley/pkg/hub"
	"parley/pkg/park"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/sqlstore"
	"parley/pkg/web"
)

// patience bounds what a test waits for; nothing is expected to take long.
const patience = 20 * time.Second

// fleet is nodes on one Redis and one database, and users with a session each.
type fleet struct {
	t        *testing.T
	redis    string
	database string
	store    *sqlstore.Store
	nodes    []*node
	users    map[string]*person
	log      *logged
}

// person is a user with a session.
type person struct {
	relay.User
	token string
}

// node is one of a fleet.
type node struct {
	*Server
	t        *testing.T
	addr     string
	bus      *redisbus.Bus
	accounts *account.Accounts
	lot      *park.Lot
	stop     func() // as a node does that ends; once
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

// options change what nodes of a fleet are made with.
type options struct {
	nodes    int
	redis    string // URL; "": one in memory
	database string // URL; "": a file
	config   func(*Config)
	deps     func(node int, d *Deps)
	admit    conn.Config
}

const messageBytes = 200

func newFleet(t *testing.T, o options) *fleet {
	t.Helper()
	if o.redis == "" { // else whoever has started that looks for leaks
		relaytest.NoLeaks(t)
	}
	f := &fleet{t: t, redis: o.redis, users: map[string]*person{}, log: &logged{}, database: "sqlite:" + filepath.Join(t.TempDir(), "parley.db")}
	if o.redis == "" {
		r, err := embedded.StartRedis()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		f.redis = r.URL()
	}
	var err error
	if o.database != "" {
		f.database = o.database
	}
	if f.store, err = sqlstore.Open(t.Context(), sqlstore.Options{URL: f.database}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.store.Close(); err != nil {
			t.Error(err)
		}
	})
	for i := range max(1, o.nodes) {
		f.nodes = append(f.nodes, f.start(o, i))
	}
	for _, name := range []string{"alice", "bobby", "carol", "dave"} {
		f.join(name)
	}
	t.Cleanup(func() {
		for _, p := range f.users {
			if strings.Contains(f.log.String(), p.token) || strings.Contains(f.log.String(), p.Email) {
				t.Errorf("a token or an email of %s is in the log", p.Username)
			}
		}
	})
	return f
}

// join makes a user and signs it in.
func (f *fleet) join(name string) *person {
	f.t.Helper()
	u, err := f.store.Users().Create(f.t.Context(), relay.User{Username: name, Email: name + "@example.com"}, "")
	if err != nil {
		f.t.Fatal(err)
	}
	p := &person{User: u}
	f.users[name] = p
	p.token = f.session(p)
	return p
}

// session opens another one of a user.
func (f *fleet) session(p *person) (token string) {
	f.t.Helper()
	token, _, err := f.nodes[0].accounts.Open(f.t.Context(), p.User)
	if err != nil {
		f.t.Fatal(err)
	}
	return token
}

// start starts a node.
func (f *fleet) start(o options, i int) *node {
	f.t.Helper()
	t := f.t
	log := slog.New(slog.NewTextHandler(io.MultiWriter(f.log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
	bus, err := redisbus.New(redisbus.Options{URL: f.redis, Node: fmt.Sprint("node-", i), Log: slog.New(slog.DiscardHandler),
		Keeps: func(t relay.Topic) bool { return strings.HasPrefix(string(t), relay.UserTopics) }})
	if err != nil {
		t.Fatal(err)
	}
	o.admit.Log = log
	group := conn.NewGroup(o.admit, conn.NewMetrics())
	h := hub.New(bus, group)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := bus.Run(ctx, h); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	values := bus.Values()
	n := &node{t: t, bus: bus, lot: park.New(patience)}
	n.accounts = account.New(account.Config{Users: f.store.Users(), Values: values, Meter: values, Publisher: bus, FailuresPerAccount: 3, Log: log})
	origins, err := web.ParseOrigins("https://app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{MaxMessageBytes: messageBytes, Origins: origins, Log: log}
	if o.config != nil {
		o.config(&cfg)
	}
	deps := Deps{
		Accounts: n.accounts, Directory: f.store.Directory(), Friends: f.store.Friends(), Groups: f.store.Groups(), Posts: f.store.Posts(), Outbox: f.store.Outbox(),
		Inbox: bus.Inbox(NoticeRetention.Age), Meter: values, Publisher: bus, Hub: h, Loops: group, Admission: group, Lot: n.lot,
	}
	if o.deps != nil {
		o.deps(i, &deps)
	}
	n.Server = New(cfg, deps)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	server := &http.Server{Handler: n.Server, ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	for _, l := range []net.Listener{l, n.lot.Listener(l.Addr())} {
		wg.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	n.stop = sync.OnceFunc(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		n.lot.Close()
		group.Close()
		n.Server.Close()
		cancel()
		wg.Wait()
	})
	t.Cleanup(n.stop)
	return n
}

// request is one on its way.
type request struct {
	t      *testing.T
	what   string
	answer chan *answered
}

// answered is an answer that was read.
type answered struct {
	*http.Response
	text string
	err  error
}

// ask sends a request to a node; the answer is waited for by its get.
func (n *node) ask(token, method, path, body string, header ...string) *request {
	n.t.Helper()
	r := &request{t: n.t, what: method + " " + path, answer: make(chan *answered, 1)}
	nc, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\nHost: chat.example\r\n", method, path)
	if token != "" {
		fmt.Fprintf(&text, "Authorization: Bearer %s\r\n", token)
	}
	typed := false
	for _, line := range header {
		text.WriteString(line + "\r\n")
		typed = typed || strings.HasPrefix(line, "Content-Type:")
	}
	if body != "" {
		if !typed {
			text.WriteString("Content-Type: application/json\r\n")
		}
		fmt.Fprintf(&text, "Content-Length: %d\r\n", len(body))
	}
	text.WriteString("\r\n" + body)
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		n.t.Fatal(err)
	}
	if _, err := io.WriteString(nc, text.String()); err != nil {
		n.t.Fatal(err)
	}
	go func() {
		defer nc.Close()
		a := &answered{}
		a.Response, a.err = http.ReadResponse(bufio.NewReader(nc), &http.Request{Method: method})
		if a.err == nil {
			var b []byte
			b, a.err = io.ReadAll(a.Body)
			a.text = strings.TrimSuffix(string(b), "\n")
		}
		r.answer <- a
	}()
	return r
}

// get waits for the answer.
func (r *request) get() *answered {
	r.t.Helper()
	a := <-r.answer
	if a.err != nil {
		r.t.Fatalf("%s: %v", r.what, a.err)
	}
	return a
}

// open tells whether there is no answer yet.
func (r *request) open() bool { return len(r.answer) == 0 }

// expect waits for an answer and compares it.
func (r *request) expect(status int, text string) *answered {
	r.t.Helper()
	a := r.get()
	if a.StatusCode != status || text != "" && a.text != text {
		r.t.Errorf("%s: %d %s, want %d %s", r.what, a.StatusCode, a.text, status, text)
	}
	return a
}

// parked waits until a node has so many polls parked.
func (n *node) parked(want int) {
	n.t.Helper()
	relaytest.Eventually(n.t, fmt.Sprintf("%d polls are parked", want), func() bool { return n.lot.Len() == want })
}

// write has one user write to another.
func (f *fleet) write(n *node, from, to, text string) string {
	f.t.Helper()
	a := n.ask(f.users[from].token, "POST", fmt.Sprint("/Users/", f.users[to].ID), fmt.Sprintf(`{"name":%q,"message":%q}`, from, text)).expect(http.StatusCreated, "")
	return a.text
}

// decode reads JSON.
func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
