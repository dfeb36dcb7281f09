package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
	"parley/pkg/web"
)

const (
	// maxAPIBody bounds the body of a request, in bytes: the longest values that the
	// rules allow, with every character escaped, are a quarter of it.
	maxAPIBody = 16 << 10
	// retryUnavailable and retryBusy are after how many seconds a client is to try
	// again when Redis or the database is away, or too many sign in at once.
	retryUnavailable = 1
	retryBusy        = 5
)

// SignIn is what the HTTP half needs of accounts; see account.Accounts.
type SignIn interface {
	Create(ctx context.Context, username, email, password string) (relay.User, error)
	Login(ctx context.Context, address netip.Addr, email, password string) (relay.User, error)
	Open(ctx context.Context, u relay.User) (token string, s account.Session, err error)
	End(ctx context.Context, token string) error
}

// APIConfig holds what the HTTP half of the protocol works with.
type APIConfig struct {
	Accounts SignIn
	Proxies  web.Proxies
	Origins  web.Origins
	Log      *slog.Logger
}

// api is the HTTP half. It is not changed after NewAPI.
type api struct {
	APIConfig
	endpoints map[string]func(http.ResponseWriter, *http.Request) error // by path
}

// NewAPI returns the HTTP half of the protocol, to be mounted at /api/: create-account,
// login and logout. Every answer but the empty ones is JSON, for unknown paths too. Pages
// of origins that Origins allows may use it. Browsers keep the cookie to pages of the same
// site: those of a neighbouring host may bear it, if Origins names them.
func NewAPI(cfg APIConfig) http.Handler {
	a := &api{APIConfig: cfg}
	a.endpoints = map[string]func(http.ResponseWriter, *http.Request) error{
		"/api/create-account": a.createAccount,
		"/api/login":          a.login,
		"/api/logout":         a.logout,
	}
	return a
}

// Routes are the requests that are answered with something else than 404 or 405, as
// "METHOD /path".
func (a *api) Routes() []string {
	var all []string
	for path := range a.endpoints {
		all = append(all, http.MethodPost+" "+path)
	}
	slices.Sort(all)
	return all
}

// apiError is a failure as the client is told.
type apiError struct {
	ID      string `json:"id"`
	Message string `json:"message"`
	status  int
	retry   int // seconds; 0: nothing is said of it
}

func (e *apiError) Error() string { return e.ID + ": " + e.Message }

var (
	errNotFound    = &apiError{ID: "NOT_FOUND", Message: "there is nothing here", status: http.StatusNotFound}
	errMethod      = &apiError{ID: "METHOD_NOT_ALLOWED", Message: "use POST", status: http.StatusMethodNotAllowed}
	errOrigin      = &apiError{ID: "FORBIDDEN", Message: "a page of another site may not do this", status: http.StatusForbidden}
	errUsername    = &apiError{ID: "USERNAME_EXISTS", Message: "another account has this username", status: http.StatusBadRequest}
	errEmail       = &apiError{ID: "EMAIL_EXISTS", Message: "another account has this email", status: http.StatusBadRequest}
	errLogin       = &apiError{ID: "LOGIN_FAILED", Message: "wrong email or password", status: http.StatusBadRequest}
	errBusy        = &apiError{ID: "UNAVAILABLE", Message: "too many sign in at once: try again later", status: http.StatusServiceUnavailable, retry: retryBusy}
	errAPIAway     = &apiError{ID: "UNAVAILABLE", Message: "that could not be done right now: try again", status: http.StatusServiceUnavailable, retry: retryUnavailable}
	errNotSignedIn = &apiError{ID: "UNAVAILABLE", Message: "the account was created, but you are not signed in: log in", status: http.StatusServiceUnavailable, retry: retryUnavailable}
	errInternal    = &apiError{ID: "INTERNAL", Message: "internal error", status: http.StatusInternalServerError}
)

