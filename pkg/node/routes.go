package node

import "net/http"

// routes is a ServeMux that remembers what was mounted, so that what openapi.yaml says
// can be held against it.
type routes struct {
	*http.ServeMux
	mounted []mount
	// ahead answers what the ServeMux would take apart, nil for all else; it may be nil itself.
	ahead func(*http.Request) http.Handler
	// ending tells that connections are to end with their answers; it may be nil. A balancer
	// then has none left on which it could send a request as they are closed.
	ending func() bool
}

// ServeHTTP implements http.Handler.
func (r *routes) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.ending != nil && r.ending() && req.Header.Get("Upgrade") == "" {
		w.Header().Set("Connection", "close")
	}
	if r.ahead != nil {
		if h := r.ahead(req); h != nil {
			h.ServeHTTP(w, req)
			return
		}
	}
	r.ServeMux.ServeHTTP(w, req)
}

// mount is a handler and the pattern that it was mounted at. A handler of a whole subtree
// has a method Routes() []string, which tells what there is in it.
type mount struct {
	pattern string
	handler http.Handler
}

func newRoutes() *routes { return &routes{ServeMux: http.NewServeMux()} }

// Handle is that of the ServeMux.
func (r *routes) Handle(pattern string, h http.Handler) {
	r.mounted = append(r.mounted, mount{pattern, h})
	r.ServeMux.Handle(pattern, h)
}

// HandleFunc is that of the ServeMux.
func (r *routes) HandleFunc(pattern string, f func(http.ResponseWriter, *http.Request)) {
	r.Handle(pattern, http.HandlerFunc(f))
}
