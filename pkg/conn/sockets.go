package conn

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"

	"parley/pkg/web"
)

// Seconds after which a client that was refused should come back.
const (
	retryDraining = 1
	retryFull     = 5
)

// Sockets admits WebSocket handshakes: it checks the origin and the limits, and
// answers those that it refuses. It is made once and not changed.
type Sockets struct {
	Group   *Group
	Metrics *Metrics
	Proxies web.Proxies
	Origins web.Origins
	Log     *slog.Logger
}

// Serve upgrades the request and has the handler serve it, or answers with the
// reason why not. Limits come before the form of the request, so that a browser,
// which cannot see a refused handshake, can ask for the reason with a plain GET.
func (s *Sockets) Serve(w http.ResponseWriter, r *http.Request, protocol string, newHandler func(*Conn) Handler) {
	ip := s.Proxies.Client(r)
	s.Origins.Expose(w, r)
	if err := s.Origins.Check(r); err != nil {
		s.Metrics.Refused("origin")
		s.Log.Debug("handshake refused", "client", ip, "error", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	switch refusal := s.Group.Admit(ip); refusal {
	case Admitted:
	case Draining:
		s.refuse(w, ip, refusal, http.StatusServiceUnavailable, retryDraining, "this node is going down")
		return
	case NodeFull:
		s.refuse(w, ip, refusal, http.StatusServiceUnavailable, retryFull, "this node has all the connections that it takes (--max-connections)")
		return
	case AddressFull:
		s.refuse(w, ip, refusal, http.StatusTooManyRequests, retryFull, "too many connections from your address (--max-connections-per-ip)")
		return
	}
	if err := s.Group.Upgrade(w, r, ip, protocol, newHandler); err != nil {
		s.Log.Debug("handshake failed", "client", ip, "error", err)
	}
}

func (s *Sockets) refuse(w http.ResponseWriter, ip netip.Addr, why Refusal, status, retry int, text string) {
	s.Metrics.Refused(string(why))
	s.Log.Debug("handshake refused", "client", ip, "reason", string(why))
	w.Header().Set("Retry-After", strconv.Itoa(retry))
	w.Header().Set("Connection", "close")
	http.Error(w, fmt.Sprintf("%s; retry after %d s", text, retry), status)
}