// apiErrorOf is how a client is told of an error.
func apiErrorOf(err error) *apiError {
	var told *apiError
	var field *web.FieldError
	var invalid *account.Invalid
	var limited *account.Limited
	bad := func(err error) *apiError {
		return &apiError{ID: "BAD_REQUEST", Message: err.Error(), status: http.StatusBadRequest}
	}
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &field):
		return bad(field)
	case errors.As(err, &invalid):
		return bad(invalid)
	case errors.As(err, &limited):
		seconds := int((limited.Wait + time.Second - 1) / time.Second)
		return &apiError{ID: "TOO_MANY_REQUESTS", Message: limited.Error(), status: http.StatusTooManyRequests, retry: seconds}
	case errors.Is(err, relay.ErrEmailTaken):
		return errEmail
	case errors.Is(err, relay.ErrUsernameTaken):
		return errUsername
	case errors.Is(err, account.ErrLogin):
		return errLogin
	case errors.Is(err, account.ErrBusy):
		return errBusy
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed):
		return errAPIAway
	}
	for _, broken := range []error{web.ErrContentType, web.ErrTooLong, web.ErrCutOff, web.ErrNotJSON} {
		if errors.Is(err, broken) {
			return bad(broken)
		}
	}
	return errInternal
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	w.Header().Set("Cache-Control", "no-store")
	if r.Header.Get("Origin") != "" {
		a.Origins.ExposeWithCookies(w, r)
	}
	do := a.endpoints[r.URL.Path]
	switch {
	case do == nil:
		a.refuse(w, r, errNotFound)
		return
	case web.Preflight(r):
		if err := a.Origins.AnswerPreflight(w, r, http.MethodPost); err != nil {
			a.refuse(w, r, errors.Join(errOrigin, err))
		}
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		a.refuse(w, r, errMethod)
		return
	}
	if err := a.Origins.Check(r); err != nil {
		a.refuse(w, r, errors.Join(errOrigin, err))
		return
	}
	if err := do(w, r); err != nil {
		a.refuse(w, r, err)
	}
}

func (a *api) createAccount(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Username *string `json:"username"`
		Email    *string `json:"email"`
		Password *string `json:"password"`
	}
	if err := web.ReadJSON(w, r, maxAPIBody, &body); err != nil {
		return err
	}
	u, err := a.Accounts.Create(r.Context(), *body.Username, *body.Email, *body.Password)
	if err != nil {
		return err
	}
	if err := a.admit(w, r, u); err != nil {
		return errors.Join(errNotSignedIn, err)
	}
	return nil
}

func (a *api) login(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Email    *string `json:"email"`
		Password *string `json:"password"`
	}
	if err := web.ReadJSON(w, r, maxAPIBody, &body); err != nil {
		return err
	}
	u, err := a.Accounts.Login(r.Context(), a.Proxies.Client(r), *body.Email, *body.Password)
	if err != nil {
		return err
	}
	return a.admit(w, r, u)
}

// admit opens a session and answers with its cookie.
func (a *api) admit(w http.ResponseWriter, r *http.Request, u relay.User) error {
	token, _, err := a.Accounts.Open(r.Context(), u)
	if err != nil {
		return err
	}
	account.SetCookie(w, token, a.Proxies.Secure(r))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// logout is content without a session, too. The cookie stays until the session is
// known to have ended.
func (a *api) logout(w http.ResponseWriter, r *http.Request) error {
	if token := account.TokenOf(r); token != "" {
		if err := a.Accounts.End(r.Context(), token); err != nil {
			return err
		}
	}
	account.ClearCookie(w, a.Proxies.Secure(r))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// refuse answers with an error, and logs it. What is wrong with a request is not told
// there, since that may tell of what a user has typed.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := apiErrorOf(err)
	about := []any{"protocol", Protocol, "path", r.URL.Path, "client", a.Proxies.Client(r), "code", told.ID}
	switch {
	case told.status == http.StatusInternalServerError:
		a.Log.Error("request failed", append(about, "error", err)...)
	case told.status == http.StatusServiceUnavailable && r.Context().Err() == nil:
		a.Log.Warn("request failed", append(about, "error", err)...)
	default:
		a.Log.Debug("request refused", about...)
	}
	if told.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(told.retry))
	}
	web.WriteJSON(w, told.status, told)
}

// recovered answers a request whose handling has panicked.
func (a *api) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // it is panicked with as it is
		panic(p)
	}
	w.Header().Del("Set-Cookie")
	a.refuse(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
}
