package rooms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"parley/pkg/relay"
)

func TestAPIRooms(t *testing.T) {
	a := newAPITest(t, "", "")
	const one, two = `{"id":1,"secret":1001,"max_clients":6,"current_clients":0,"room_status":"RUNNING"}`,
		`{"id":2,"secret":1002,"max_clients":1,"current_clients":3,"room_status":"RUNNING"}`
	checkAPI(t, "no rooms", a.ask("GET", "/v1/api/rooms", ""), 200, `[]`)
	checkAPI(t, "no rooms", a.ask("GET", "/v1/api/summary", ""), 200, `{"number_of_rooms":0,"max_clients":100,"current_clients":0,"committed_clients":0}`)
	checkAPI(t, "a room", a.ask("POST", "/v1/api/rooms", `{"max_clients":6}`), 200, one)
	a.ask("POST", "/v1/api/rooms", `{"max_clients":1}`)
	a.rooms.rooms[2] = relay.Room{ID: 2, Secret: 1002, MaxClients: 1, Clients: 3}
	checkAPI(t, "it", a.ask("GET", "/v1/api/rooms/1", ""), 200, one)
	checkAPI(t, "both", a.ask("GET", "/v1/api/rooms?any=thing", ""), 200, "["+one+","+two+"]")
	checkAPI(t, "both", a.ask("GET", "/v1/api/summary", ""), 200, `{"number_of_rooms":2,"max_clients":100,"current_clients":3,"committed_clients":15}`)
	checkAPI(t, "the end", a.ask("DELETE", "/v1/api/rooms/1", ""), 200, "")
	for _, method := range []string{"GET", "DELETE"} {
		checkAPIFailure(t, method+" after the end", a.ask(method, "/v1/api/rooms/1", ""), 404, "no such room")
	}
	checkAPI(t, "the other one", a.ask("GET", "/v1/api/rooms", ""), 200, "["+two+"]")
	if a.log.Len() > 0 {
		t.Errorf("logged: %s", a.log.String())
	}
}

