package openid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"golang.org/x/oauth2"

	"parley/pkg/account"
	"parley/pkg/relay"
)

// callback takes a browser back from the issuer. Nothing that it brings is believed
// before it has shown the state and the cookie of a sign-in that is under way.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return errUnknown
	}
	for _, name := range []string{"state", "code", "error", "iss"} { // RFC 6749, section 3.1
		if len(query[name]) > 1 {
			return errUnknown
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), callbackTimeout)
	defer cancel()
	state := query.Get("state")
	a, err := h.take(ctx, r, state)
	if err != nil {
		return err
	}
	secure := h.cfg.Proxies.Secure(r)
	setCookie(w, cookieName(state), "", 0, secure)
	u, result, err := h.end(ctx, query, a, h.cfg.Proxies.Client(r))
	if err != nil {
		return again(a.Redirect, err)
	}
	token, _, err := h.cfg.Sessions.Open(ctx, u)
	if err != nil {
		return again(a.Redirect, err)
	}
	h.uncount(ctx, a.Count)
	h.metrics.logins.WithLabelValues(result).Inc()
	account.SetCookieLax(w, token, secure)
	w.Header().Set("Location", a.Redirect)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// end returns the account of who has come back, and how that counts.
func (h *Handler) end(ctx context.Context, query url.Values, a attempt, client netip.Addr) (u relay.User, result string, err error) {
	select {
	case h.exchanges <- struct{}{}:
		defer func() { <-h.exchanges }()
	default:
		return u, "", errBusy
	}
	p, err := h.issuer.provider(ctx)
	if err != nil {
		return u, "", err
	}
	if iss := query.Get("iss"); iss != h.issuer.client.Issuer && (iss != "" || p.namesItself) {
		return u, "", fmt.Errorf("%w: the answer is of the issuer %.100q", errInvalid, iss)
	}
	if query.Has("error") {
		return u, "", refusal(query.Get("error"))
	}
	if query.Get("code") == "" {
		return u, "", fmt.Errorf("%w: there is no code", errInvalid)
	}
	token, err := h.issuer.exchange(ctx, p, query.Get("code"), a)
	if err != nil {
		return u, "", exchangeError(err)
	}
	who, err := h.issuer.person(ctx, p, token, a.Nonce)
	if err != nil {
		return u, "", err
	}
	u, created, err := h.admit(ctx, p, token, who)
	if err != nil {
		return u, "", err
	}
	if created {
		h.log.Info("account created", "user", u.ID, "by", "openid")
		result = resultCreated
	} else {
		result = resultOK
	}
	h.log.Info("signed in", "user", u.ID, "client", client, "by", "openid")
	return u, result, nil
}

// refusals are the errors that an issuer may send a browser back with (RFC 6749, section
// 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6) which are no fault of the fleet's.
var refusals = map[string]error{
	"access_denied":              errDenied,
	"login_required":             errDenied,
	"consent_required":           errDenied,
	"interaction_required":       errDenied,
	"account_selection_required": errDenied,
	"temporarily_unavailable":    errIssuerAway,
	"server_error":               errIssuerAway,
}

// refusal is what an issuer's error means.
func refusal(code string) error {
	if err := refusals[code]; err != nil {
		return err
	}
	return fmt.Errorf("%w: it says %.60q", errSetUp, code)
}

// exchangeError tells why there are no tokens. What the issuer has written about it is
// left out: nobody knows what it quotes.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	var unreachable *url.Error
	switch {
	case errors.As(err, &refused):
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		kind := error(errSetUp)
		switch {
		case refused.ErrorCode == "invalid_grant":
			kind = errInvalid
		case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests:
			kind = errIssuerAway
		}
		return fmt.Errorf("%w: the token endpoint answers %d %.60q", kind, status, refused.ErrorCode)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%w: %w", errIssuerAway, err)
	}
	return fmt.Errorf("%w: the token endpoint: %w", errInvalid, err)
}

// admit returns the account of a person, which is made if there is none.
func (h *Handler) admit(ctx context.Context, p *provider, token *oauth2.Token, who person) (u relay.User, created bool, err error) {
	issuer := h.issuer.client.Issuer
	u, err = h.cfg.Identities.ByIdentity(ctx, issuer, who.subject)
	if !errors.Is(err, relay.ErrNoUser) {
		return u, false, err
	}
	if who.email == "" {
		if who, err = h.issuer.more(ctx, p, token, who); err != nil {
			return u, false, err
		}
	}
	switch {
	case who.email == "":
		return u, false, errNoEmail
	case account.CheckEmail(who.email) != nil:
		return u, false, errBadEmail
	}
	for name := range usernames(who) {
		u, err = h.cfg.Identities.CreateWithIdentity(ctx, relay.User{Username: name, Email: who.email}, issuer, who.subject)
		switch {
		case err == nil:
			return u, true, nil
		case errors.Is(err, relay.ErrIdentityTaken): // another tab was faster
			u, err = h.cfg.Identities.ByIdentity(ctx, issuer, who.subject)
			return u, false, err
		case !errors.Is(err, relay.ErrUsernameTaken):
			return u, false, err
		}
	}
	return u, false, fmt.Errorf("no username for a new account was free in %d tries: %w", maxNames, err)
}
