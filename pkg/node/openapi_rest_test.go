package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"parley/pkg/relay"
)

// isREST tells whether an operation is one of REST, and none of a sign-in by a browser.
func (op *operation) isREST() bool {
	return slices.ContainsFunc(op.Tags, func(tag string) bool {
		return slices.Contains([]string{"people", "groups", "messages", "notifications", "signin"}, tag)
	}) && !op.isLogin()
}

// isLogin tells whether an operation is of a sign-in by a browser.
func (op *operation) isLogin() bool { return op.path == "/auth/login" || op.path == "/auth/callback" }

// signedIn tells whether an operation wants a session.
func (op *operation) signedIn() bool { return op.Security != nil && len(*op.Security) > 0 }

// person is a user of the tests.
type person struct {
	id    string
	name  string
	token string
}

// bears is what a request of the person bears.
func (p person) bears() edit { return header("Authorization", "Bearer "+p.token) }

// join makes an account.
func (c *contract) join(t *testing.T, n *testNode, name string) person {
	t.Helper()
	p := person{name: name, token: signUp(t, n.addr, name)}
	var me struct{ ID int64 }
	a := c.want(t, 200, n, "getUser", "me", p.bears())
	if err := json.Unmarshal([]byte(a.text), &me); err != nil {
		t.Fatal(err)
	}
	p.id = fmt.Sprint(me.ID)
	return p
}

// Everything that REST's operations are described to answer, but what another part sees.
func (c *contract) rest(t *testing.T) {
	n := startNode(t, "--allowed-origins=app.example", "--login-failures-per-account=1")
	ready(t, n)
	crowd := manyUsers(t, n, relay.MaxFriends)
	for _, suffix := range []string{"", "Singular"} {
		r := &restContract{contract: c, n: n, suffix: suffix}
		r.alice, r.bob, r.carol = c.join(t, n, "alice"+suffix), c.join(t, n, "robert"+suffix), c.join(t, n, "carol"+suffix)
		r.people(t)
		r.messages(t)
		r.groups(t)
		r.tooMany(t, crowd)
		r.everywhere(t)
	}
	r := &restContract{contract: c, n: n, alice: c.join(t, n, "alice2"), bob: c.join(t, n, "robert2")}
	r.search(t)
	r.polls(t)
	r.sessions(t)
	r.everywhere(t)
}

// restContract is the part of one naming of the paths.
type restContract struct {
	*contract
	n                 *testNode
	suffix            string
	alice, bob, carol person
}

// op is the operation in this naming.
func (r *restContract) op(id string) string {
	if r.ops[id+r.suffix] != nil {
		return id + r.suffix
	}
	return id
}

// as asks an operation in this naming for somebody.
func (r *restContract) as(t *testing.T, p person, status int, id, value string, edits ...edit) *answer {
	t.Helper()
	return r.want(t, status, r.n, r.op(id), value, append([]edit{p.bears()}, edits...)...)
}

// gets asks, and asks again with the answer's tag.
func (r *restContract) gets(t *testing.T, id, value string, edits ...edit) *answer {
	t.Helper()
	a := r.as(t, r.alice, 200, id, value, edits...)
	r.as(t, r.alice, 304, id, value, append(edits, header("If-None-Match", a.Header.Get("ETag")))...)
	r.as(t, r.alice, 200, id, value, append(edits, header("If-None-Match", `"x"`))...)
	return a
}

// tooLong is longer than any body may be, and tooLongForGet than that of a GET: what a
// node does not read, it may close the connection on.
var (
	tooLong       = body(`{"message":"` + strings.Repeat("x", 500_000) + `"}`)
	tooLongForGet = body(strings.Repeat(" ", 20_000))
)

// notJSON is a body that does not say that it is JSON.
func notJSON(r *http.Request) {
	body("{}")(r)
	r.Header.Set("Content-Type", "text/plain")
}

