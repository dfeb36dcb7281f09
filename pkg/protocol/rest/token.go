package rest

import (
	"errors"
	"net/http"
	"time"

	"parley/pkg/account"
)

func (s *Server) signIn(w http.ResponseWriter, c *call) (*answer, error) {
	var body struct {
		Email    *string `json:"email"`
		Password *string `json:"password"`
	}
	if err := read(w, c, maxBody, &body); err != nil {
		return nil, err
	}
	u, err := s.deps.Accounts.Login(c.Context(), s.cfg.Proxies.Client(c.Request), *body.Email, *body.Password)
	var invalid *account.Invalid
	if errors.As(err, &invalid) { // no account has that, and nobody has to know why
		return nil, errLogin
	}
	if err != nil {
		return nil, err
	}
	token, session, err := s.deps.Accounts.Open(c.Context(), u)
	if err != nil {
		return nil, err
	}
	return ok(struct {
		Token     string   `json:"token"`
		ExpiresIn int64    `json:"expires_in"` // seconds
		User      selfJSON `json:"user"`
	}{token, int64(time.Until(session.Expires).Round(time.Second).Seconds()), selfJSON{u.ID, u.Username, u.Email}}), nil
}

func (s *Server) signOut(w http.ResponseWriter, c *call) (*answer, error) {
	if err := s.deps.Accounts.End(c.Context(), c.token); err != nil {
		return nil, err
	}
	account.ClearCookie(w, s.cfg.Proxies.Secure(c.Request))
	return done, nil
}

func (s *Server) methods(http.ResponseWriter, *call) (*answer, error) {
	methods := []string{"password"}
	if s.cfg.OpenID != "" {
		methods = append(methods, "openid")
	}
	return cached(struct {
		Methods []string `json:"methods"`
		Issuer  string   `json:"issuer,omitempty"`
	}{methods, s.cfg.OpenID}), nil
}
