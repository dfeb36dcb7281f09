package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"parley/pkg/account"
	"parley/pkg/park"
	"parley/pkg/web"
)

// route is one kind of request.
type route struct {
	method string
	path   string // {name} stands for one segment
	handle func(s *Server, w http.ResponseWriter, c *call) (*answer, error)
	open   bool // nobody has to be signed in
	takes  bool // it changes something, though it is a GET
	reads  bool // its answer may be long
	cost   int
	// claims tells which of several routes with the same method and path a request is for;
	// nil: all that no other one claims.
	claims func(url.Values) bool
}

func byIndex(q url.Values) bool { return q.Has("Index") }

// routes are all there are. Those of /Users and /Groups answer under /User and /Group too.
var routes = []route{
	{method: http.MethodPost, path: "/Users", handle: (*Server).signUp, open: true, cost: costMessage},
	{method: http.MethodGet, path: "/Users", handle: (*Server).userByName, cost: costOther},
	{method: http.MethodGet, path: "/Users/{id}", handle: (*Server).user, cost: costOther},
	{method: http.MethodPut, path: "/Users/{id}", handle: (*Server).rename, cost: costMessage},
	{method: http.MethodPost, path: "/Users/{id}", handle: (*Server).writeTo, cost: costMessage},
	{method: http.MethodGet, path: "/Users/{id}/friends", handle: (*Server).friends, cost: costOther},
	{method: http.MethodPut, path: "/Users/{id}/friends/{username}", handle: (*Server).befriend, cost: costOther},
	{method: http.MethodDelete, path: "/Users/{id}/friends/{username}", handle: (*Server).unfriend, cost: costOther},
	{method: http.MethodGet, path: "/Users/{id}/conversation", handle: (*Server).page, cost: costOther, reads: true, claims: byIndex},
	{method: http.MethodGet, path: "/Users/{id}/conversation", handle: (*Server).pull, cost: costOther, takes: true, reads: true},
	{method: http.MethodGet, path: "/Groups", handle: (*Server).groups, cost: costOther},
	{method: http.MethodPost, path: "/Groups", handle: (*Server).createGroup, cost: costMessage},
	{method: http.MethodPut, path: "/Groups/{name}", handle: (*Server).putGroup, cost: costMessage},
	{method: http.MethodGet, path: "/Groups/{name}", handle: (*Server).group, cost: costOther},
	{method: http.MethodPost, path: "/Groups/{name}", handle: (*Server).addMember, cost: costMessage},
	{method: http.MethodDelete, path: "/Groups/{name}", handle: (*Server).leaveGroup, cost: costMessage},
	{method: http.MethodPost, path: "/Groups/{name}/conversation", handle: (*Server).writeToGroup, cost: costMessage},
	{method: http.MethodGet, path: "/Groups/{name}/conversation", handle: (*Server).groupPage, cost: costOther, reads: true},
	{method: http.MethodGet, path: "/Search", handle: (*Server).search, cost: costSearch},
	{method: http.MethodGet, path: "/me", handle: (*Server).poll, cost: costOther, takes: true},
	{method: http.MethodPost, path: "/auth/token", handle: (*Server).signIn, open: true, cost: costOther},
	{method: http.MethodDelete, path: "/auth/token", handle: (*Server).signOut, cost: costOther},
	{method: http.MethodGet, path: "/auth/methods", handle: (*Server).methods, open: true, cost: costOther},
}

// singular are the other names of the first segments.
var singular = map[string]string{"User": "Users", "Group": "Groups"}

// Patterns are where a Server is to be mounted, in the terms of http.ServeMux.
var Patterns = []string{"/Users", "/Users/", "/User", "/User/", "/Groups", "/Groups/", "/Group", "/Group/", "/Search", "/me", "/auth", "/auth/"}

// Owns tells whether a path is one that the Server answers, with 404 at least. A mux would
// take the names in it apart, or redirect to another one: who asks first passes those of a
// name like "a//b" on as they are.
func Owns(u *url.URL) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	switch first {
	case "User", "Users", "Group", "Groups", "Search", "me":
		return true
	}
	return false
}