func TestAPICreate(t *testing.T) {
	a := newAPITest(t, "", "")
	a.rooms.max = math.MaxInt64
	for body, want := range map[string]string{
		`{"max_clients":1}`: `1`, `{"max_clients":10000}`: `10000`, " {\n\"max_clients\" : 7 }\r\n": `7`,
		`{"max_clients":3,"more":{"deep":[]}}`:                                         `3`,
		`{"max_clients":4}` + strings.Repeat(" ", maxAPIBody-len(`{"max_clients":4}`)): `4`,
	} {
		w := a.ask("POST", "/v1/api/rooms", body)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"max_clients":`+want+",") {
			t.Errorf("%.40q: %d %s, want max_clients %s", body, w.Code, w.Body, want)
		}
	}
	made := len(a.rooms.rooms)
	for body, words := range map[string]string{
		"": "JSON", "{": "JSON", "x": "JSON", `{"max_clients":5}x`: "JSON", `{"max_clients":5}{}`: "JSON", `{"max_clients":5,}`: "JSON", "{\"\xff\":1}": "JSON",
		`{"max_clients":05}`: "JSON", `{"max_clients":+5}`: "JSON", `{"max_clients":NaN}`: "JSON",
		"null": "missing", "{}": "missing", `{"max_clients":null}`: "missing", `{"maxClients":5}`: "missing",
		"5": "type", "[]": "type", `[{"max_clients":5}]`: "type", `"max_clients"`: "type", "true": "type",
		`{"max_clients":"5"}`: "type", `{"max_clients":[5]}`: "type", `{"max_clients":true}`: "type", `{"max_clients":{}}`: "type",
		`{"max_clients":1.5}`: "type", `{"max_clients":5.0}`: "type", `{"max_clients":1e1}`: "type", `{"max_clients":1e99}`: "type",
		`{"max_clients":2147483648}`: "type", `{"max_clients":-2147483649}`: "type", `{"max_clients":9999999999999999999999}`: "type",
		`{"max_clients":0}`: "not from 1 to 10000", `{"max_clients":-1}`: "not from 1 to 10000", `{"max_clients":-2147483648}`: "not from 1 to 10000", `{"max_clients":10001}`: "not from 1 to 10000",
		`{"max_clients":4}` + strings.Repeat(" ", maxAPIBody-len(`{"max_clients":4}`)+1): "too long",
	} {
		checkAPIFailure(t, fmt.Sprintf("%.40q", body), a.ask("POST", "/v1/api/rooms", body), 400, words)
	}
	if len(a.rooms.rooms) != made {
		t.Errorf("%d rooms were made by what was refused", len(a.rooms.rooms)-made)
	}
}

// A body that breaks off is the client's mistake.
func TestAPIBodyBreaksOff(t *testing.T) {
	a := newAPITest(t, "", "")
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("POST", "/v1/api/rooms", io.MultiReader(strings.NewReader(`{"max_clients":5}`), cutOff{})))
	checkAPIFailure(t, "a body that breaks off", w, 400, "breaks off")
	if a.rooms.calls > 0 || a.log.Len() > 0 {
		t.Errorf("%d calls, logged %q", a.rooms.calls, a.log.String())
	}
}

type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// The maximum is reached, but not passed.
func TestAPIRoomsFull(t *testing.T) {
	a := newAPITest(t, "", "")
	for _, n := range []int{50, 44} { // 95 committed
		if w := a.ask("POST", "/v1/api/rooms", fmt.Sprintf(`{"max_clients":%d}`, n)); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	checkAPIFailure(t, "one too many", a.ask("POST", "/v1/api/rooms", `{"max_clients":6}`), 400, "--rooms-max-clients")
	if w := a.ask("POST", "/v1/api/rooms", `{"max_clients":5}`); w.Code != 200 {
		t.Errorf("up to the maximum: %d %s", w.Code, w.Body)
	}
	checkAPIFailure(t, "any more", a.ask("POST", "/v1/api/rooms", `{"max_clients":1}`), 400, "--rooms-max-clients")
}

func TestAPIRoomIDs(t *testing.T) {
	a := newAPITest(t, "", "")
	a.rooms.rooms = map[int32]relay.Room{7: {ID: 7}, math.MaxInt32: {ID: math.MaxInt32}}
	for id, want := range map[string]int{
		"7": 200, "2147483647": 200, "%37": 200,
		"0": 404, "8": 404, "-7": 404, "-2147483648": 404,
		"2147483648": 400, "-2147483649": 400, "99999999999999999999": 400, "x": 400, "7x": 400, "7.0": 400, "7e0": 400, "0x7": 400, "7_0": 400,
		"%207": 400, "%C3%A4": 400, "-": 400, "{id}": 400, "null": 400, strings.Repeat("9", 5000): 400,
	} {
		for _, method := range []string{"GET", "DELETE"} {
			if method == "DELETE" && want == 200 {
				continue
			}
			if w := a.ask(method, "/v1/api/rooms/"+id, ""); w.Code != want {
				t.Errorf("%s %.20s: %d %s, want %d", method, id, w.Code, w.Body, want)
			}
		}
	}
}

func TestAPIPathsAndMethods(t *testing.T) {
	a := newAPITest(t, "", "")
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/api", "/v1/api/", "/v1/api/rooms/", "/v1/api/rooms/1/", "/v1/api/rooms/1/2", "/v1/api/rooms/1%2F2",
		"/v1/api/rooms2", "/v1/api/Rooms", "/v1/api/summary/", "/v1/api/summary/1", "/v2/api/rooms", "/v1/other", "/v1/api/room", "/v1/api/rooms//1", "/v1/api/../api/rooms"} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS", "BREW"} {
			checkAPIFailure(t, method+" "+path, a.ask(method, path, `{"max_clients":5}`), 404, "nothing here")
		}
	}
	for path, allowed := range map[string]string{SocketPath: "GET", "/v1/api/rooms": "GET, HEAD, POST", "/v1/api/rooms/1": "DELETE, GET, HEAD", "/v1/api/rooms/x": "DELETE, GET, HEAD", "/v1/api/summary": "GET, HEAD"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW"} {
			w := a.ask(method, path, "")
			if slices.Contains(strings.Split(allowed, ", "), method) {
				if w.Code == 405 && path != SocketPath { // whose GET never comes here
					t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
				}
				continue
			}
			checkAPIFailure(t, method+" "+path, w, 405, "Allow")
			if got := w.Header().Get("Allow"); got != allowed {
				t.Errorf("%s %s: Allow is %q, want %q", method, path, got, allowed)
			}
		}
	}
	if len(a.rooms.rooms) > 0 {
		t.Error("a room was made")
	}
}

// HEAD is answered as GET, by a real server without the body.
func TestAPIHead(t *testing.T) {
	a := newAPITest(t, "", "")
	a.ask("POST", "/v1/api/rooms", `{"max_clients":5}`)
	s := httptest.NewServer(a)
	defer s.Close()
	for path, status := range map[string]int{"/v1/api/rooms": 200, "/v1/api/rooms/1": 200, "/v1/api/rooms/2": 404, "/v1/api/summary": 200, "/v1/x": 404} {
		head, err := http.Head(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		head.Body.Close()
		get, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(get.Body)
		get.Body.Close()
		if head.StatusCode != status || get.StatusCode != status || head.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
			t.Errorf("HEAD %s: %s with length %s; GET: %s with %d bytes", path, head.Status, head.Header.Get("Content-Length"), get.Status, len(body))
		}
	}
}

var apiRequests = []struct{ method, path, body string }{
	{"GET", "/v1/api/rooms", ""}, {"HEAD", "/v1/api/rooms", ""}, {"POST", "/v1/api/rooms", `{"max_clients":5}`},
	{"GET", "/v1/api/rooms/1", ""}, {"DELETE", "/v1/api/rooms/1", ""}, {"GET", "/v1/api/summary", ""},
}

func TestAPIErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		words  string
		retry  string
		logged string
	}{
		{fmt.Errorf("x: %w", relay.ErrUnavailable), 503, "try again", "1", "level=WARN"},
		{relay.ErrClosed, 503, "try again", "1", "level=WARN"},
		{fmt.Errorf("x: %w", relay.ErrNoRoom), 404, "no such room", "", ""},
		{errors.New("who knows"), 500, "internal error", "", "level=ERROR"},
	} {
		for _, request := range apiRequests {
			a := newAPITest(t, "", "")
			a.rooms.err = c.err
			w := a.ask(request.method, request.path, request.body)
			what := fmt.Sprintf("%s %s with %v", request.method, request.path, c.err)
			checkAPIFailure(t, what, w, c.status, c.words)
			if got := w.Header().Get("Retry-After"); got != c.retry {
				t.Errorf("%s: Retry-After is %q, want %q", what, got, c.retry)
			}
			if c.logged == "" && a.log.Len() > 0 || strings.Count(a.log.String(), "\n") > 1 || !strings.Contains(a.log.String(), c.logged) {
				t.Errorf("%s: logged %q, want %q", what, a.log.String(), c.logged)
			}
			if strings.Contains(w.Body.String(), "who knows") || strings.Contains(w.Body.String(), "x: ") {
				t.Errorf("%s: the client is told %s", what, w.Body)
			}
		}
	}
}

// A client that has gone is not Redis being away.
func TestAPIClientGone(t *testing.T) {
	a := newAPITest(t, "", "")
	a.rooms.err = relay.ErrUnavailable
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "/v1/api/rooms", nil).WithContext(ctx))
	checkAPIFailure(t, "the client has gone", w, 503, "try again")
	if a.log.Len() > 0 {
		t.Errorf("logged %q", a.log.String())
	}
}

// A panic harms one request.
func TestAPIPanics(t *testing.T) {
	for _, request := range apiRequests {
		a := newAPITest(t, "", "")
		a.rooms.panics = "the test says so"
		checkAPIFailure(t, request.method+" "+request.path, a.ask(request.method, request.path, request.body), 500, "internal error")
		for _, part := range []string{"level=ERROR", "the test says so", "api_test.go"} {
			if !strings.Contains(a.log.String(), part) {
				t.Errorf("%q is not in the log: %s", part, a.log.String())
			}
		}
		a.rooms.panics = nil
		if w := a.ask("GET", "/v1/api/summary", ""); w.Code != 200 {
			t.Errorf("the next request: %d %s", w.Code, w.Body)
		}
	}
	defer func() {
		if p := recover(); p != any(http.ErrAbortHandler) { //nolint:errorlint // it is panicked with as it is
			t.Errorf("recovered %v, want the server to abort", p)
		}
	}()
	a := newAPITest(t, "", "")
	a.rooms.panics = http.ErrAbortHandler
	a.ask("GET", "/v1/api/rooms", "")
}

func TestAPIToken(t *testing.T) {
	const plain, wrong = `Bearer realm="rooms"`, `Bearer realm="rooms", error="invalid_token"`
	for header, challenge := range map[string]string{
		"Bearer the token": "", "bearer the token": "", "BEARER  the token ": "",
		"": plain, "the token": plain, "Basic dGhlIHRva2Vu": plain, "Bearerthe token": plain,
		"Bearer": wrong, "Bearer ": wrong, "Bearer the toke": wrong, "Bearer the tokenn": wrong, "Bearer The Token": wrong, "Bearer the token, Bearer x": wrong,
	} {
		for _, request := range apiRequests {
			a := newAPITest(t, "the token", "")
			var headers []string
			if header != "" {
				headers = []string{"Authorization", header}
			}
			w := a.ask(request.method, request.path, request.body, headers...)
			what := fmt.Sprintf("%s %s, %q", request.method, request.path, header)
			if challenge == "" {
				if w.Code == 401 || a.rooms.calls != 1 {
					t.Errorf("%s: %d %s after %d calls", what, w.Code, w.Body, a.rooms.calls)
				}
				continue
			}
			checkAPIFailure(t, what, w, 401, "--rooms-api-token")
			if got := w.Header().Get("WWW-Authenticate"); got != challenge || a.rooms.calls > 0 {
				t.Errorf("%s: WWW-Authenticate is %q, want %q; %d calls", what, got, challenge, a.rooms.calls)
			}
			if strings.Contains(w.Body.String()+a.log.String(), "the token") {
				t.Errorf("%s: the token is told: %s, log %s", what, w.Body, a.log.String())
			}
		}
	}
	a := newAPITest(t, "the token", "")
	if w := a.ask("GET", "/v1/other", ""); w.Code != 404 {
		t.Errorf("an unknown path: %d, want 404 for anybody", w.Code)
	}
	if w := newAPITest(t, "", "").ask("GET", "/v1/api/rooms", "", "Authorization", "Bearer any"); w.Code != 200 {
		t.Errorf("a token that nobody wants: %d %s", w.Code, w.Body)
	}
}

func TestAPIOrigins(t *testing.T) {
	const own, allowed, foreign = "https://relay.example", "https://app.example", "https://evil.test"
	for _, request := range apiRequests {
		for origin, welcome := range map[string]bool{"": true, own: true, allowed: true, foreign: false, "null": false} {
			a := newAPITest(t, "", "app.example")
			a.rooms.rooms = map[int32]relay.Room{1: {ID: 1}}
			var headers []string
			if origin != "" {
				headers = []string{"Origin", origin}
			}
			w := a.ask(request.method, request.path, request.body, headers...)
			what := fmt.Sprintf("%s %s of a page of %q", request.method, request.path, origin)
			changes := request.method == "POST" || request.method == "DELETE"
			switch {
			case !welcome && changes:
				checkAPIFailure(t, what, w, 403, "--allowed-origins")
				if a.rooms.calls > 0 {
					t.Errorf("%s: it was carried out", what)
				}
			case w.Code != 200:
				t.Errorf("%s: %d %s", what, w.Code, w.Body)
			}
			want := ""
			if welcome {
				want = origin
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("%s: Access-Control-Allow-Origin is %q, want %q", what, got, want)
			}
			if w.Header().Get("Access-Control-Allow-Credentials") != "" || !slices.Contains(w.Header().Values("Vary"), "Origin") {
				t.Errorf("%s: %v", what, w.Header())
			}
		}
	}
	// A page may read why it was refused.
	a := newAPITest(t, "the token", "app.example")
	if w := a.ask("GET", "/v1/api/rooms", "", "Origin", allowed); w.Code != 401 || w.Header().Get("Access-Control-Allow-Origin") != allowed {
		t.Errorf("without the token: %d %v", w.Code, w.Header())
	}
	a.rooms.panics = "the test says so"
	if w := a.ask("GET", "/v1/api/rooms", "", "Origin", allowed, "Authorization", "Bearer the token"); w.Code != 500 || w.Header().Get("Access-Control-Allow-Origin") != allowed {
		t.Errorf("after a panic: %d %v", w.Code, w.Header())
	}
}

// A browser that asks first bears no token.
func TestAPIPreflight(t *testing.T) {
	a := newAPITest(t, "the token", "app.example")
	for path, methods := range map[string]string{"/v1/api/rooms": "GET, HEAD, POST", "/v1/api/rooms/1": "DELETE, GET, HEAD", "/v1/api/summary": "GET, HEAD"} {
		w := a.ask("OPTIONS", path, "", "Origin", "https://app.example", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
		if w.Code != 204 || w.Body.Len() > 0 {
			t.Errorf("%s: %d %q, want 204", path, w.Code, w.Body)
		}
		for name, want := range map[string]string{"Access-Control-Allow-Origin": "https://app.example", "Access-Control-Allow-Methods": methods,
			"Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-None-Match", "Vary": "Origin"} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		w = a.ask("OPTIONS", path, "", "Origin", "https://evil.test", "Access-Control-Request-Method", "GET")
		checkAPIFailure(t, path, w, 403, "--allowed-origins")
		if w.Header().Get("Access-Control-Allow-Origin")+w.Header().Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: a foreign page is told %v", path, w.Header())
		}
	}
	checkAPIFailure(t, "a path that is not there", a.ask("OPTIONS", "/v1/other", "", "Origin", "https://app.example", "Access-Control-Request-Method", "GET"), 404, "nothing")
	if a.rooms.calls > 0 {
		t.Errorf("%d calls", a.rooms.calls)
	}
}

func TestAPIRoutes(t *testing.T) {
	a := newAPITest(t, "", "")
	a.ask("POST", "/v1/api/rooms", `{"max_clients":5}`)
	for _, route := range a.Routes() {
		method, path, ok := strings.Cut(route, " ")
		if !ok {
			t.Fatalf("%q is no method and path", route)
		}
		path = strings.ReplaceAll(path, "{id}", "1")
		if w := a.ask(method, path, `{"max_clients":5}`); w.Code != 200 {
			t.Errorf("%s: %d %s", route, w.Code, w.Body)
		}
	}
	if len(a.Routes()) != 5 {
		t.Errorf("%d routes: %q", len(a.Routes()), a.Routes())
	}
}

// FuzzAPI sends any request: every answer is in one of the two forms, and a room is made
// only by a body that any reader of JSON finds its max_clients in.
func FuzzAPI(f *testing.F) {
	f.Add("POST", "/v1/api/rooms", `{"max_clients":5}`)
	f.Add("POST", "/v1/api/rooms", `{"MAX_CLIENTS":5,"max_clients":6}`)
	f.Add("POST", "/v1/api/rooms", `{"max_clients":null}`)
	f.Add("GET", "/v1/api/rooms/1", "")
	f.Add("DELETE", "/v1/api/rooms/-2147483649", "")
	f.Add("OPTIONS", "/v1/api/summary", "\x00")
	f.Fuzz(func(t *testing.T, method, path, body string) {
		a := newAPITest(t, "", "")
		a.rooms.max = math.MaxInt64
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL.Path = method, path
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if a.log.Len() > 0 {
			t.Errorf("logged: %s", a.log.String())
		}
		if w.Code != 200 {
			if !slices.Contains([]int{400, 404, 405}, w.Code) {
				t.Errorf("status %d", w.Code)
			}
			checkAPIFailure(t, method+" "+path, w, w.Code, "")
			return
		}
		if method != "POST" {
			return
		}
		var fields map[string]any
		var told struct{ Data Info }
		if err := errors.Join(json.Unmarshal([]byte(body), &fields), json.Unmarshal(w.Body.Bytes(), &told)); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		n := told.Data.MaxClients
		if !slices.Contains(slices.Collect(maps.Values(fields)), any(float64(n))) || n < 1 || a.rooms.rooms[1].MaxClients != n {
			t.Errorf("%q makes %s", body, w.Body)
		}
	})
}
