package node

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	clientjs "parley/client-js"
	"parley/pkg/relaytest"
)

const (
	apiToken     = "Bearer the-token-of-the-tests"
	foreignPage  = "https://evil.test"
	allowedPage  = "https://app.example"
	unknownAgent = "203.0.113."
)

// unprovoked are the described answers that no test can have a node give: failures that
// are mistakes in the program, or of the system.
var unprovoked = []string{
	"listRooms 500", "createRoom 500", "getRoom 500", "deleteRoom 500", "summary 500",
	"createAccount 500", "login 500", "logout 500",
	"metrics 500", "profile 500",
}

// All that is described happens, and what happens is as described.
func TestContract(t *testing.T) {
	c := described(t)
	t.Run("rooms", c.rooms)
	t.Run("sockets", c.sockets)
	t.Run("accounts", c.accounts)
	t.Run("REST", c.rest)
	t.Run("REST too fast", c.restTooFast)
	t.Run("OpenID Connect", c.logins)
	t.Run("files", c.files)
	t.Run("operators", c.operators)
	t.Run("Redis is away", c.redisAway)
	t.Run("no database", c.noDatabase)
	if t.Failed() {
		return
	}
	for id, op := range c.ops {
		for _, status := range op.statuses() {
			what := id + " " + status
			cannot := slices.Contains(unprovoked, what) || (op.isREST() || op.isLogin()) && status == "500"
			if c.seen[what] == cannot {
				t.Errorf("%s: seen %v, though it can not be provoked: %v", what, c.seen[what], cannot)
			}
			delete(c.seen, what)
		}
	}
	for what := range c.seen {
		t.Errorf("%s was seen and is not described", what)
	}
}

func (c *contract) rooms(t *testing.T) {
	n := startNode(t, "--rooms-api-token="+strings.TrimPrefix(apiToken, "Bearer "), "--allowed-origins=app.example")
	ready(t, n)
	token, foreign := header("Authorization", apiToken), header("Origin", foreignPage)
	c.want(t, 200, n, "listRooms", "", token)
	var made struct{ Data struct{ ID int32 } }
	a := c.want(t, 200, n, "createRoom", "", token, body(`{"max_clients":7}`))
	if err := json.Unmarshal([]byte(a.text), &made); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprint(made.Data.ID)
	for _, wrong := range []string{"", "{", `{"max_clients":0}`, `{"max_clients":2000000000}`} {
		c.want(t, 400, n, "createRoom", "", token, body(wrong))
	}
	c.want(t, 403, n, "createRoom", "", token, foreign, body(`{"max_clients":7}`))
	c.want(t, 200, n, "listRooms", "", token)
	c.want(t, 200, n, "getRoom", id, token)
	c.want(t, 200, n, "summary", "", token)
	for _, op := range []string{"getRoom", "deleteRoom"} {
		c.want(t, 400, n, op, "x", token)
		c.want(t, 400, n, op, "2147483648", token)
		c.want(t, 404, n, op, "-1", token)
	}
	c.want(t, 403, n, "deleteRoom", id, token, foreign)
	for _, op := range []string{"listRooms", "createRoom", "getRoom", "deleteRoom", "summary"} {
		c.want(t, 401, n, op, id)
		c.want(t, 401, n, op, id, header("Authorization", apiToken+"x"))
	}
	c.want(t, 200, n, "deleteRoom", id, token)
	c.want(t, 404, n, "deleteRoom", id, token)
	c.want(t, 404, n, "getRoom", id, token)
	if a := c.want(t, 200, n, "summary", "", token, header("Origin", allowedPage)); a.Header.Get("Access-Control-Allow-Origin") != allowedPage {
		t.Errorf("an allowed page: %v", a.Header)
	}
}

// sockets are admitted, and refused for every reason.
func (c *contract) sockets(t *testing.T) {
	n := startNode(t, "--max-connections=2", "--max-connections-per-ip=1", "--trusted-proxies=127.0.0.0/8")
	ready(t, n)
	last := 0
	from := func(address int) edit { return header("X-Forwarded-For", unknownAgent+fmt.Sprint(address)) }
	for _, op := range []string{"roomsSocket", "textoSocket", "chatSocket"} {
		last += 3
		c.want(t, 426, n, op, "", from(last))
		c.want(t, 400, n, op, "", from(last), handshake, header("Sec-WebSocket-Version", "12"))
		c.want(t, 400, n, op, "", from(last), handshake, header("Sec-WebSocket-Key", "x"))
		c.want(t, 403, n, op, "", from(last), handshake, header("Origin", foreignPage))
		c.want(t, 403, n, op, "", from(last), header("Origin", "null"))
		one := c.want(t, 101, n, op, "", from(last), handshake)
		c.want(t, 429, n, op, "", from(last), handshake)
		c.want(t, 429, n, op, "", from(last))
		two := c.want(t, 101, n, op, "", from(last+1), handshake)
		c.want(t, 503, n, op, "", from(last+2), handshake)
		c.want(t, 503, n, op, "", from(last+2))
		one.Body.Close()
		two.Body.Close()
		eventually(t, "the connections have ended", func() bool { return n.group.Len() == 0 })
	}
}

