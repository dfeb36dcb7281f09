package account

import (
	"context"
	"errors"
	"net/netip"

	"parley/pkg/relay"
)

// Create makes an account. Errors are *Invalid, relay.ErrUsernameTaken,
// relay.ErrEmailTaken (this one if both are), ErrBusy, or wrap relay.ErrUnavailable:
// then it is not known whether there is an account now.
func (a *Accounts) Create(ctx context.Context, username, email, password string) (relay.User, error) {
	for _, err := range []error{CheckUsername(username), CheckEmail(email), checkPassword(password)} {
		if err != nil {
			return relay.User{}, err
		}
	}
	// Looks before the password is computed, which costs much more: at once, and when
	// many were waiting, perhaps for the same name. Create decides.
	free := func() error {
		usernameTaken, emailTaken, err := a.cfg.Users.Taken(ctx, username, email)
		switch {
		case err != nil:
			return err
		case emailTaken:
			return relay.ErrEmailTaken
		case usernameTaken:
			return relay.ErrUsernameTaken
		}
		return nil
	}
	if err := free(); err != nil {
		return relay.User{}, err
	}
	kept, err := a.pool.make(ctx, password, free)
	if err != nil {
		return relay.User{}, err
	}
	u, err := a.cfg.Users.Create(ctx, relay.User{Username: username, Email: email}, kept)
	if err != nil {
		return relay.User{}, err
	}
	a.metrics.created.Inc()
	a.log.Info("account created", "user", u.ID)
	return u, nil
}

// Login returns the account that has an email and a password. The address is that of
// the client; those that are not valid count as one. Errors are *Invalid, *Limited,
// ErrBusy, ErrLogin, or wrap relay.ErrUnavailable. ErrLogin takes the same work
// whether the email is unknown, the password wrong, or the account has none.
func (a *Accounts) Login(ctx context.Context, address netip.Addr, email, password string) (relay.User, error) {
	u, why, err := a.login(ctx, address, email, password)
	a.metrics.logins.WithLabelValues(resultOf(err)).Inc()
	switch {
	case err == nil:
		a.log.Info("signed in", "user", u.ID, "client", address)
	case errors.Is(err, ErrLogin):
		a.log.Info("sign-in failed", "user", u.ID, "client", address, "reason", why)
	}
	if err != nil {
		return relay.User{}, err
	}
	return u, nil
}

// login returns the account as far as it was found, and why it failed.
func (a *Accounts) login(ctx context.Context, address netip.Addr, email, password string) (u relay.User, why string, err error) {
	for _, err := range []error{CheckEmail(email), checkPassword(password)} {
		if err != nil {
			return u, "", err
		}
	}
	t, err := a.begin(ctx, address, email)
	if err != nil {
		return u, "", err
	}
	u, why, err = a.verify(ctx, email, password)
	if !errors.Is(err, ErrLogin) { // it succeeded, or nobody has looked at the password
		a.giveBack(ctx, t)
	}
	return u, why, err
}

// verify looks at the password. Whoever it is, one is computed.
func (a *Accounts) verify(ctx context.Context, email, password string) (u relay.User, why string, err error) {
	u, kept, err := a.cfg.Users.ByEmail(ctx, email)
	h, why := decoy, ""
	switch {
	case errors.Is(err, relay.ErrNoUser):
		why = "unknown email"
	case err != nil:
		return relay.User{}, "", err
	case kept == "":
		why = "the account has no password"
	default:
		if h, err = parseHash(kept); err != nil {
			a.log.Error("an account's password cannot be read", "user", u.ID, "error", err)
			h, why = decoy, "the account's password cannot be read"
		}
	}
	fits, err := a.pool.fits(ctx, password, h)
	switch {
	case err != nil:
		return u, "", err
	case why != "":
		return u, why, ErrLogin
	case !fits:
		return u, "wrong password", ErrLogin
	}
	return u, "", nil
}
