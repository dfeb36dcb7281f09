package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, s string) Proxies {
	t.Helper()
	ps, err := ParseProxies(s)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestClient(t *testing.T) {
	const trusted = "10.0.0.0/8, 192.168.1.1, 2001:db8:1::/48, fe80::/10, ::ffff:172.16.0.0/108"
	for name, c := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                      {"203.0.113.1:4000", nil, "203.0.113.1"},
		"no proxy, header of its own":   {"203.0.113.1:4000", []string{"198.51.100.1"}, "203.0.113.1"},
		"proxy without a header":        {"10.0.0.1:4000", nil, "10.0.0.1"},
		"proxy":                         {"10.0.0.1:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"proxy by its address":          {"192.168.1.1:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"neighbour of the proxy":        {"192.168.1.2:4000", []string{"203.0.113.1"}, "192.168.1.2"},
		"two proxies":                   {"10.0.0.1:4000", []string{"203.0.113.1, 10.0.0.2"}, "203.0.113.1"},
		"two headers":                   {"10.0.0.1:4000", []string{"203.0.113.1", "10.0.0.2"}, "203.0.113.1"},
		"spoofed by the client":         {"10.0.0.1:4000", []string{"198.51.100.1, 203.0.113.1"}, "203.0.113.1"},
		"spoofed in a header before":    {"10.0.0.1:4000", []string{"198.51.100.1", "203.0.113.1"}, "203.0.113.1"},
		"spoofed as a proxy":            {"10.0.0.1:4000", []string{"198.51.100.1, 10.9.9.9, 203.0.113.1"}, "203.0.113.1"},
		"all are proxies":               {"10.0.0.1:4000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"IPv6 client":                   {"10.0.0.1:4000", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 client with a port":       {"10.0.0.1:4000", []string{"[2001:db8::7]:4000"}, "2001:db8::7"},
		"IPv6 client in brackets":       {"10.0.0.1:4000", []string{"[2001:db8::7]"}, "2001:db8::7"},
		"IPv4 client with a port":       {"10.0.0.1:4000", []string{"203.0.113.1:65535"}, "203.0.113.1"},
		"IPv6 proxy":                    {"[2001:db8:1::1]:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"IPv6 proxy outside":            {"[2001:db8:2::1]:4000", []string{"203.0.113.1"}, "2001:db8:2::1"},
		"IPv4 proxy on an IPv6 socket":  {"[::ffff:10.0.0.1]:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"IPv4 client on an IPv6 socket": {"[::ffff:203.0.113.1]:4000", nil, "203.0.113.1"},
		"IPv4 client in IPv6 form":      {"10.0.0.1:4000", []string{"::ffff:203.0.113.1"}, "203.0.113.1"},
		"IPv4 network in IPv6 form":     {"172.16.3.4:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"proxy on a link":               {"[fe80::1%eth0]:4000", []string{"203.0.113.1"}, "203.0.113.1"},
		"client on a link":              {"[fd00::1%eth0]:4000", nil, "fd00::1"},
		"spaces and tabs":               {"10.0.0.1:4000", []string{" \t203.0.113.1\t ,\t10.0.0.2 "}, "203.0.113.1"},
		"a name":                        {"10.0.0.1:4000", []string{"client.example"}, "10.0.0.1"},
		"garbage behind a proxy":        {"10.0.0.1:4000", []string{"203.0.113.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		"garbage before the client":     {"10.0.0.1:4000", []string{"<script>, 203.0.113.1"}, "203.0.113.1"},
		"empty":                         {"10.0.0.1:4000", []string{""}, "10.0.0.1"},
		"commas":                        {"10.0.0.1:4000", []string{",,,"}, "10.0.0.1"},
		"a comma too much":              {"10.0.0.1:4000", []string{"203.0.113.1,"}, "10.0.0.1"},
		"half an address":               {"10.0.0.1:4000", []string{"203.0.113"}, "10.0.0.1"},
		"an address too long":           {"10.0.0.1:4000", []string{"203.0.113.1.1"}, "10.0.0.1"},
		"brackets that do not fit":      {"10.0.0.1:4000", []string{"]203.0.113.1["}, "10.0.0.1"},
		"IPv4 in brackets":              {"10.0.0.1:4000", []string{"[203.0.113.1]"}, "10.0.0.1"},
		"a port that is none":           {"10.0.0.1:4000", []string{"203.0.113.1:65536"}, "10.0.0.1"},
		"very long":                     {"10.0.0.1:4000", []string{strings.Repeat("198.51.100.1,", 5000) + "203.0.113.1"}, "203.0.113.1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
			if got := proxies(t, trusted).Client(r); got != netip.MustParseAddr(c.want) {
				t.Errorf("the client is %v, want %v", got, c.want)
			}
		})
	}
}

func TestClientWithoutAddress(t *testing.T) {
	for _, peer := range []string{"", "@", "pipe", "10.0.0.1"} {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {"203.0.113.1"}}}
		if got := proxies(t, "0.0.0.0/0, ::/0").Client(r); got.IsValid() {
			t.Errorf("%q: the client is %v, want none", peer, got)
		}
	}
}

func TestNobodyIsTrustedUnlessNamed(t *testing.T) {
	ps := proxies(t, " , ,")
	r := &http.Request{RemoteAddr: "127.0.0.1:4000", Header: http.Header{"X-Forwarded-For": {"203.0.113.1"}}}
	if got := ps.Client(r); got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("the client is %v, want the peer", got)
	}
}

func TestParseProxies(t *testing.T) {
	for s, want := range map[string]string{
		"10.1.2.3":                       "10.1.2.3/32",
		"10.1.2.3/8":                     "10.0.0.0/8",
		"::1, 2001:db8::/32 ,10.0.0.0/8": "::1/128 2001:db8::/32 10.0.0.0/8",
		"::ffff:10.1.2.3":                "10.1.2.3/32",
		"::ffff:10.1.2.3/104":            "10.0.0.0/8",
		"0.0.0.0/0":                      "0.0.0.0/0",
		"":                               "",
	} {
		ps, err := ParseProxies(s)
		var got []string
		for _, p := range ps {
			got = append(got, p.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0", "10.0.0.1:80", "10.0.0.1 10.0.0.2", "[::1]", "::1%eth0/64", "/8"} {
		if ps, err := ParseProxies(s); err == nil || !strings.Contains(err.Error(), `"`+s+`"`) {
			t.Errorf("%q: %v, %v, want an error that names it", s, ps, err)
		}
	}
}

// FuzzForwarded compares the client that is found with a plain reading of the
// rule: of all entries and the peer, from the end, the first that is not
// trusted, but no further than to what is no address.
func FuzzForwarded(f *testing.F) {
	f.Add("10.0.0.1:4000", "203.0.113.1", "198.51.100.1, 10.0.0.2")
	f.Add("[::1]:1", "[2001:db8::7]:4000,,", "::ffff:10.0.0.9")
	f.Add("[fe80::1%eth0]:1", "garbage", "10.0.0.2, [fe80::2%25]")
	f.Add("203.0.113.1:4000", "198.51.100.1", "")
	ps := proxies(f, "10.0.0.0/8, ::1, fe80::/10")
	f.Fuzz(func(t *testing.T, peer, first, second string) {
		got := ps.Client(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {first, second}}})
		if got.Is4In6() || got.Zone() != "" {
			t.Errorf("%v is not in its shortest form: it would be counted apart", got)
		}
		from, err := netip.ParseAddrPort(peer)
		if err != nil {
			if got.IsValid() {
				t.Errorf("a client, %v, of a peer without an address", got)
			}
			return
		}
		want := from.Addr().Unmap().WithZone("")
		entries := append(strings.Split(first, ","), strings.Split(second, ",")...)
		for i := len(entries) - 1; i >= 0 && ps.trust(want); i-- {
			if entries[i] == "" && (i == 0 || i == strings.Count(first, ",")+1) {
				continue // nothing stands before a header's first comma
			}
			next, ok := plainAddress(strings.TrimSpace(entries[i]))
			if !ok {
				break
			}
			want = next
		}
		if got != want {
			t.Errorf("the client is %v, want %v", got, want)
		}
	})
}

// plainAddress reads "addr", "[v6]", "addr:port" and "[v6]:port".
func plainAddress(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		if ap, err := netip.ParseAddrPort(s); err == nil {
			a = ap.Addr()
		} else if ap, err := netip.ParseAddrPort(s + ":1"); err == nil && strings.HasPrefix(s, "[") {
			a = ap.Addr()
		} else {
			return a, false
		}
	}
	return a.Unmap().WithZone(""), true
}