func (c *contract) accounts(t *testing.T) {
	n := startNode(t, "--login-failures-per-account=1")
	ready(t, n)
	foreign := header("Origin", foreignPage)
	account := func(name string) string {
		return fmt.Sprintf(`{"username":%q,"email":"%s@example.com","password":%q}`, name, name, chatPassword)
	}
	c.want(t, 204, n, "createAccount", "", body(account("alice")))
	for _, wrong := range []string{account("alice"), account("x"), "{}", ""} {
		c.want(t, 400, n, "createAccount", "", body(wrong))
	}
	c.want(t, 403, n, "createAccount", "", body(account("carol")), foreign)
	right := fmt.Sprintf(`{"email":"alice@example.com","password":%q}`, chatPassword)
	a := c.want(t, 204, n, "login", "", body(right))
	c.want(t, 403, n, "login", "", body(right), foreign)
	wrong := strings.ReplaceAll(right, chatPassword, "another password")
	c.want(t, 400, n, "login", "", body(wrong))
	c.want(t, 400, n, "login", "", body("[]"))
	c.want(t, 429, n, "login", "", body(wrong))
	cookie, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	c.want(t, 403, n, "logout", "", foreign, header("Cookie", cookie))
	c.want(t, 204, n, "logout", "", header("Cookie", cookie))
	c.want(t, 204, n, "logout", "")
}

func (c *contract) files(t *testing.T) {
	n := startNode(t)
	ready(t, n)
	c.want(t, 200, n, "health", "")
	for _, op := range []string{"description", "app", "file"} {
		a := c.want(t, 200, n, op, "")
		tag := a.Header.Get("ETag")
		c.want(t, 304, n, op, "", header("If-None-Match", tag))
		c.want(t, 200, n, op, "", header("If-None-Match", `"0"`))
		c.want(t, 206, n, op, "", header("Range", "bytes=0-9"))
		c.want(t, 416, n, op, "", header("Range", "bytes=1000000-"))
		c.want(t, 412, n, op, "", header("If-Match", `"0"`))
		if op == "description" && a.text != openAPI {
			t.Error("another description is served")
		}
	}
	for _, wrong := range []string{"missing", "app", "embed.go", "a/b"} {
		c.want(t, 404, n, "file", wrong)
	}
}

func (c *contract) operators(t *testing.T) {
	n := startNode(t)
	ready(t, n)
	for _, op := range []string{"live", "ready", "metrics", "version", "fleet", "profiles", "profile"} {
		c.want(t, 200, n, op, "")
	}
	c.want(t, 200, n, "profile", "cmdline")
	c.want(t, 200, n, "profile", "heap", query("debug=1"))
	c.want(t, 404, n, "profile", "missing")
	c.want(t, 400, n, "profile", "heap", query("seconds=x"))
}

func (c *contract) redisAway(t *testing.T) {
	redis := relaytest.StartRedis(t)
	n := startNode(t, "--redis-url="+redis.URL(), "--database-url=sqlite:"+t.TempDir()+"/parley.db")
	ready(t, n)
	a := c.want(t, 204, n, "createAccount", "", body(`{"username":"alice","email":"alice@example.com","password":"`+chatPassword+`"}`))
	redis.Kill()
	eventually(t, "the node knows", func() bool { return n.Ready() != nil })
	for _, op := range []string{"listRooms", "getRoom", "deleteRoom", "summary", "health", "ready", "fleet"} {
		c.want(t, 503, n, op, "")
	}
	c.want(t, 503, n, "createRoom", "", body(`{"max_clients":7}`))
	c.restAway(t, n, strings.TrimPrefix(strings.SplitN(a.Header.Get("Set-Cookie"), ";", 2)[0], "sid="))
	c.want(t, 503, n, "createAccount", "", body(`{"username":"bobby","email":"bobby@example.com","password":"`+chatPassword+`"}`))
	c.want(t, 503, n, "login", "", body(`{"email":"alice@example.com","password":"`+chatPassword+`"}`))
	cookie, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	c.want(t, 503, n, "logout", "", header("Cookie", cookie))
	c.want(t, 200, n, "live", "")
}

func (c *contract) noDatabase(t *testing.T) {
	n := startNode(t, "--redis-url="+relaytest.StartRedis(t).URL())
	ready(t, n)
	c.want(t, 503, n, "chatSocket", "", handshake)
	for _, op := range []string{"createAccount", "login", "logout"} {
		c.want(t, 503, n, op, "", body(`{}`))
	}
	for id, op := range c.ops {
		if op.isREST() || op.isLogin() {
			c.want(t, 503, n, id, "")
		}
	}
}

