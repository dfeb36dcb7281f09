package openid

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// problem is a failure as the user is told, and as a program is.
type problem struct {
	status int
	code   string // for programs
	title  string
	text   string // what happened, and what can be done
	result string // as it is counted; empty: it is not
	retry  int    // seconds; 0: nothing is said of it
}

func (p *problem) Error() string { return p.title }

var (
	errNothing = &problem{status: http.StatusNotFound, code: "not_found", title: "There is nothing here",
		text: "This address leads nowhere."}
	errMethod = &problem{status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "That cannot be done here",
		text: "Use GET."}
	errUnset = &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "There is no such sign-in here",
		text: "This server knows no OpenID Connect issuer: its setting --oidc-issuer is empty. Sign in with email and password."}
	errHost = &problem{status: http.StatusBadRequest, code: "bad_request", title: "The address is not clear",
		text: "The request does not say by which name it was sent here.", result: resultBad}
	errRedirect = &problem{status: http.StatusBadRequest, code: "bad_request", title: "This link is not right",
		text: "It says where to go after the sign-in, and that is no page of this server.", result: resultBad}
	errUnknown = &problem{status: http.StatusBadRequest, code: "bad_request", title: "This sign-in is not under way",
		text: "It was begun in another browser, it has taken longer than ten minutes, or it has ended already. " +
			"If cookies are switched off for this site, it cannot work: allow them, and try again.", result: resultUnknown}
	errDenied = &problem{status: http.StatusForbidden, code: "forbidden", title: "You are not signed in",
		text: "The sign-in was cancelled, or refused, at your account's provider. Nothing has happened here.", result: resultRefused}
	errSetUp = &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "The sign-in is not set up right",
		text: "The provider of your account does not accept how this server asks it. Whoever runs this server finds more in its log.", result: resultInvalid, retry: retryIssuer}
	errInvalid = &problem{status: http.StatusUnauthorized, code: "login_failed", title: "The sign-in could not be checked",
		text: "What the provider of your account has answered does not prove who you are. You are not signed in.", result: resultInvalid}
	errNoEmail = &problem{status: http.StatusForbidden, code: "forbidden", title: "Your email address is missing",
		text: "An account here needs an email address, and the provider of your account has told none. Allow it to, or add one there.", result: resultNoEmail}
	errBadEmail = &problem{status: http.StatusForbidden, code: "forbidden", title: "Your email address does not fit",
		text: "An account here needs an email address of at most 100 characters, and what the provider of your account has told is no such one.", result: resultNoEmail}
	errTaken = &problem{status: http.StatusConflict, code: "email_taken", title: "There is an account with your email address",
		text: "It was made with a password, or through another provider, and nothing proves that it is yours. Sign in to it with its password.", result: resultTaken}
	errLimited = &problem{status: http.StatusTooManyRequests, code: "too_many_requests", title: "Too many sign-ins are under way",
		text: "Too many were begun from your network in the last ten minutes. Wait a while, and try again.", result: resultLimited}
	errBusy = &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "Too many sign in at once",
		text: "Try again in a moment.", result: resultLimited, retry: retryIssuer}
	errAway = &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "That is not possible right now",
		text: "Something that the sign-in needs does not answer. Try again in a moment.", result: resultUnavailable, retry: retryIssuer}
	errProvider = &problem{status: http.StatusServiceUnavailable, code: "unavailable", title: "The provider of your account does not answer",
		text: "Try again in a moment.", result: resultUnavailable, retry: retryIssuer}
	errInternal = &problem{status: http.StatusInternalServerError, code: "internal", title: "Something went wrong here",
		text: "It was not you. Whoever runs this server finds it in its log.", result: resultInternal}
)

// failed is an error after which the sign-in can be begun anew, with the redirect that it
// had.
type failed struct {
	redirect string
	err      error
}

func (f *failed) Error() string { return f.err.Error() }
func (f *failed) Unwrap() error { return f.err }

func again(redirect string, err error) error { return &failed{redirect, err} }

// problemOf is how the user is told of an error.
func problemOf(err error) *problem {
	var told *problem
	var limited *account.Limited
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &limited):
		p := *errLimited
		p.retry = int((limited.Wait + time.Second - 1) / time.Second)
		return &p
	case errors.Is(err, errIssuerAway):
		return errProvider
	case errors.Is(err, errMetadata):
		return errSetUp
	case errors.Is(err, relay.ErrEmailTaken):
		return errTaken
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed), errors.Is(err, relay.ErrUsernameTaken):
		return errAway
	}
	return errInternal
}

// maxLogged is how much of an error the log gets, in bytes: it may quote the issuer.
const maxLogged = 300

// refuse answers with an error, logs it and counts it. Neither has anything secret: no
// error is made of a code, a state or a token.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	about := []any{"path", r.URL.Path, "client", h.cfg.Proxies.Client(r), "code", p.code}
	text := err.Error()
	if p != errInternal && len(text) > maxLogged {
		text = strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	switch {
	case p == errInternal:
		h.log.Error("sign-in failed", append(about, "error", text)...)
	case p.result == resultInvalid, p.result == resultUnavailable && r.Context().Err() == nil:
		h.log.Warn("sign-in failed", append(about, "error", text)...)
	case p.result != "":
		h.log.Info("sign-in refused", append(about, "error", text)...)
	}
	if p.result != "" {
		h.metrics.logins.WithLabelValues(p.result).Inc()
	}
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	redirect := "/"
	var f *failed
	if errors.As(err, &f) {
		redirect = f.redirect
	}
	h.tell(w, r, p, redirect)
}
