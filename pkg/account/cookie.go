package account

import (
	"net/http"
	"strings"
)

// CookieName is the name of the cookie that bears a session's token.
const CookieName = "sid"

// TokenOf returns the token that a request bears: as BearerOf has it, or else in the
// cookie, which a browser adds whether a page wants it or not. It is "" when there is none;
// whether it opens a session, Accounts.Session tells.
func TokenOf(r *http.Request) string {
	if token := BearerOf(r); token != "" {
		return token
	}
	for _, c := range r.CookiesNamed(CookieName) {
		if isToken(c.Value) { // a neighbour's cookie may have the same name
			return c.Value
		}
	}
	return ""
}

// BearerOf returns the token that a request bears as "Authorization: Bearer <token>" (RFC
// 6750), "" when there is none. Whoever sends that means to.
func BearerOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && isToken(token) {
		return token
	}
	return ""
}

// SetCookie has the client bear a token for as long as its session may last. Secure
// tells that the request came over TLS: then the cookie never goes another way.
func SetCookie(w http.ResponseWriter, token string, secure bool) {
	http.SetCookie(w, cookie(token, int(SessionLife.Seconds()), secure))
}

// SetCookieLax is SetCookie for a sign-in that another site's page has begun, or ended: the
// browser sends the cookie with where it is led next, too. It does so when a page of another
// site links here, but with nothing that a form or a script there sends.
func SetCookieLax(w http.ResponseWriter, token string, secure bool) {
	c := cookie(token, int(SessionLife.Seconds()), secure)
	c.SameSite = http.SameSiteLaxMode
	http.SetCookie(w, c)
}

// ClearCookie has the client forget its token.
func ClearCookie(w http.ResponseWriter, secure bool) {
	http.SetCookie(w, cookie("", -1, secure))
}

// cookie is one that no script reads and no other site has sent.
func cookie(token string, maxAge int, secure bool) *http.Cookie {
	return &http.Cookie{Name: CookieName, Value: token, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode}
}
