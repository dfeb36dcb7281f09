package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// Secure tells whether the client's request came over TLS: to this node, or to a
// proxy. A trusted proxy's X-Forwarded-Proto is believed, of several entries the
// first, which is of the way from the client to the outermost proxy. A client that
// gets a header of its own through to here deceives itself only: what is Secure is
// kept from it unless it is. Of anybody else the header counts for nothing.
func (ps Proxies) Secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !ps.trust(plain(peer.Addr())) {
		return false
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return strings.EqualFold(strings.TrimSpace(first), "https")
}