// wrongBodies asks for what every operation with a body answers a wrong one.
func (r *restContract) wrongBodies(t *testing.T, id, value string) {
	t.Helper()
	r.as(t, r.alice, 413, id, value, tooLong)
	r.as(t, r.alice, 415, id, value, notJSON)
	r.as(t, r.alice, 403, id, value, body("{}"), header("Origin", foreignPage))
	for _, wrong := range []string{"", "[]", "{", "null", `{"members":1,"message":1,"name":1,"userId":"1","username":1,"email":1,"password":1}`, "\xff"} {
		r.as(t, r.alice, 400, id, value, body(wrong))
	}
}

func (r *restContract) people(t *testing.T) {
	r.gets(t, "findUser", "", query("Name="+r.bob.name))
	r.as(t, r.alice, 404, "findUser", "", query("Name=nobody"))
	r.as(t, r.alice, 404, "findUser", "", query("Name="))
	r.as(t, r.alice, 400, "findUser", "")
	if a := r.gets(t, "getUser", r.bob.id); strings.Contains(a.text, "email") {
		t.Errorf("another one's email is shown: %s", a.text)
	}
	if a := r.gets(t, "getUser", "me"); !strings.Contains(a.text, r.alice.name+"@example.com") {
		t.Errorf("one's own email is not shown: %s", a.text)
	}
	for _, wrong := range []string{"0", "-1", "+1", "x", "1.5", "9223372036854775808", "Me"} {
		r.as(t, r.alice, 400, "getUser", wrong)
	}
	r.as(t, r.alice, 404, "getUser", "9223372036854775807")

	r.wrongBodies(t, "createUser", "")
	account := func(name, email string) edit {
		return body(fmt.Sprintf(`{"username":%q,"email":%q,"password":%q}`, name, email, chatPassword))
	}
	a := r.as(t, r.alice, 201, "createUser", "", account("david"+r.suffix, "david"+r.suffix+"@example.com"))
	if where := a.Header.Get("Location"); !strings.HasPrefix(where, "/Users/") {
		t.Errorf("Location %q", where)
	}
	r.as(t, r.alice, 409, "createUser", "", account("david"+r.suffix, "another@example.com"))
	r.as(t, r.alice, 409, "createUser", "", account("another", "david"+r.suffix+"@example.com"))
	for _, wrong := range [][2]string{{"abc", "abc@example.com"}, {strings.Repeat("x", 101), "abc@example.com"}, {"another", "example.com"}} {
		r.as(t, r.alice, 400, "createUser", "", account(wrong[0], wrong[1]))
	}

	r.wrongBodiesOfChange(t)
	r.as(t, r.alice, 200, "changeUser", r.alice.id, body(`{}`))
	r.as(t, r.alice, 200, "changeUser", "me", body(fmt.Sprintf(`{"username":%q}`, r.alice.name)))
	r.as(t, r.alice, 409, "changeUser", "me", body(fmt.Sprintf(`{"username":%q}`, r.bob.name)))
	r.as(t, r.alice, 409, "changeUser", "me", body(fmt.Sprintf(`{"email":"%s@example.com"}`, r.bob.name)))
	r.as(t, r.alice, 403, "changeUser", r.bob.id, body(`{}`))
	r.as(t, r.alice, 404, "changeUser", "999999", body(`{}`))

	for range 2 {
		r.as(t, r.alice, 204, "befriend", r.alice.id+"\n"+r.bob.name)
	}
	r.gets(t, "listFriends", "me")
	for range 2 {
		r.as(t, r.alice, 204, "unfriend", "me\n"+r.bob.name)
	}
	for _, id := range []string{"befriend", "unfriend"} {
		r.as(t, r.alice, 400, id, "me\n"+r.alice.name)
		r.as(t, r.alice, 400, id, "0\n"+r.bob.name)
		r.as(t, r.alice, 403, id, r.bob.id+"\n"+r.carol.name)
		r.as(t, r.alice, 404, id, "me\nnobody")
		r.as(t, r.alice, 404, id, "999999\n"+r.bob.name)
	}
	r.as(t, r.alice, 400, "listFriends", "x")
	r.as(t, r.alice, 403, "listFriends", r.bob.id)
	r.as(t, r.alice, 404, "listFriends", "999999")
}

