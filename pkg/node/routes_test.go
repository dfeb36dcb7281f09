package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// While a node drains, connections end with their answers, but for those that are to
// become WebSockets; and who is asked ahead answers what is his as it came.
func TestRoutes(t *testing.T) {
	ending := false
	r := newRoutes()
	r.ending = func() bool { return ending }
	r.ahead = func(req *http.Request) http.Handler {
		if req.URL.Path != "/a//b" {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.URL.Path) })
	}
	r.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "mux") })
	for _, c := range []struct {
		ending        bool
		path, upgrade string
		text, header  string
	}{
		{false, "/x", "", "mux", ""},
		{true, "/x", "", "mux", "close"},
		{true, "/x", "websocket", "mux", ""},
		{false, "/a//b", "", "/a//b", ""},
		{true, "/a//b", "", "/a//b", "close"},
	} {
		ending = c.ending
		w, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, c.path, nil)
		if c.upgrade != "" {
			req.Header.Set("Upgrade", c.upgrade)
		}
		r.ServeHTTP(w, req)
		if got := w.Header().Get("Connection"); w.Body.String() != c.text || got != c.header {
			t.Errorf("%+v: %q, Connection %q", c, w.Body, got)
		}
	}
}
