package node

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/account/openid"
	"parley/pkg/park"
	"parley/pkg/protocol/rest"
	"parley/pkg/relay"
	"parley/pkg/web"
)

// restPart is REST, which stands on the chat's accounts and database.
type restPart struct {
	lot    *park.Lot
	server *rest.Server    // nil: there is no database
	openID *openid.Handler // nil: the same
}

// newREST makes the node's REST endpoints.
func (n *Node) newREST() (p *restPart, err error) {
	p = &restPart{lot: park.New(keepAliveTimeout)}
	if n.chat == nil {
		return p, nil
	}
	store, values := n.chat.database, n.chat.values
	if p.openID, err = n.newOpenID(n.cfg, store, n.chat.accounts, values, n.log); err != nil {
		return p, err
	}
	p.server = rest.New(rest.Config{
		MaxMessageBytes: n.cfg.MaxMessageBytes,
		Rate:            n.cfg.Rate,
		OpenID:          n.cfg.OpenID.Issuer,
		Proxies:         n.cfg.TrustedProxies,
		Origins:         n.cfg.AllowedOrigins,
		Log:             n.log,
	}, rest.Deps{
		Accounts:  n.chat.accounts,
		Directory: store.Directory(),
		Friends:   store.Friends(),
		Groups:    store.Groups(),
		Posts:     store.Posts(),
		Outbox:    store.Outbox(),
		Inbox:     n.bus.Inbox(rest.NoticeRetention.Age),
		Meter:     values,
		Publisher: n.bus,
		Hub:       n.hub,
		Loops:     n.group,
		Admission: n.group,
		Lot:       p.lot,
	})
	return p, nil
}

// collectors are the part's figures.
func (p *restPart) collectors() []prometheus.Collector {
	if p.server == nil {
		return nil
	}
	return append(p.server.Metrics().Collectors(), p.openID.Metrics().Collectors()...)
}

// mount adds the endpoints.
func (p *restPart) mount(mux *routes) {
	if p.server == nil {
		for _, pattern := range rest.Patterns {
			mux.HandleFunc(pattern, serveNoUsers)
		}
		return
	}
	for _, pattern := range rest.Patterns {
		mux.Handle(pattern, p.server)
	}
	mux.Handle(openid.LoginPath, p.openID)
	mux.Handle(openid.CallbackPath, p.openID)
	mux.ahead = func(r *http.Request) http.Handler {
		if rest.Owns(r.URL) {
			return p.server
		}
		return nil
	}
}

// end stops it when no request is under way any more.
func (p *restPart) end() {
	p.lot.Close()
	if p.server != nil {
		p.server.Close()
	}
}

// serveNoUsers answers for a fleet without a database.
func serveNoUsers(w http.ResponseWriter, _ *http.Request) {
	web.WriteJSON(w, http.StatusServiceUnavailable, map[string]map[string]string{"error": {"code": "unavailable", "message": errNoDatabase.Error()}})
}

// keepsNotices tells whether a topic is that of a user's notifications, all of which are
// kept.
func keepsNotices(t relay.Topic) bool { return strings.HasPrefix(string(t), relay.UserTopics) }