// wrongBodiesOfChange is wrongBodies without what changes nothing there.
func (r *restContract) wrongBodiesOfChange(t *testing.T) {
	r.as(t, r.alice, 413, "changeUser", "me", tooLong)
	r.as(t, r.alice, 415, "changeUser", "me", notJSON)
	for _, wrong := range []string{"", "[]", "{", `{"username":1}`, `{"username":"x"}`, `{"email":"x"}`} {
		r.as(t, r.alice, 400, "changeUser", "me", body(wrong))
	}
}

func (r *restContract) messages(t *testing.T) {
	text := func(name, message string) edit { return body(fmt.Sprintf(`{"name":%q,"message":%q}`, name, message)) }
	for i := range 21 {
		r.as(t, r.bob, 201, "writeToUser", r.alice.id, text(r.bob.name, fmt.Sprint("hello ", i)))
	}
	r.wrongBodies(t, "writeToUser", r.bob.id)
	r.as(t, r.alice, 201, "writeToUser", r.bob.id, text(r.alice.name, strings.Repeat("x", 65536)))
	r.as(t, r.alice, 413, "writeToUser", r.bob.id, text(r.alice.name, strings.Repeat("x", 65537)))
	r.as(t, r.alice, 400, "writeToUser", r.bob.id, text(r.alice.name, ""))
	r.as(t, r.alice, 400, "writeToUser", "me", text(r.alice.name, "hello"))
	r.as(t, r.alice, 400, "writeToUser", "x", text(r.alice.name, "hello"))
	r.as(t, r.alice, 403, "writeToUser", r.bob.id, text(r.bob.name, "hello"))
	r.as(t, r.alice, 404, "writeToUser", "999999", text(r.alice.name, "hello"))

	with := "sender=" + r.bob.id
	r.gets(t, "getConversation", "me", query(with+"&Index=0"))
	r.gets(t, "getConversation", r.alice.id, query(with+"&Index=1000000000"))
	if a := r.as(t, r.alice, 200, "getConversation", "me", query(with)); strings.Count(a.text, `"message"`) != 21 {
		t.Errorf("pulled %s", a.text)
	}
	// The other one may be named in the body, too, which OpenAPI has no word for.
	if a := r.do(t, r.n, r.op("getConversation"), "me", r.alice.bears(), body(`{"sender":`+r.bob.id+`}`)); a.StatusCode != 200 || strings.Contains(a.text, "hello") {
		t.Errorf("pulled again, with the sender in the body: %s %s", a.Status, a.text)
	}
	r.as(t, r.bob, 201, "writeToUser", r.alice.id, text(r.bob.name, "once more"))
	key := header("Idempotency-Key", strings.Repeat("k", 128))
	for range 2 {
		if a := r.as(t, r.alice, 200, "getConversation", "me", query(with), key); strings.Count(a.text, "once more") != 1 {
			t.Errorf("pulled with a key: %s", a.text)
		}
	}
	r.as(t, r.alice, 400, "getConversation", "me", query(with), header("Idempotency-Key", strings.Repeat("k", 129)))
	for _, wrong := range []string{"", "sender=x", "sender=0", "sender=" + r.alice.id, with + "&Index=", with + "&Index=-1", with + "&Index=1.5", with + "&Index=1000000001"} {
		r.as(t, r.alice, 400, "getConversation", "me", query(wrong))
	}
	r.as(t, r.alice, 400, "getConversation", "me", body(`{"sender":"x"}`))
	r.as(t, r.alice, 413, "getConversation", "me", tooLongForGet)
	r.as(t, r.alice, 403, "getConversation", r.bob.id, query("sender="+r.alice.id))
	r.as(t, r.alice, 404, "getConversation", "me", query("sender=999999"))
	r.as(t, r.alice, 404, "getConversation", "999999", query(with))
	r.as(t, r.alice, 403, "getConversation", "me", query(with), header("Origin", foreignPage))
}

