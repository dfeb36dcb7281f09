package node

import (
	"fmt"
	"log/slog"

	"parley/pkg/account"
	"parley/pkg/account/openid"
	"parley/pkg/redisbus"
	"parley/pkg/sqlstore"
)

// newOpenID makes the sign-in with OpenID Connect, to be mounted at openid.LoginPath and
// openid.CallbackPath. Without an issuer it answers 503.
func (n *Node) newOpenID(cfg Config, store *sqlstore.Store, accounts *account.Accounts, values *redisbus.Values, log *slog.Logger) (*openid.Handler, error) {
	h, err := openid.New(openid.Config{
		Client:     cfg.OpenID,
		Identities: store.Identities(),
		Values:     values,
		Meter:      values,
		Sessions:   accounts,
		Origins:    cfg.AllowedOrigins,
		Proxies:    cfg.TrustedProxies,
		Log:        log,
	})
	if err != nil {
		return nil, fmt.Errorf("--oidc-issuer: %w", err)
	}
	return h, nil
}
