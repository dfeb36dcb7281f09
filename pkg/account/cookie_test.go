package account

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTokenOf(t *testing.T) {
	make := func(b byte) string {
		raw := [tokenBytes]byte{b}
		return base64.RawURLEncoding.EncodeToString(raw[:])
	}
	one, two := make(1), make(2)
	for name, c := range map[string]struct {
		cookies, authorization []string
		want                   string
	}{
		"nothing":                   {nil, nil, ""},
		"cookie":                    {[]string{"sid=" + one}, nil, one},
		"among others":              {[]string{"a=b; sid=" + one + "; c=d"}, nil, one},
		"in another header":         {[]string{"a=b", "sid=" + one}, nil, one},
		"a neighbour's first":       {[]string{"sid=x; sid=" + one}, nil, one},
		"two: the first":            {[]string{"sid=" + two + "; sid=" + one}, nil, two},
		"another name":              {[]string{"SID=" + one + "; sid2=" + one}, nil, ""},
		"no token":                  {[]string{"sid="}, nil, ""},
		"bearer":                    {nil, []string{"Bearer " + one}, one},
		"bearer, other case":        {nil, []string{"bEARER  " + one + " "}, one},
		"the bearer before":         {[]string{"sid=" + one}, []string{"Bearer " + two}, two},
		"a cookie, a bad bearer":    {[]string{"sid=" + one}, []string{"Bearer x"}, one},
		"a bad cookie and a bearer": {[]string{"sid=x"}, []string{"Bearer " + two}, two},
		"another scheme":            {nil, []string{"Basic " + one}, ""},
		"no scheme":                 {nil, []string{one}, ""},
		"bearer of nothing":         {nil, []string{"Bearer"}, ""},
		"bearer of no token":        {nil, []string{"Bearer x"}, ""},
	} {
		r := &http.Request{Header: http.Header{"Cookie": c.cookies, "Authorization": c.authorization}}
		if got := TokenOf(r); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestCookies(t *testing.T) {
	for want, write := range map[string]func(http.ResponseWriter){
		"sid=x; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict":         func(w http.ResponseWriter) { SetCookie(w, "x", false) },
		"sid=x; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Lax":    func(w http.ResponseWriter) { SetCookieLax(w, "x", true) },
		"sid=x; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Strict": func(w http.ResponseWriter) { SetCookie(w, "x", true) },
		"sid=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict":               func(w http.ResponseWriter) { ClearCookie(w, false) },
		"sid=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict":       func(w http.ResponseWriter) { ClearCookie(w, true) },
	} {
		w := httptest.NewRecorder()
		write(w)
		if got := w.Header().Get("Set-Cookie"); got != want {
			t.Errorf("Set-Cookie is %q, want %q", got, want)
		}
	}
}
