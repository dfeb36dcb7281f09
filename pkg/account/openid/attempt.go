package openid

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"parley/pkg/account"
)

const (
	// attemptPrefix begins the keys of sign-ins that are under way, addressPrefix those of
	// their counts.
	attemptPrefix = "openid/login/"
	addressPrefix = "openid/address/"
	// cookiePrefix begins the names of the cookies that bind sign-ins to a browser.
	cookiePrefix = "openid-"
	cookiePath   = "/auth"
	// randomBytes is how much of a state, a nonce and a cookie is random.
	randomBytes = 32
	// idLength is how much of the hash of a state names its cookie, in hexadecimal digits.
	idLength = 16
)

// attempt is a sign-in that is under way, as Redis has it: whichever node the browser
// comes back to can end it. Later versions may add fields.
type attempt struct {
	Verifier    string `json:"verifier"` // of PKCE
	Nonce       string `json:"nonce"`
	Browser     string `json:"browser"` // hash of the cookie
	Redirect    string `json:"redirect"`
	RedirectURI string `json:"redirect_uri"`
	Count       string `json:"count"` // key of the meter
}

// random is a text that nobody guesses.
func random() string {
	b := make([]byte, randomBytes)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func isRandom(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == randomBytes && len(s) == base64.RawURLEncoding.EncodedLen(randomBytes)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// keep notes an attempt under a state. Who reads Redis learns neither state nor cookie.
func (h *Handler) keep(ctx context.Context, state string, a attempt) error {
	value, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("a sign-in: %w", err)
	}
	if err := h.cfg.Values.Put(ctx, attemptPrefix+hash(state), value, attemptLife); err != nil {
		return fmt.Errorf("keeping a sign-in: %w", err)
	}
	return nil
}

// take returns the attempt of a state, to the first one who asks for it with its
// browser's cookie: errUnknown to all others.
func (h *Handler) take(ctx context.Context, r *http.Request, state string) (a attempt, err error) {
	if !isRandom(state) {
		return a, errUnknown
	}
	key := attemptPrefix + hash(state)
	values, err := h.cfg.Values.Get(ctx, key)
	if err != nil {
		return a, fmt.Errorf("looking for a sign-in: %w", err)
	}
	if values[0] == nil {
		return a, errUnknown
	}
	if err := json.Unmarshal(values[0], &a); err != nil || a.Browser == "" || a.Verifier == "" || a.Nonce == "" {
		h.log.Error("a sign-in that is under way cannot be read", "error", err)
		return attempt{}, errUnknown
	}
	if !isFrom(r, state, a) {
		return attempt{}, errUnknown // and it stays, for the one whose it is
	}
	first, err := h.cfg.Values.Delete(ctx, key)
	if err != nil {
		return attempt{}, fmt.Errorf("ending a sign-in: %w", err)
	}
	if !first {
		return attempt{}, errUnknown
	}
	return a, nil
}

// isFrom tells whether a request comes from the browser in which the attempt began.
func isFrom(r *http.Request, state string, a attempt) bool {
	for _, c := range r.CookiesNamed(cookieName(state)) {
		if subtle.ConstantTimeCompare([]byte(hash(c.Value)), []byte(a.Browser)) == 1 {
			return true
		}
	}
	return false
}

// cookieName is the name of the cookie of one sign-in: each tab has one of its own.
func cookieName(state string) string { return cookiePrefix + hash(state)[:idLength] }

// setCookie binds a sign-in to the browser. The issuer's redirect comes from another
// site, so Strict would not do.
func setCookie(w http.ResponseWriter, name, value string, life time.Duration, secure bool) {
	seconds := int(life.Seconds())
	if seconds <= 0 {
		seconds = -1
	}
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: cookiePath, MaxAge: seconds,
		HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode})
}

// dropOldest has a browser forget sign-ins so that one more makes maxTabs at most. It
// sends the oldest first (RFC 6265, section 5.4).
func dropOldest(w http.ResponseWriter, r *http.Request, secure bool) {
	var names []string
	for _, c := range r.Cookies() {
		if id, ok := strings.CutPrefix(c.Name, cookiePrefix); ok && len(id) == idLength {
			names = append(names, c.Name)
		}
	}
	for len(names) >= maxTabs {
		setCookie(w, names[0], "", 0, secure)
		names = names[1:]
	}
}

// count notes a sign-in that begins; an error is *account.Limited when there are too many.
func (h *Handler) count(ctx context.Context, address netip.Addr) (key string, err error) {
	key = addressPrefix + hash(network(address))
	wait, err := h.cfg.Meter.Take(ctx, key, maxAttempts, attemptLife)
	if err != nil {
		return "", fmt.Errorf("counting a sign-in: %w", err)
	}
	if wait > 0 {
		return "", &account.Limited{Wait: wait}
	}
	return key, nil
}

// uncount takes a sign-in that has ended well back. One that cannot be taken back counts
// until its window ends.
func (h *Handler) uncount(ctx context.Context, key string) {
	if err := h.cfg.Meter.Return(ctx, key); err != nil {
		h.log.Debug("a sign-in that has ended counts as one that is under way", "error", err)
	}
}

// network is what counts as one address: an IPv6 host has a /64 to itself.
func network(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
