package openid

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// moved is the parameter of a browser that has been sent to PublicURL.
const moved = "moved"

// login sends a browser to the issuer.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["redirect"]) > 1 {
		return errRedirect
	}
	redirect, ok := checkedRedirect(query.Get("redirect"))
	if !ok {
		return errRedirect
	}
	if to := h.elsewhere(r, query, redirect); to != "" {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	redirectURI, err := h.redirectURI(r)
	if err != nil {
		return err
	}
	p, err := h.issuer.provider(r.Context())
	if err != nil {
		return again(redirect, err)
	}
	key, err := h.count(r.Context(), h.cfg.Proxies.Client(r))
	if err != nil {
		return again(redirect, err)
	}
	state, browser := random(), random()
	a := attempt{Verifier: oauth2.GenerateVerifier(), Nonce: random(), Browser: hash(browser), Redirect: redirect, RedirectURI: redirectURI, Count: key}
	if err := h.keep(r.Context(), state, a); err != nil {
		return again(redirect, err)
	}
	secure := h.cfg.Proxies.Secure(r)
	dropOldest(w, r, secure)
	setCookie(w, cookieName(state), browser, attemptLife, secure)
	to := h.issuer.oauth(p, redirectURI, false).AuthCodeURL(state, oauth2.S256ChallengeOption(a.Verifier), oidc.Nonce(a.Nonce))
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

// elsewhere is where a browser has to go first that has come by another host than the
// issuer will send it back to, where its cookie would not be: to PublicURL, once. A proxy
// may have changed the name on the way.
func (h *Handler) elsewhere(r *http.Request, query url.Values, redirect string) string {
	public, err := url.Parse(h.cfg.PublicURL)
	if err != nil || public.Host == "" || query.Has(moved) || strings.EqualFold(public.Hostname(), hostname(r.Host)) {
		return ""
	}
	return h.cfg.PublicURL + LoginPath + "?" + url.Values{moved: {"1"}, "redirect": {redirect}}.Encode()
}

// redirectURI is where the issuer sends the browser back to.
func (h *Handler) redirectURI(r *http.Request) (string, error) {
	if h.cfg.PublicURL != "" {
		return h.cfg.PublicURL + CallbackPath, nil
	}
	scheme := "http://"
	if h.cfg.Proxies.Secure(r) {
		scheme = "https://"
	}
	origin, err := ParsePublicURL(scheme + r.Host)
	if err != nil {
		return "", errHost
	}
	return origin + CallbackPath, nil
}
