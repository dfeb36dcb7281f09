package openid

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
	"parley/pkg/web"
)

// Where the handler is to be mounted. The issuer is told PublicURL + CallbackPath.
const (
	LoginPath    = "/auth/login"
	CallbackPath = "/auth/callback"
)

const (
	// attemptLife is how long somebody may take at the issuer.
	attemptLife = 10 * time.Minute
	// maxAttempts is how many sign-ins may be begun from one client address or IPv6 /64
	// network, on all nodes together, within attemptLife of the first one. Those that have
	// ended well do not count.
	maxAttempts = 60
	// maxTabs is how many sign-ins one browser may have under way.
	maxTabs = 10
	// maxExchanges is for how many sign-ins at once this node asks the issuer.
	maxExchanges = 64
	// callbackTimeout bounds the second half of a sign-in. It is done whether the browser
	// waits for it or not.
	callbackTimeout = 20 * time.Second
	// retryIssuer is after how many seconds a client is to try again when the issuer, Redis or
	// the database is away.
	retryIssuer = 5
)

// Sessions open sessions; see account.Accounts.
type Sessions interface {
	Open(ctx context.Context, u relay.User) (token string, s account.Session, err error)
}

// Config holds what a Handler works with.
type Config struct {
	Client
	Identities relay.Identities
	Values     relay.Values // has the sign-ins that are under way
	Meter      relay.Meter  // counts them
	Sessions   Sessions
	Origins    web.Origins
	Proxies    web.Proxies
	Transport  http.RoundTripper // to the issuer; nil: one that keeps no connection
	Log        *slog.Logger      // nil: none
}

// Handler serves LoginPath and CallbackPath to browsers. Nothing of it asks the issuer
// before somebody signs in: one that is away at the start is found later.
type Handler struct {
	// Fixed after New.
	cfg       Config
	log       *slog.Logger
	issuer    *issuer
	exchanges chan struct{} // has one for each that is under way
	metrics   *Metrics
	endpoints map[string]func(http.ResponseWriter, *http.Request) error // by path
}

// New makes a Handler. It has no goroutines and needs no end. An error says what is wrong
// with the Client.
func New(cfg Config) (*Handler, error) {
	h := &Handler{cfg: cfg, log: cfg.Log, exchanges: make(chan struct{}, maxExchanges), metrics: newMetrics()}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Issuer != "" {
		if err := CheckIssuer(cfg.Issuer); err != nil {
			return nil, fmt.Errorf("the issuer: %w", err)
		}
		h.issuer = newIssuer(cfg.Client, cfg.Transport)
	}
	h.endpoints = map[string]func(http.ResponseWriter, *http.Request) error{
		LoginPath:    h.login,
		CallbackPath: h.callback,
	}
	return h, nil
}

// Metrics are the figures of the handler, to be registered once.
func (h *Handler) Metrics() *Metrics { return h.metrics }

// Routes are the requests that are answered with something else than 404 or 405, as
// "METHOD /path".
func (h *Handler) Routes() []string {
	var all []string
	for path := range h.endpoints {
		for _, method := range methods {
			all = append(all, method+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// methods are those of both endpoints.
var methods = []string{http.MethodGet, http.MethodOptions}

// ServeHTTP answers one request: with a redirect, or with what went wrong, as a page or,
// if the client would rather have it, as JSON.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer h.recovered(w, r)
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer") // the address has the code
	header.Set("X-Content-Type-Options", "nosniff")
	do := h.endpoints[r.URL.Path]
	switch {
	case do == nil:
		h.refuse(w, r, errNothing)
		return
	case r.Method == http.MethodOptions:
		h.options(w, r)
		return
	case r.Method != http.MethodGet:
		header.Set("Allow", strings.Join(methods, ", "))
		h.refuse(w, r, errMethod)
		return
	case h.issuer == nil:
		h.refuse(w, r, errUnset)
		return
	}
	if err := do(w, r); err != nil {
		h.refuse(w, r, err)
	}
}

// options tells what may be done, to pages of allowed origins too.
func (h *Handler) options(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", strings.Join(methods, ", "))
	if web.Preflight(r) {
		h.cfg.Origins.Expose(w, r)
		if h.cfg.Origins.AnswerPreflight(w, r, methods...) == nil {
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// recovered answers a request whose handling has panicked.
func (h *Handler) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
		panic(p)
	}
	w.Header().Del("Set-Cookie")
	h.refuse(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}