func (r *restContract) groups(t *testing.T) {
	hikers := "hikers " + r.suffix
	members := func(more string) edit { return body(`{"members":[` + r.bob.id + `]` + more + `}`) }
	if a := r.as(t, r.alice, 201, "createNamedGroup", hikers, members("")); a.Header.Get("Location") != "/Groups/"+strings.ReplaceAll(hikers, " ", "%20") {
		t.Errorf("Location %q", a.Header.Get("Location"))
	}
	r.as(t, r.alice, 201, "createGroup", "", members(""))
	r.as(t, r.alice, 201, "createGroup", "", members(`,"name":"climbers`+r.suffix+`","message":"where to?"`))
	for _, id := range []string{"createNamedGroup", "createGroup"} {
		r.wrongBodies(t, id, "another")
		r.as(t, r.alice, 409, id, hikers, members(`,"name":"`+hikers+`"`))
		r.as(t, r.alice, 404, id, "another", body(`{"members":[999999]}`))
		r.as(t, r.alice, 400, id, "another", body(`{"members":[0]}`))
		r.as(t, r.alice, 409, id, "another", body(`{"members":[`+strings.Repeat(r.bob.id+",", 1000)+r.bob.id+`]}`))
	}
	for _, wrong := range []string{"a/b", ".", "..", "a\x00", "\u0085", strings.Repeat("x", 101)} {
		quoted, _ := json.Marshal(wrong) // a string never fails
		r.as(t, r.alice, 400, "createGroup", "", members(`,"name":`+string(quoted)))
		if wrong != "." && wrong != ".." { // which clients take out of paths
			r.as(t, r.alice, 400, "createNamedGroup", wrong, members(""))
		}
	}
	for _, right := range []string{"...", "x" + r.suffix, ".x" + r.suffix, "..x" + r.suffix, "ä%2F?#" + r.suffix, strings.Repeat("ä", 100-len(r.suffix)) + r.suffix} {
		if right != "..." || r.suffix == "" {
			r.as(t, r.alice, 201, "createNamedGroup", right, members(""))
			r.as(t, r.alice, 204, "leaveGroup", right)
		}
	}
	r.gets(t, "listGroups", "")
	r.gets(t, "getGroup", hikers)
	r.as(t, r.alice, 200, "addMember", hikers, body(`{"userId":`+r.bob.id+`}`))
	r.wrongBodies(t, "addMember", hikers)
	r.as(t, r.alice, 404, "addMember", hikers, body(`{"userId":999999}`))
	r.as(t, r.alice, 404, "addMember", "nothing", body(`{"userId":`+r.bob.id+`}`))
	r.as(t, r.carol, 403, "addMember", hikers, body(`{"userId":`+r.carol.id+`}`))

	text := func(p person, message string) edit {
		return body(fmt.Sprintf(`{"userId":%s,"message":%q}`, p.id, message))
	}
	for i := range 21 {
		r.as(t, r.bob, 201, "writeToGroup", hikers, text(r.bob, fmt.Sprint("hello ", i)))
	}
	r.wrongBodies(t, "writeToGroup", hikers)
	r.as(t, r.alice, 413, "writeToGroup", hikers, text(r.alice, strings.Repeat("x", 65537)))
	r.as(t, r.alice, 403, "writeToGroup", hikers, text(r.bob, "hello"))
	r.as(t, r.carol, 403, "writeToGroup", hikers, text(r.carol, "hello"))
	r.as(t, r.alice, 404, "writeToGroup", "nothing", text(r.alice, "hello"))
	if a := r.gets(t, "getGroupConversation", hikers); !strings.Contains(a.text, `"hasMore":true`) {
		t.Errorf("the first page: %s", a.text)
	}
	r.gets(t, "getGroupConversation", hikers, query("Index=1"))
	r.as(t, r.alice, 400, "getGroupConversation", hikers, query("Index=x"))
	for _, id := range []string{"getGroup", "getGroupConversation", "leaveGroup"} {
		r.as(t, r.carol, 403, id, hikers)
		r.as(t, r.carol, 404, id, "nothing")
	}
	r.as(t, r.bob, 204, "leaveGroup", hikers)
	r.as(t, r.bob, 403, "leaveGroup", hikers)
	r.as(t, r.alice, 204, "leaveGroup", hikers)
	r.as(t, r.alice, 404, "leaveGroup", hikers)
}

