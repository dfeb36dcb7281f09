package node

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A method that is not described is refused with those that are.
func TestContractMethodsOfREST(t *testing.T) {
	c := described(t)
	n := startNode(t)
	ready(t, n)
	allowed := map[string][]string{}
	for _, op := range c.ops {
		if op.isREST() {
			allowed[op.path] = append(allowed[op.path], op.method)
			if op.method == http.MethodGet && op.OperationID != "poll" && !strings.HasPrefix(op.OperationID, "getConversation") {
				allowed[op.path] = append(allowed[op.path], http.MethodHead)
			}
		}
	}
	client := &http.Client{Timeout: 10 * time.Second}
	for path, methods := range allowed {
		slices.Sort(methods)
		path = strings.NewReplacer("{id}", "7", "{name}", "hikers", "{username}", "alice").Replace(path)
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if slices.Contains(methods, method) {
				continue
			}
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			a, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			a.Body.Close()
			if a.StatusCode != 405 || a.Header.Get("Allow") != strings.Join(methods, ", ") || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %s, Allow %q, want 405 with %q", method, path, a.Status, a.Header.Get("Allow"), methods)
			}
		}
	}
	for _, path := range []string{"/Users/", "/Users/7/x", "/Users/7/friends/", "/Users/7/friends/alice/x", "/User/7/conversation/", "/Groups/", "/Groups/a/b", "/Group/a/conversation/x", "/Search/x", "/me/x", "/auth/", "/auth/x"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+n.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != 404 || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s: %s %v, want 404 in JSON", path, a.Status, a.Header)
		}
	}
}
