package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"parley/pkg/relaytest"
)

const (
	// rightRequests is how many requests as they are described each operation of REST is
	// sent, and wrongRequests how many with one thing in them that is not.
	rightRequests = 15
	wrongRequests = 15
)

// What is described is taken, and what is not is refused: of an operation's path, query and
// body.
func TestContractRandomRequests(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { described(t).random(t, startNode(t), 3) })
	t.Run("MariaDB", func(t *testing.T) {
		url := relaytest.StartMariaDB(t).NewURL(t)
		described(t).random(t, startNode(t, "--redis-url="+relaytest.StartRedis(t).URL(), "--database-url="+url), 5)
	})
}

// random asks a node at random.
func (c *contract) random(t *testing.T, n *testNode, seed uint64) {
	ready(t, n)
	alice, bob, carol := c.join(t, n, "alice"), c.join(t, n, "robert"), c.join(t, n, "carol")
	c.want(t, 201, n, "createNamedGroup", "hikers", alice.bears(), body(`{"members":[`+bob.id+`]}`))
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 4)), known: map[string][]any{
		"id": {"me", alice.id, bob.id}, "sender": {bob.id}, "username": {bob.name, "nobody"}, "name": {"hikers", alice.name},
		"Name": {"rob", alice.name}, "userId": {json.Number(alice.id), json.Number(bob.id)}, "members": {[]any{json.Number(bob.id)}, []any{}},
	}}
	statuses := map[int]int{}
	send := func(id string, r *randomRequest) *answer {
		who := alice
		if strings.HasPrefix(id, "changeUser") || strings.HasPrefix(id, "leaveGroup") {
			who = carol // whose name and groups nobody else needs
		}
		edits := []edit{who.bears(), query(r.query.Encode())}
		if r.body != nil {
			b, err := json.Marshal(r.body)
			if err != nil {
				t.Fatal(err)
			}
			edits = append(edits, body(string(b)), header("Content-Type", r.kind))
		}
		a := c.do(t, n, id, strings.Join(r.path, "\n"), edits...)
		statuses[a.StatusCode]++
		return a
	}
	for _, id := range slices.Sorted(maps.Keys(c.ops)) {
		op := c.ops[id]
		if !op.isREST() || id == "endToken" || op.method == http.MethodOptions {
			continue
		}
		for range rightRequests {
			r := g.request(op)
			switch a := send(id, r); {
			case a.StatusCode == 413 || a.StatusCode == 415 || a.StatusCode == 405 || a.StatusCode == 400 && !untold(a.text):
				t.Errorf("%s as described, %s, is refused with %d %s", id, r, a.StatusCode, a.text)
			case a.StatusCode == 401 && id != "createToken":
				t.Errorf("%s: %s", id, a.text)
			}
		}
		for range wrongRequests {
			r := g.request(op)
			what := g.spoil(op, r)
			if what == "" {
				break // nothing can be wrong with it
			}
			if a := send(id, r); a.StatusCode < 400 {
				t.Errorf("%s with %s, %s, is taken: %d %s", id, what, r, a.StatusCode, a.text)
			}
		}
		if t.Failed() {
			return
		}
	}
	for _, status := range []int{200, 201, 204, 400, 403, 404, 409, 415} {
		if statuses[status] == 0 {
			t.Errorf("no request was answered with %d: %v", status, statuses)
		}
	}
}

// untold tells whether a request was refused for what OpenAPI has no words for: that two of
// its parts name one user.
func untold(answer string) bool {
	return slices.ContainsFunc([]string{"nobody writes to himself", "nobody has a conversation with himself", "nobody is on his own list"}, func(why string) bool {
		return strings.Contains(answer, why)
	})
}

// generator makes requests of what is described.
type generator struct {
	*rand.Rand
	known map[string][]any // values that mean something, by the name of a parameter or a member
}

// randomRequest is one that is to be sent.
type randomRequest struct {
	path  []string // what stands for the placeholders
	query url.Values
	body  any // nil: none
	kind  string
}

func (r *randomRequest) String() string {
	b, _ := json.Marshal(r.body) // it was made of JSON
	return fmt.Sprintf("%q ?%.300s %.300s", r.path, r.query.Encode(), b)
}