// manyUsers puts accounts into the node's database.
func manyUsers(t *testing.T, n *testNode, many int) (ids []int64) {
	t.Helper()
	for i := range many {
		name := fmt.Sprintf("crowd-%d", i)
		u, err := n.chat.database.Users().Create(t.Context(), relay.User{Username: name, Email: name + "@example.com"}, "")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	return ids
}

// tooMany has one friend and one member more than may be.
func (r *restContract) tooMany(t *testing.T, crowd []int64) {
	id, err := strconv.ParseInt(r.alice.id, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, friend := range crowd[:relay.MaxFriends] {
		if err := r.n.chat.database.Friends().Befriend(t.Context(), id, friend); err != nil {
			t.Fatal(err)
		}
	}
	r.as(t, r.alice, 409, "befriend", "me\n"+r.bob.name)
	others := crowd[:relay.MaxGroupMembers-1] // and she herself
	members, err := json.Marshal(others)
	if err != nil {
		t.Fatal(err)
	}
	full := "full" + r.suffix
	r.as(t, r.alice, 201, "createNamedGroup", full, body(`{"members":`+string(members)+`}`))
	r.as(t, r.alice, 409, "addMember", full, body(`{"userId":`+r.bob.id+`}`))
}

func (r *restContract) search(t *testing.T) {
	r.gets(t, "search", "", query("Name=RO"))
	r.gets(t, "search", "", query("Name=h&Type=Group"))
	for i := range 21 {
		r.as(t, r.alice, 201, "createNamedGroup", fmt.Sprint("found ", i), body(`{"members":[]}`))
	}
	a := r.as(t, r.alice, 200, "search", "", query("Name=found&Type=Group"))
	var page struct {
		Groups []any
		Next   string
	}
	if err := json.Unmarshal([]byte(a.text), &page); err != nil || len(page.Groups) != 20 || page.Next == "" {
		t.Fatalf("the first page: %v %s", err, a.text)
	}
	if a := r.as(t, r.alice, 200, "search", "", query("Name=found&Type=Group&after="+page.Next)); strings.Count(a.text, "groupID") != 1 || strings.Contains(a.text, "next") {
		t.Errorf("the last page: %s", a.text)
	}
	for _, wrong := range []string{"", "Name=", "Name=a&Type=", "Name=a&Type=user", "Name=a&after=%25", "Name=a&after=", "Name=" + strings.Repeat("a", 101)} {
		r.as(t, r.alice, 400, "search", "", query(wrong))
	}
}

func (r *restContract) polls(t *testing.T) {
	if a := r.as(t, r.alice, 200, "poll", "", query("timeout=0")); a.text != "{}\n" {
		t.Errorf("nothing waits: %s", a.text)
	}
	if a := r.as(t, r.alice, 200, "poll", "", query("timeout=0.05&max=5")); a.text != "{}\n" {
		t.Errorf("nothing came: %s", a.text)
	}
	for range 3 {
		r.as(t, r.bob, 201, "writeToUser", r.alice.id, body(fmt.Sprintf(`{"name":%q,"message":"hello"}`, r.bob.name)))
	}
	r.as(t, r.bob, 201, "createGroup", "", body(`{"members":[`+r.alice.id+`],"message":"hello"}`))
	one := r.as(t, r.alice, 200, "poll", "")
	var first struct{ ID string }
	if err := json.Unmarshal([]byte(one.text), &first); err != nil || first.ID == "" {
		t.Fatalf("the first notification: %s", one.text)
	}
	eventually(t, "all have come", func() bool {
		a := r.as(t, r.alice, 200, "poll", "", query("timeout=10&max=1000&after="+first.ID))
		return strings.Count(a.text, `"id"`) == 4
	})
	for _, wrong := range []string{"timeout=-1", "timeout=x", "timeout=", "timeout=NaN", "max=0", "max=-1", "max=1.5", "max=", "after=x", "after=", "after=1", "after=-1"} {
		r.as(t, r.alice, 400, "poll", "", query(wrong))
	}
	r.as(t, r.alice, 403, "poll", "", header("Origin", foreignPage))
	r.as(t, r.alice, 413, "poll", "", tooLongForGet)
}

func (r *restContract) sessions(t *testing.T) {
	a := r.want(t, 200, r.n, "listMethods", "")
	r.want(t, 304, r.n, "listMethods", "", header("If-None-Match", a.Header.Get("ETag")))
	login := func(password string) edit {
		return body(fmt.Sprintf(`{"email":"%s@example.com","password":%q}`, r.alice.name, password))
	}
	r.want(t, 200, r.n, "createToken", "", login(chatPassword))
	r.want(t, 403, r.n, "createToken", "", login(chatPassword), header("Origin", foreignPage))
	r.want(t, 413, r.n, "createToken", "", tooLong)
	r.want(t, 415, r.n, "createToken", "", notJSON)
	r.want(t, 400, r.n, "createToken", "", body("{}"))
	r.want(t, 401, r.n, "createToken", "", login("another password"))
	r.want(t, 429, r.n, "createToken", "", login("another password"))
	r.as(t, r.bob, 403, "endToken", "", header("Origin", foreignPage))
	r.as(t, r.bob, 204, "endToken", "")
	r.as(t, r.bob, 401, "endToken", "")
}

// everywhere asks every operation of the naming for what all have in common.
func (r *restContract) everywhere(t *testing.T) {
	for id, op := range r.ops {
		if !op.isREST() || r.op(strings.TrimSuffix(id, "Singular")) != id {
			continue
		}
		r.want(t, 400, r.n, id, "", r.alice.bears(), query("%zz"))
		if op.signedIn() {
			r.want(t, 401, r.n, id, "", body("{}"))
			r.want(t, 401, r.n, id, "", body("{}"), header("Authorization", "Bearer "+strings.Repeat("A", 43)))
			r.want(t, 401, r.n, id, "", body("{}"), header("Cookie", "sid=x"))
		}
		switch op.method {
		case http.MethodOptions:
			asks := header("Access-Control-Request-Method", "GET")
			r.want(t, 204, r.n, id, "")
			r.want(t, 403, r.n, id, "", asks, header("Origin", foreignPage))
			if a := r.want(t, 204, r.n, id, "", asks, header("Origin", allowedPage)); a.Header.Get("Access-Control-Allow-Origin") != allowedPage ||
				a.Header.Get("Access-Control-Allow-Methods") != a.Header.Get("Allow") {
				t.Errorf("%s: an allowed page is told %v", id, a.Header)
			}
		case http.MethodPost, http.MethodPut, http.MethodDelete:
			r.want(t, 403, r.n, id, "", r.alice.bears(), header("Origin", foreignPage), body("{}"))
		}
	}
}

// restTooFast has users ask for more than they may.
func (c *contract) restTooFast(t *testing.T) {
	const slow = 0.001 // messages a second: what is used up does not come back while the test runs
	n := startNode(t, fmt.Sprintf("--rate=%g", slow))
	ready(t, n)
	alice := person{token: signUp(t, n.addr, "alice")}
	for range 1000 {
		if c.do(t, n, "listGroups", "", alice.bears()).StatusCode == 429 {
			break
		}
	}
	for range 1000 {
		if c.do(t, n, "listMethods", "").StatusCode == 429 {
			break
		}
	}
	for id, op := range c.ops {
		if op.isREST() && op.method != http.MethodOptions {
			c.want(t, 429, n, id, "", alice.bears(), body("{}"))
		}
	}
}

// restAway asks a node that has no Redis. Each answer takes its time.
func (c *contract) restAway(t *testing.T, n *testNode, token string) {
	for _, id := range []string{"getUser", "writeToUser", "poll", "endToken"} {
		if a := c.want(t, 503, n, id, "", header("Authorization", "Bearer "+token), body("{}")); a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: nothing is said of when to try again: %v", id, a.Header)
		}
	}
	c.want(t, 503, n, "createToken", "", body(`{"email":"alice@example.com","password":"`+chatPassword+`"}`))
}
