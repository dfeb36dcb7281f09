package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// strayRequests is how many requests without much sense each operation is sent.
const strayRequests = 60

// Whatever an operation is sent, it answers as described.
func TestContractStrayRequests(t *testing.T) {
	c := described(t)
	n := startNode(t, "--rooms-api-token="+strings.TrimPrefix(apiToken, "Bearer "), "--allowed-origins=app.example", "--login-failures-per-account=3")
	ready(t, n)
	session := "Bearer " + signUp(t, n.addr, "strayer")
	random := rand.New(rand.NewPCG(1, 2))
	statuses := map[int]int{}
	for _, id := range slices.Sorted(maps.Keys(c.ops)) {
		op := c.ops[id]
		if id == "profile" {
			continue // what it is asked to measure takes its time
		}
		for range strayRequests {
			a := c.do(t, n, id, strayValue(random, op), strayEdits(random, op, session)...)
			statuses[a.StatusCode]++
			if a.StatusCode == http.StatusSwitchingProtocols {
				a.Body.Close()
			}
			if t.Failed() {
				return
			}
		}
	}
	for _, status := range []int{101, 200, 201, 204, 206, 304, 400, 401, 403, 404, 413, 415, 426} {
		if statuses[status] == 0 {
			t.Errorf("no request was answered with %d: %v", status, statuses)
		}
	}
}

func pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// strayValue is something for an operation's placeholder, but nothing that makes another
// path of it; "" when there is none, or for the example.
func strayValue(random *rand.Rand, op *operation) string {
	if !strings.Contains(op.path, "{") || random.IntN(4) == 0 {
		return ""
	}
	return pick(random, "0", "-1", "2147483647", "2147483648", "-2147483649", "9999999999999999999", "1.5", "1e3", "0x10", "+7", " 7", "7 ", "%", "%37", "x",
		"ä", "\x00", "\xff", "a/b", "a?b", "a#b", "{id}", "null", "...", "rooms", "index.html", "app.js", strings.Repeat("9", 3000), fmt.Sprint(random.Int32()), "1", "me", "strayer", "me\nstrayer")
}

// strayEdits make some of a request right and some of it wrong.
func strayEdits(random *rand.Rand, op *operation, session string) (edits []edit) {
	some := func(chance int, e edit) {
		if random.IntN(chance) == 0 {
			edits = append(edits, e)
		}
	}
	socket := op.Responses.Value("101") != nil
	if op.RequestBody != nil || random.IntN(4) == 0 {
		edits = append(edits, body(strayBody(random)))
		some(6, header("Content-Type", pick(random, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "/", "application/jsonx")))
	}
	if socket {
		some(2, handshake)
		some(8, header("Sec-WebSocket-Version", pick(random, "12", "x", "13, 8")))
		some(8, header("Sec-WebSocket-Key", pick(random, "x", "AAAA", strings.Repeat("A", 24))))
		some(8, header("Upgrade", pick(random, "h2c", "websocket, h2c")))
	}
	if op.signedIn() && op.OperationID != "endToken" {
		some(2, header("Authorization", session))
	}
	some(4, header("Authorization", pick(random, apiToken, apiToken, apiToken, apiToken+"x", "Bearer", "Basic eDp5", "Bearer "+strings.Repeat("x", 4000))))
	some(4, header("Origin", pick(random, allowedPage, foreignPage, "null", "%", "https://", "app.example")))
	some(6, header("Cookie", pick(random, "sid=x", "sid="+strings.Repeat("A", 43), "sid", "=", "sid=x; sid=y")))
	some(6, header("Accept", pick(random, "text/html", "*/*;q=0", "x", "application/yaml")))
	some(4, header("Range", pick(random, "bytes=0-0", "bytes=5-1", "bytes=-1", "bytes=99999999-", "lines=1-2", "x")))
	some(6, header("If-None-Match", pick(random, "*", `"x"`, "x", `W/"x", "y"`)))
	some(8, header("If-Match", pick(random, "*", `"x"`, "x")))
	some(4, query(pick(random, "x", "=", "a=b&a=c", "%", "%zz=1", ";", "resume=x", "resume=%00&last=x", "since=lobby", "since=%ff:1,:,,", "presence=1", "nogreet=1", strings.Repeat("a=b&", 500))))
	some(4, query(pick(random, "Name=a", "Name=strayer&Type=Group", "sender=1", "sender=2&Index=0", "Index=1", "after=1-1", "max=2", "redirect=/", "redirect=//x", "state=x&code=x")))
	some(8, header("X-Forwarded-For", pick(random, "203.0.113.1", "x", ",,")))
	if op.OperationID == "poll" {
		edits = append(edits, func(r *http.Request) { r.URL.RawQuery += "&timeout=0.01" }) // it would wait for long
	}
	return edits
}