// parameters are those of an operation in its path, in their order, or in its query.
func (op *operation) parameters(in string) (all []*openapi3.Parameter) {
	for _, p := range slices.Concat(op.item.Parameters, op.Parameters) {
		if p.Value.In == in {
			all = append(all, p.Value)
		}
	}
	slices.SortFunc(all, func(a, b *openapi3.Parameter) int {
		return strings.Index(op.path, "{"+a.Name+"}") - strings.Index(op.path, "{"+b.Name+"}")
	})
	return all
}

// takes is the schema of an operation's body, nil when it has none.
func (op *operation) takes() *openapi3.Schema {
	if op.RequestBody == nil {
		return nil
	}
	return op.RequestBody.Value.Content["application/json"].Schema.Value
}

// request makes one that is described.
func (g *generator) request(op *operation) *randomRequest {
	r := &randomRequest{query: url.Values{}, kind: "application/json"}
	for _, p := range op.parameters("path") {
		// A line break would be the end of a value; see fill.
		r.path = append(r.path, strings.ReplaceAll(fmt.Sprint(g.value(p.Name, p.Schema.Value)), "\n", "\r"))
	}
	for _, p := range op.parameters("query") {
		opaque := op.OperationID == "search" && p.Name == "after"
		if !opaque && (p.Required || p.Name == "timeout" || g.IntN(2) == 0) { // without a timeout a poll waits for long
			r.query.Set(p.Name, fmt.Sprint(g.value(p.Name, p.Schema.Value)))
		}
	}
	if s := op.takes(); s != nil {
		r.body = g.value("", s)
	}
	return r
}

// anything is what a text may have in it.
var anything = []rune("abcXYZ019 -_.,:;'\"\\<>&%?#+=@äß€😀\u202e\u0301\x00\n\x7f")

// value makes one of a schema.
func (g *generator) value(name string, s *openapi3.Schema) any {
	if known := g.known[name]; len(known) > 0 && g.IntN(3) > 0 {
		return known[g.IntN(len(known))]
	}
	switch {
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[g.IntN(len(s.Enum))]
	case len(s.AnyOf) > 0:
		return g.value("", s.AnyOf[g.IntN(len(s.AnyOf))].Value)
	case s.Type.Includes("object"):
		o := map[string]any{}
		for name, p := range s.Properties {
			if slices.Contains(s.Required, name) || g.IntN(2) == 0 {
				o[name] = g.value(name, p.Value)
			}
		}
		return o
	case s.Type.Includes("array"):
		all := make([]any, g.IntN(4))
		for i := range all {
			all[i] = g.value("", s.Items.Value)
		}
		return all
	case s.Type.Includes("integer"):
		least, most := int64(0), int64(math.MaxInt64)
		if s.Min != nil {
			least = int64(*s.Min)
		}
		if s.Max != nil && *s.Max < math.MaxInt64 {
			most = int64(*s.Max)
		}
		return pick(g.Rand, least, most, least+g.Int64N(min(most-least, 100)))
	case s.Type.Includes("number"):
		return pick(g.Rand, 0, 0.05*g.Float64())
	case s.Type.Includes("null") && g.IntN(3) == 0, s.Type.Is("null"):
		return nil
	}
	return g.text(s)
}

// text makes one of a schema.
func (g *generator) text(s *openapi3.Schema) string {
	least, most := int(s.MinLength), 40
	if s.MaxLength != nil {
		most = int(min(*s.MaxLength, 100))
	}
	n := pick(g.Rand, least, most, least+g.IntN(most-least+1))
	for {
		text := make([]rune, n)
		for i := range text {
			text[i] = anything[g.IntN(len(anything))]
		}
		switch made := string(text); {
		case strings.Contains(s.Pattern, "@"):
			return pick(g.Rand, "a@b", "x.y+z@example.com", fmt.Sprintf("a%d@%s.example", g.Uint32(), strings.Repeat("b", 63)))
		case strings.HasPrefix(s.Pattern, "^[0-9]"):
			return fmt.Sprintf("%d-%d", g.Int64(), g.Int64())
		case s.Pattern != "":
			if made = strings.Map(func(r rune) rune {
				if r < ' ' || r == '\x7f' {
					return 'x'
				}
				return r
			}, made); made != "." && made != ".." {
				return made
			}
		default:
			return made
		}
	}
}