// What is below /v1/ and /api/ and not described is refused in the form of the rest.
func TestContractMethods(t *testing.T) {
	c := described(t)
	n := startNode(t, "--allowed-origins=app.example")
	ready(t, n)
	allowed := map[string][]string{}
	for _, op := range c.ops {
		if strings.HasPrefix(op.path, "/v1/api/") || strings.HasPrefix(op.path, "/api/") && op.path != "/api/ws" {
			allowed[op.path] = append(allowed[op.path], op.method)
			if op.method == http.MethodGet {
				allowed[op.path] = append(allowed[op.path], http.MethodHead)
			}
		}
	}
	ask := func(method, path string, edits ...edit) *answer {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range edits {
			e(r)
		}
		a, err := contractClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		return &answer{a, ""}
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		path = strings.ReplaceAll(path, "{id}", "7")
		asks := header("Access-Control-Request-Method", methods[0])
		if a := ask("OPTIONS", path, asks, header("Origin", allowedPage)); a.StatusCode != 204 || a.Header.Get("Access-Control-Allow-Methods") != strings.Join(methods, ", ") {
			t.Errorf("the browser of an allowed page asks for %s: %s %v, want %q allowed", path, a.Status, a.Header, methods)
		}
		if a := ask("OPTIONS", path, asks, header("Origin", foreignPage)); a.StatusCode != 403 || a.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("the browser of another page asks for %s: %s %v, want 403", path, a.Status, a.Header)
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			if slices.Contains(methods, method) {
				continue
			}
			if a := ask(method, path); a.StatusCode != 405 || a.Header.Get("Allow") != strings.Join(methods, ", ") || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %s, Allow %q, want 405 with %q", method, path, a.Status, a.Header.Get("Allow"), methods)
			}
		}
	}
	for _, method := range []string{"HEAD", "POST", "DELETE"} {
		if a := ask(method, "/v1/websocket"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s /v1/websocket: %s, Allow %q, want 405 with GET", method, a.Status, a.Header.Get("Allow"))
		}
	}
	for _, path := range []string{"/v1", "/v1/", "/v1/other", "/v1/api", "/v1/api/rooms/7/x", "/api/", "/api/other"} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
			if a := ask(method, path); a.StatusCode != 404 || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %s %v, want 404 in JSON", method, path, a.Status, a.Header)
			}
		}
	}
}

// Whatever is mounted on a port of a node is described, and what is described is mounted.
func TestContractRoutes(t *testing.T) {
	c := described(t)
	n := startNode(t)
	ports := map[bool]*routes{}
	for internal, h := range map[bool]http.Handler{false: n.handler, true: n.internalMux()} {
		r, ok := h.(*routes)
		if !ok || len(r.mounted) < 6 {
			t.Fatalf("internal %v: %T, which does not tell what is mounted", internal, h)
		}
		ports[internal] = r
	}
	for internal, port := range ports {
		for _, m := range port.mounted {
			for _, route := range mountedRoutes(t, m) {
				if !c.describes(internal, m.pattern, route) {
					t.Errorf("internal %v: %s is mounted, and not described", internal, route)
				}
			}
		}
	}
	for id, op := range c.ops {
		r := httptest.NewRequest(op.method, op.target(t, n, "").Path, nil)
		_, pattern := ports[op.internal].Handler(r)
		i := slices.IndexFunc(ports[op.internal].mounted, func(m mount) bool { return m.pattern == pattern })
		if i < 0 {
			t.Errorf("%s: nothing is mounted at %s", id, op.path)
			continue
		}
		all := mountedRoutes(t, ports[op.internal].mounted[i])
		if !slices.ContainsFunc(all, func(route string) bool { return op.is(route) }) {
			t.Errorf("%s: %s %s is not among what is mounted at %s: %s", id, op.method, op.path, pattern, all)
		}
	}
}

// mountedRoutes are what a handler answers, as "METHOD /path", or "/path" when the
// methods are not known.
func mountedRoutes(t *testing.T, m mount) []string {
	t.Helper()
	switch {
	case m.pattern == "/":
		all := []string{"GET /"}
		files, err := fs.ReadDir(clientjs.Files, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			all = append(all, "GET /"+f.Name())
		}
		return all
	case m.pattern == "/debug/pprof/":
		return []string{m.pattern, "/debug/pprof/heap"}
	}
	if lister, ok := m.handler.(interface{ Routes() []string }); ok {
		return lister.Routes()
	}
	if m.pattern == "/v1" || strings.HasSuffix(m.pattern, "/") {
		t.Fatalf("%s: %T has no Routes", m.pattern, m.handler)
	}
	return []string{m.pattern}
}

// is tells whether the operation describes a route: literally, or by placeholders. OPTIONS
// belongs to every path.
func (op *operation) is(route string) bool {
	method, path, ok := strings.Cut(route, " ")
	if !ok {
		method, path = op.method, route
	}
	if method != op.method && op.method != http.MethodOptions {
		return false
	}
	described, parts := strings.Split(op.path, "/"), strings.Split(path, "/")
	return len(described) == len(parts) && !slices.ContainsFunc(parts, func(part string) bool {
		d := described[0]
		described = described[1:]
		return part != d && (!strings.HasPrefix(d, "{") || part == "")
	})
}

// describes tells whether some operation does so. What is mounted on its own is no file.
func (c *contract) describes(internal bool, pattern, route string) bool {
	for _, op := range c.ops {
		if op.internal == internal && op.is(route) && (op.path != "/{file}" || pattern == "/") {
			return true
		}
	}
	return false
}
