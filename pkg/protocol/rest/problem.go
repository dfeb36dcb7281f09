package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
	"parley/pkg/web"
)

// problem is a failure as a client is told: the JSON of it, but for what it is wrapped in.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	status  int
	wait    time.Duration // until another try is of use; 0: nothing is said of it
}

func (p *problem) Error() string { return p.Code + ": " + p.Message }

// Seconds after which a client is to try again.
const (
	retryAway = time.Second
	retryBusy = 5 * time.Second
)

func bad(format string, args ...any) *problem {
	return &problem{Code: "bad_request", Message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

func forbidden(message string) *problem {
	return &problem{Code: "forbidden", Message: message, status: http.StatusForbidden}
}

func notFound(message string) *problem {
	return &problem{Code: "not_found", Message: message, status: http.StatusNotFound}
}

func conflict(code, message string) *problem {
	return &problem{Code: code, Message: message, status: http.StatusConflict}
}

func tooMany(what string, wait time.Duration) *problem {
	return &problem{Code: "too_many_requests", Message: what, status: http.StatusTooManyRequests, wait: wait}
}

func unavailable(message string, wait time.Duration) *problem {
	return &problem{Code: "unavailable", Message: message, status: http.StatusServiceUnavailable, wait: wait}
}

var (
	errNothing      = notFound("there is nothing here")
	errNoUser       = notFound("there is no such user")
	errNoGroup      = notFound("there is no such group")
	errMethod       = &problem{Code: "method_not_allowed", Message: "this method is not allowed here; see Allow", status: http.StatusMethodNotAllowed}
	errOrigin       = forbidden("a page of another site may not do this (--allowed-origins)")
	errOneself      = forbidden("this is for the user himself only")
	errNotMember    = forbidden("this is for members of the group only")
	errUnauthorized = &problem{Code: "unauthorized", Message: "this wants Authorization: Bearer <token>, or the cookie of a session that stands", status: http.StatusUnauthorized}
	errSessionEnded = &problem{Code: "unauthorized", Message: "the session has ended", status: http.StatusUnauthorized}
	errLogin        = &problem{Code: "login_failed", Message: "wrong email or password", status: http.StatusUnauthorized}
	errContentType  = &problem{Code: "unsupported_media_type", Message: "the body is to be application/json, as Content-Type", status: http.StatusUnsupportedMediaType}
	errTooLong      = &problem{Code: "too_large", Message: "the body is too long", status: http.StatusRequestEntityTooLarge}
	errUsername     = conflict("username_taken", "another account has this username")
	errEmail        = conflict("email_taken", "another account has this email")
	errGroup        = conflict("group_taken", "another group has this name")
	errTooMany      = conflict("too_many", fmt.Sprintf("that would be too many: a user has %d friends and is in %d groups at most, a group has %d members", relay.MaxFriends, relay.MaxMemberships, relay.MaxGroupMembers))
	errBusy         = unavailable("too many sign in at once: try again later", retryBusy)
	errAway         = unavailable("that could not be done right now, or is not known to have been done: try again", retryAway)
	errInternal     = &problem{Code: "internal", Message: "internal error", status: http.StatusInternalServerError}
)

// problemOf is how a client is told of an error.
func problemOf(err error) *problem {
	var told *problem
	var field *web.FieldError
	var invalid *account.Invalid
	var limited *account.Limited
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &field):
		return bad("%s", field)
	case errors.As(err, &invalid):
		return bad("%s", invalid)
	case errors.As(err, &limited):
		return tooMany(limited.Error(), limited.Wait)
	}
	for _, known := range []struct {
		err  error
		told *problem
	}{
		{relay.ErrEmailTaken, errEmail},
		{relay.ErrUsernameTaken, errUsername},
		{relay.ErrGroupTaken, errGroup},
		{relay.ErrTooMany, errTooMany},
		{relay.ErrNoUser, errNoUser},
		{relay.ErrNoGroup, errNoGroup},
		{relay.ErrNotMember, errNotMember},
		{account.ErrLogin, errLogin},
		{account.ErrNoSession, errUnauthorized},
		{account.ErrBusy, errBusy},
		{web.ErrContentType, errContentType},
		{web.ErrTooLong, errTooLong},
		{web.ErrCutOff, bad("%s", web.ErrCutOff)},
		{web.ErrNotJSON, bad("%s", web.ErrNotJSON)},
		{relay.ErrUnavailable, errAway},
		{relay.ErrClosed, errAway},
	} {
		if errors.Is(err, known.err) {
			return known.told
		}
	}
	return errInternal
}

// failure is a problem as it is written.
type failure struct {
	Error *problem `json:"error"`
}

// refuse answers with an error, and logs it; not what is wrong with a request, since that
// may tell of what a user has typed.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	told := problemOf(err)
	about := []any{"protocol", Protocol, "method", r.Method, "route", routeOf(r), "client", s.cfg.Proxies.Client(r), "code", told.Code}
	switch {
	case told.status == http.StatusInternalServerError:
		s.log.Error("request failed", append(about, "error", err)...)
	case told.status == http.StatusServiceUnavailable && r.Context().Err() == nil:
		s.log.Warn("request failed", append(about, "error", err)...)
	default:
		s.log.Debug("request refused", about...)
	}
	for _, f := range told.fields() {
		w.Header().Set(f.Name, f.Value)
	}
	web.WriteJSON(w, told.status, failure{told})
}

// retryAfter is a time as Retry-After has it: whole seconds, one at least.
func retryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