// spoil makes one thing of a request something that is not described, and tells which; ""
// when there is nothing that could be.
func (g *generator) spoil(op *operation, r *randomRequest) string {
	var ways []func() string
	for i, p := range op.parameters("path") {
		for _, wrong := range wrongValues(p.Schema.Value) {
			_, isText := wrong.(string)
			if !isText && p.Schema.Value.Type.Includes("string") {
				continue // all is text in a path
			}
			if text := fmt.Sprint(wrong); text != "" && text != "." && text != ".." { // else it is another path
				ways = append(ways, func() string { r.path[i] = text; return fmt.Sprintf("the path's %s %.50q", p.Name, text) })
			}
		}
	}
	for _, p := range op.parameters("query") {
		if p.Required {
			ways = append(ways, func() string { r.query.Del(p.Name); return "no " + p.Name })
		}
		for _, wrong := range wrongValues(p.Schema.Value) {
			text := fmt.Sprint(wrong)
			if _, isText := wrong.(string); !isText && p.Schema.Value.Type.Includes("string") {
				continue // all is text in a query
			}
			ways = append(ways, func() string { r.query.Set(p.Name, text); return fmt.Sprintf("the query's %s %.50q", p.Name, text) })
		}
	}
	if s := op.takes(); s != nil {
		ways = append(ways, func() string { r.kind = "text/plain"; return "another Content-Type" })
		for _, wrong := range []any{nil, 1, "x", []any{}, true} {
			if wrong != nil {
				ways = append(ways, func() string { r.body = wrong; return "another body" })
			}
		}
		for name, p := range s.Properties {
			if slices.Contains(s.Required, name) {
				ways = append(ways, func() string { delete(r.body.(map[string]any), name); return "no " + name })
			}
			for _, wrong := range wrongValues(p.Value) {
				ways = append(ways, func() string {
					r.body.(map[string]any)[name] = wrong
					return fmt.Sprintf("the body's %s %.50v", name, wrong)
				})
			}
		}
	}
	if len(ways) == 0 {
		return ""
	}
	return ways[g.IntN(len(ways))]()
}

// wrongValues are some that are not of a schema.
func wrongValues(s *openapi3.Schema) (all []any) {
	nullable := s.Type.Includes("null")
	for _, one := range s.AnyOf {
		if one.Value.Type.Is("null") {
			nullable = true
			continue
		}
		if one.Value.Const != nil {
			continue
		}
		all = append(all, slices.DeleteFunc(wrongValues(one.Value), func(v any) bool { return v == nil })...)
	}
	switch {
	case len(s.AnyOf) > 0:
	case len(s.Enum) > 0:
		all = append(all, "", "user", 1)
	case s.Type.Includes("array"):
		all = append(all, map[string]any{}, "x", 1, make([]any, *s.MaxItems+1))
		for _, wrong := range wrongValues(s.Items.Value) {
			all = append(all, []any{wrong})
		}
	case s.Type.Includes("integer"), s.Type.Includes("number"):
		all = append(all, "x", "", true, []any{}, *s.Min-1)
		if s.Type.Includes("integer") {
			all = append(all, 1.5)
		}
		if s.Max != nil {
			all = append(all, json.Number(fmt.Sprintf("%.0f", *s.Max*1.1)))
		}
	default:
		all = append(all, 1, true, []any{}, map[string]any{})
		if s.MinLength > 0 {
			all = append(all, "", strings.Repeat("ä", int(s.MinLength)-1))
		}
		if s.MaxLength != nil {
			all = append(all, strings.Repeat("x", int(*s.MaxLength)+1))
		}
		switch {
		case strings.Contains(s.Pattern, "@"):
			all = append(all, "x", "@", "a@", "@b", "a@b@c", "a b@c", "a@-b", "a@b..c", "a@"+strings.Repeat("b", 64))
		case strings.HasPrefix(s.Pattern, "^[0-9]"):
			all = append(all, "x", "1", "1-", "-1", "1-2-3", "1.5-0")
		case s.Pattern != "":
			all = append(all, "a/b", ".", "..", "\x00", "a\x1f", "\u0085")
		}
	}
	if !nullable {
		all = append(all, nil)
	}
	return all
}