// strayBody is more or less what an operation wants.
func strayBody(random *rand.Rand) string {
	whole := pick(random, `{"max_clients":5}`, `{"max_clients":100}`, `{"username":"alice","email":"alice@example.com","password":"correct horse"}`,
		`{"email":"alice@example.com","password":"another horse"}`, `{"name":"strayer","message":"hello"}`, `{"members":[1]}`, `{"members":[],"name":"a"}`,
		`{"userId":1,"message":"hello"}`, `{"userId":1}`, `{"sender":1}`, `{"username":"strayer"}`)
	switch random.IntN(5) {
	case 0:
		return whole
	case 1: // cut off, or with something else in it
		at := random.IntN(len(whole))
		return whole[:at] + pick(random, "", "\x00", "\xff", `"`, "}", ",", "null", "1e999", `\ud800`) + pick(random, "", whole[at:])
	case 2: // another value
		at := strings.IndexByte(whole, ':') + 1
		return whole[:at] + pick(random, "null", "0", "-1", "1.5", "true", "[]", "{}", `""`, `"\u0000"`, "2147483648", strings.Repeat("9", 400), `"`+strings.Repeat("ä", 200)+`"`) + "}"
	case 3: // anything
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	return pick(random, "", " ", "null", "[]", "{}", "0", whole+whole, strings.Repeat("[", 5000), strings.Repeat(" ", 20000)+whole, `{"max_clients":5,"max_clients":"x"}`, "\xef\xbb\xbf"+whole)
}

// The check of the answers must be able to fail.
func TestContractFails(t *testing.T) {
	c := described(t)
	n := startNode(t)
	ready(t, n)
	op := c.ops["createRoom"]
	good := func() *answer {
		a := &answer{Response: &http.Response{StatusCode: 200, Header: http.Header{}}, text: `{"code":200,"data":{"id":1,"secret":2,"max_clients":3,"current_clients":0,"room_status":"RUNNING"}}`}
		a.Header.Set("Content-Type", "application/json")
		a.Header.Set("Cache-Control", "no-store")
		return a
	}
	r, err := http.NewRequestWithContext(t.Context(), op.method, op.target(t, n, "").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.check(op, r, good()); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) func(*answer) {
		return func(a *answer) { a.text = strings.Replace(a.text, old, new, 1) }
	}
	for name, spoil := range map[string]func(*answer){
		"a status":                  func(a *answer) { a.StatusCode = 201 },
		"another code":              replace(`"code":200`, `"code":201`),
		"a header that is missing":  func(a *answer) { a.Header.Del("Cache-Control") },
		"a header of another value": func(a *answer) { a.Header.Set("Cache-Control", "no-cache") },
		"another type":              func(a *answer) { a.Header.Set("Content-Type", "text/plain") },
		"a member too many":         replace(`"id":1`, `"id":1,"x":1`),
		"a member too many outside": replace(`"code":200`, `"code":200,"message":""`),
		"a member that is missing":  replace(`"secret":2,`, ``),
		"a value of another type":   replace(`"id":1`, `"id":"1"`),
		"a value too small":         replace(`"max_clients":3`, `"max_clients":0`),
		"a value of no enum":        replace(`RUNNING`, `SLEEPING`),
		"no data":                   func(a *answer) { a.text = `{"code":200}` },
		"no JSON":                   func(a *answer) { a.text += "x" },
		"a failure":                 func(a *answer) { a.text = `{"message":"x","code":200}` },
	} {
		a := good()
		spoil(a)
		if err := c.check(op, r, a); err == nil {
			t.Errorf("%s is taken for described: %d %v %s", name, a.StatusCode, a.Header, a.text)
		}
	}
	for _, wrong := range []string{"", "{}", `{"max_clients":0}`, `{"max_clients":"5"}`, `{"max_clients":1.5}`} {
		if c.checkRequest(t, op, n, "", body(wrong)) == nil {
			t.Errorf("the request %q is taken for described", wrong)
		}
	}
	logout := c.ops["logout"]
	a := &answer{Response: &http.Response{StatusCode: 204, Header: http.Header{"Cache-Control": {"no-store"}, "Set-Cookie": {"sid=; Path=/"}}}}
	if err := c.check(logout, r, a); err != nil {
		t.Error(err)
	}
	if a.text = "x"; c.check(logout, r, a) == nil {
		t.Error("a body where none is described is taken for described")
	}
	if slices.Contains(logout.statuses(), "404") || !slices.Contains(logout.statuses(), "503") {
		t.Errorf("the statuses of logout are %q", logout.statuses())
	}
}
