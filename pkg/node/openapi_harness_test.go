package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// contract is openapi.yaml, and what of it was seen to happen.
type contract struct {
	doc  *openapi3.T
	ops  map[string]*operation // by operationId
	seen map[string]bool       // "operationId status"
}

// operation is one that openapi.yaml describes.
type operation struct {
	*openapi3.Operation
	method   string
	path     string // with its placeholders
	item     *openapi3.PathItem
	internal bool // on the internal port
}

// described reads openapi.yaml, which has to be valid. To the tests answers have what is
// described and nothing else.
func described(t *testing.T) *contract {
	t.Helper()
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData([]byte(openAPI))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Fatalf("it is of OpenAPI %s", doc.OpenAPI)
	}
	no := false
	for _, schema := range doc.Components.Schemas {
		if schema.Value.AdditionalProperties.Has == nil && len(schema.Value.Properties) > 0 {
			schema.Value.AdditionalProperties.Has = &no
		}
	}
	c := &contract{doc: doc, ops: map[string]*operation{}, seen: map[string]bool{}}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if c.ops[op.OperationID] != nil || op.OperationID == "" {
				t.Fatalf("%s %s: the operationId %q is not its own", method, path, op.OperationID)
			}
			c.ops[op.OperationID] = &operation{op, method, path, item, len(item.Servers) > 0}
		}
	}
	return c
}

// statuses are those that an operation is described to have.
func (op *operation) statuses() []string { return slices.Sorted(maps.Keys(op.Responses.Map())) }

// fill is what stands for the operation's placeholders: the lines of value for the last
// ones of them, the examples for the rest.
func (op *operation) fill(value string) map[string]string {
	var names []string
	filled := map[string]string{}
	for _, p := range slices.Concat(op.item.Parameters, op.Parameters) {
		if p.Value.In != openapi3.ParameterInPath {
			continue
		}
		b, _ := json.Marshal(p.Value.Example) // it was JSON before
		filled[p.Value.Name] = strings.Trim(string(b), `"`)
		names = append(names, p.Value.Name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Index(op.path, "{"+a+"}") - strings.Index(op.path, "{"+b+"}") })
	if value != "" {
		lines := strings.Split(value, "\n")
		for i, name := range slices.Backward(names) {
			if at := len(lines) - len(names) + i; at >= 0 {
				filled[name] = lines[at]
			}
		}
	}
	return filled
}

// target is the operation's path on its port of a node; see fill for value.
func (op *operation) target(t *testing.T, n *testNode, value string) *url.URL {
	t.Helper()
	u := &url.URL{Scheme: "http", Host: n.addr}
	if op.internal {
		u.Host = n.InternalAddr().String()
	}
	var plain, escaped []string
	filled := op.fill(value)
	for part := range strings.SplitSeq(op.path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if ok {
			if part, ok = filled[strings.TrimSuffix(name, "}")]; !ok {
				t.Fatalf("%s: a placeholder is not described", op.path)
			}
		}
		plain, escaped = append(plain, part), append(escaped, url.PathEscape(part))
	}
	u.Path, u.RawPath = strings.Join(plain, "/"), strings.Join(escaped, "/")
	return u
}

// edit makes a request another one.
type edit func(r *http.Request)

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func query(q string) edit { return func(r *http.Request) { r.URL.RawQuery = q } }

func body(text string) edit {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(text))
		r.ContentLength = int64(len(text))
		r.Header.Set("Content-Type", "application/json")
	}
}

// handshake is that of a WebSocket.
func handshake(r *http.Request) {
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
}

// answer is a response whose body was read, but for that of status 101, which is the
// WebSocket.
type answer struct {
	*http.Response
	text string
}

// do sends a request of an operation, whose placeholder is to be value, and checks that
// the answer is one that is described.
func (c *contract) do(t *testing.T, n *testNode, id, value string, edits ...edit) *answer {
	t.Helper()
	op := c.ops[id]
	if op == nil {
		t.Fatalf("%s is not described", id)
	}
	r, err := http.NewRequestWithContext(t.Context(), op.method, "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL = op.target(t, n, value)
	for _, e := range edits {
		e(r)
	}
	what := fmt.Sprintf("%s %s %v", r.Method, r.URL, r.Header)
	got, err := contractClient.Do(r)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	a := &answer{Response: got}
	if got.StatusCode == http.StatusSwitchingProtocols {
		t.Cleanup(func() { _ = got.Body.Close() }) // the test may have closed it
	} else {
		b, err := io.ReadAll(got.Body)
		if err := errors.Join(err, got.Body.Close()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		a.text = string(b)
	}
	c.seen[id+" "+strconv.Itoa(got.StatusCode)] = true
	if err := c.check(op, r, a); err != nil {
		t.Errorf("%s is answered with %d %v\n%.1000s\nwhich openapi.yaml does not describe: %v", what, got.StatusCode, got.Header, a.text, err)
	}
	return a
}

// contractClient follows no redirects and keeps no connections.
var contractClient = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext},
	Timeout:   30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	},
}

// check holds an answer against the description of its operation.
func (c *contract) check(op *operation, r *http.Request, a *answer) error {
	response := op.Responses.Value(strconv.Itoa(a.StatusCode))
	if response == nil {
		return errors.New("the status is not among its own")
	}
	for name, h := range response.Value.Headers {
		if len(a.Header.Values(name)) == 0 && h.Value.Required {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	if len(response.Value.Content) == 0 && a.text != "" {
		return errors.New("no content is described")
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: &routers.Route{Spec: c.doc, PathItem: op.item, Operation: op.Operation, Method: op.method, Path: op.path}},
		Status:                 a.StatusCode,
		Header:                 a.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	}
	in.SetBodyBytes([]byte(a.text))
	if err := openapi3filter.ValidateResponse(r.Context(), in); err != nil {
		return err
	}
	if strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") && !json.Valid([]byte(a.text)) {
		return errors.New("it is not one value of JSON")
	}
	if !strings.HasPrefix(op.path, "/v1/api/") {
		return nil
	}
	var told struct{ Code int }
	if err := json.Unmarshal([]byte(a.text), &told); err != nil {
		return fmt.Errorf("the code in the body: %w", err)
	}
	if told.Code != a.StatusCode {
		return fmt.Errorf("the code in the body is %d", told.Code)
	}
	return nil
}

// want is do, and the status has to be this one. A request that succeeds has to be one
// that is described, too.
func (c *contract) want(t *testing.T, status int, n *testNode, id, value string, edits ...edit) *answer {
	t.Helper()
	a := c.do(t, n, id, value, edits...)
	if a.StatusCode != status {
		t.Errorf("%s %q: %d %s, want %d", id, value, a.StatusCode, a.text, status)
	}
	if a.StatusCode < 300 {
		if err := c.checkRequest(t, c.ops[id], n, value, edits...); err != nil {
			t.Errorf("%s %q succeeds, and openapi.yaml does not describe the request: %v", id, value, err)
		}
	}
	return a
}

// checkRequest holds a request against the description of its operation.
func (c *contract) checkRequest(t *testing.T, op *operation, n *testNode, value string, edits ...edit) error {
	t.Helper()
	r := httptest.NewRequest(op.method, op.target(t, n, value).String(), nil)
	for _, e := range edits {
		e(r)
	}
	return openapi3filter.ValidateRequest(t.Context(), &openapi3filter.RequestValidationInput{
		Request:    r,
		PathParams: op.fill(value),
		Route:      &routers.Route{Spec: c.doc, PathItem: op.item, Operation: op.Operation, Method: op.method, Path: op.path},
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, RejectWhenRequestBodyNotSpecified: true},
	})
}