// Routes are the requests that are answered with something else than 404 or 405, as
// "METHOD /path".
func (s *Server) Routes() []string {
	var all []string
	for _, r := range routes {
		all = append(all, r.method+" "+r.path)
		for one, many := range singular {
			if rest, ok := strings.CutPrefix(r.path, "/"+many); ok && (rest == "" || rest[0] == '/') {
				all = append(all, r.method+" /"+one+rest)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// segmentsOf are the parts of a path, unescaped one by one: a name may have a slash in it.
// It is nil when they cannot be.
func segmentsOf(u *url.URL) []string {
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for i, escaped := range segments {
		s, err := url.PathUnescape(escaped)
		if err != nil {
			return nil
		}
		segments[i] = s
	}
	if many := singular[segments[0]]; many != "" {
		segments[0] = many
	}
	return segments
}

// match returns what stands for a route's names; ok is false when it is for other paths.
func (r *route) match(segments []string) (names []string, ok bool) {
	pattern := strings.Split(r.path[1:], "/")
	if len(pattern) != len(segments) {
		return nil, false
	}
	for i, p := range pattern {
		switch {
		case p[0] == '{' && segments[i] != "":
			names = append(names, segments[i])
		case p != segments[i]:
			return nil, false
		}
	}
	return names, true
}

// routeOf is a request's path without what stands for names, for the log.
func routeOf(r *http.Request) string {
	segments := segmentsOf(r.URL)
	if segments == nil {
		return ""
	}
	for i := range routes {
		if _, ok := routes[i].match(segments); ok {
			return routes[i].path
		}
	}
	return ""
}

// call is one request on its way.
type call struct {
	*http.Request
	query   url.Values
	names   []string        // that stand for those of the path
	session account.Session // whose it is; zero when nobody has to be signed in
	id      int64           // the same user's
	token   string
}

// ServeHTTP answers one request. Every answer is JSON or empty.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	s.cfg.Origins.ExposeWithCookies(w, r)
	w.Header().Set("Cache-Control", "no-store")
	segments := segmentsOf(r.URL)
	if segments == nil {
		s.refuse(w, r, errNothing)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.refuse(w, r, bad("the query cannot be read"))
		return
	}
	do, names, allowed := find(segments, r.Method, query)
	switch {
	case len(allowed) == 0:
		s.refuse(w, r, errNothing)
	case web.Preflight(r):
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		if err := s.cfg.Origins.AnswerPreflight(w, r, allowed...); err != nil {
			s.refuse(w, r, errors.Join(errOrigin, err))
		}
	case r.Method == http.MethodOptions:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		w.WriteHeader(http.StatusNoContent)
	case do == nil:
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.refuse(w, r, errMethod)
	default:
		s.serve(w, do, &call{Request: r, query: query, names: names})
	}
}

// find returns the route of a request, nil if there is none, and the methods that are
// allowed where it goes.
func find(segments []string, method string, query url.Values) (do *route, names []string, allowed []string) {
	for i := range routes {
		r := &routes[i]
		found, ok := r.match(segments)
		if !ok || r.claims != nil && !r.claims(query) || r.method == http.MethodGet && slices.Contains(allowed, http.MethodGet) {
			continue
		}
		allowed = append(allowed, r.method)
		head := r.method == http.MethodGet && !r.takes
		if head {
			allowed = append(allowed, http.MethodHead)
		}
		if r.method == method || head && method == http.MethodHead {
			do, names = r, found
		}
	}
	if len(allowed) > 0 {
		allowed = append(allowed, http.MethodOptions)
		slices.Sort(allowed)
	}
	return do, names, allowed
}

// serve answers a request of a route, if its sender may send it.
func (s *Server) serve(w http.ResponseWriter, do *route, c *call) {
	if err := s.admit(do, c); err != nil {
		s.refuse(w, c.Request, err)
		return
	}
	if do.reads {
		if err := s.readers.enter(c.id); err != nil {
			s.refuse(w, c.Request, err)
			return
		}
		defer s.readers.leave(c.id)
	}
	a, err := do.handle(s, w, c)
	switch {
	case err != nil:
		s.refuse(w, c.Request, err)
	case a != nil: // else it was answered
		a.write(w, c.Request)
	}
}

// admit finds out whose request it is, and whether it may be answered now.
func (s *Server) admit(do *route, c *call) error {
	if do.takes || c.Method != http.MethodGet && c.Method != http.MethodHead {
		if err := s.ofTrustedPage(c.Request); err != nil {
			return errors.Join(errOrigin, err)
		}
	}
	who := paceOfAddress(s.cfg.Proxies.Client(c.Request))
	if !do.open {
		if c.token = account.TokenOf(c.Request); c.token == "" {
			return errUnauthorized
		}
		var err error
		if c.session, err = s.deps.Accounts.Session(c.Context(), c.token); err != nil {
			// Who shows tokens that open nothing is told to wait; others of the address are
			// not, since it may be that of many.
			if errors.Is(err, account.ErrNoSession) {
				if wait := s.pace.take(who, do.cost, time.Now()); wait > 0 {
					return tooMany("too many requests with tokens that open nothing (--rate)", wait)
				}
			}
			return err
		}
		c.id = c.session.User.ID
		who = paceOfUser(c.id)
	}
	if wait := s.pace.take(who, do.cost, time.Now()); wait > 0 {
		return tooMany("too many requests (--rate)", wait)
	}
	return nil
}

// ofTrustedPage refuses what pages of foreign sites send. A browser does not tell the
// origin of every GET, but from which kind of site it comes.
func (s *Server) ofTrustedPage(r *http.Request) error {
	if err := s.cfg.Origins.Check(r); err != nil {
		return err
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Header.Get("Origin") == "" && account.BearerOf(r) == "" && (site == "cross-site" || site == "same-site") {
		return fmt.Errorf("a request of a %s page that does not tell its origin", site)
	}
	return nil
}

// fields are those of the header that belong to a problem.
func (p *problem) fields() (all []park.Field) {
	if p.status == http.StatusUnauthorized {
		all = append(all, park.Field{Name: "WWW-Authenticate", Value: `Bearer realm="parley"`})
	}
	if p.wait > 0 {
		all = append(all, park.Field{Name: "Retry-After", Value: retryAfter(p.wait)})
	}
	return all
}

// recovered answers a request whose handling has panicked.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
		panic(p)
	}
	s.refuse(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}

// timeout bounds what a request waits for besides notifications.
const timeout = 10 * time.Second

// bounded is a request's context, but for that.
func (c *call) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context(), timeout)
}
