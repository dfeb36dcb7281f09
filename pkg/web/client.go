package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the addresses whose word about the client is taken.
type Proxies []netip.Prefix

// ParseProxies reads addresses and networks in CIDR form, separated by commas.
func ParseProxies(s string) (Proxies, error) {
	var ps Proxies
	for f := range strings.SplitSeq(s, ",") {
		f = strings.TrimSpace(f)
		if f == "" {
			continue
		}
		p, err := netip.ParsePrefix(f)
		if err != nil {
			a, err := netip.ParseAddr(f)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("%q is neither an address nor a network like 10.0.0.0/8", f)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if v4 := p.Bits() - 96; p.Addr().Is4In6() && v4 >= 0 { // clients are compared in their IPv4 form
			p = netip.PrefixFrom(p.Addr().Unmap(), v4)
		}
		ps = append(ps, p.Masked())
	}
	return ps, nil
}

func (ps Proxies) trust(a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Client returns the address of the client that sent the request: the nearest
// one that is no trusted proxy. X-Forwarded-For is read from its end, where the
// proxy next to us wrote, so that what a client wrote into it itself is never
// believed. An entry that is no address ends the search.
func (ps Proxies) Client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // no TCP, as in tests
	}
	client := plain(peer.Addr())
	headers := r.Header.Values("X-Forwarded-For")
	for i := len(headers) - 1; i >= 0; i-- {
		for rest := headers[i]; rest != ""; {
			if !ps.trust(client) {
				return client
			}
			var last string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, last = rest[:comma], rest[comma+1:]
			} else {
				rest, last = "", rest
			}
			a, err := parseForwarded(strings.TrimSpace(last))
			if err != nil {
				return client
			}
			client = a
		}
	}
	return client
}

// parseForwarded reads an address, with or without a port, one of IPv6 also in
// brackets alone.
func parseForwarded(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil {
		return plain(a), nil
	}
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(s, "]") {
		if a, err = netip.ParseAddr(inner[:len(inner)-1]); err == nil && a.Is6() {
			return plain(a), nil
		}
	}
	ap, err := netip.ParseAddrPort(s)
	return plain(ap.Addr()), err
}

// plain is the one form in which addresses are compared and counted: IPv4 as
// such, and no zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
