package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// preflightAge is for how long a browser may believe the answer to a Preflight. It is
// short, so that an origin that is taken from --allowed-origins does not stay allowed.
const preflightAge = 10 * time.Minute

// preflightHeaders are those that pages of foreign origins may send.
const preflightHeaders = "Authorization, Content-Type, Idempotency-Key, If-None-Match"

// exposedHeaders are those of an answer that such pages may read, besides those that the
// browser lets them (Cache-Control, Content-Type and the like).
const exposedHeaders = "ETag, Location, Retry-After"

// Preflight tells whether a request is a browser's question whether a page of another
// origin may send one to this path. It never bears cookies or a token.
func Preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// AnswerPreflight answers a Preflight of an allowed origin with 204: pages of it may send
// requests with these methods, and with the headers Authorization, Content-Type,
// Idempotency-Key and If-None-Match. The
// browser holds them to that. With any other origin nothing is written, and the error is
// that of Check. Call Expose or ExposeWithCookies before it.
func (o Origins) AnswerPreflight(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if err := o.Check(r); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", strings.Join(methods, ", "))
	h.Set("Access-Control-Allow-Headers", preflightHeaders)
	h.Set("Access-Control-Max-Age", strconv.Itoa(int(preflightAge.Seconds())))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Expose lets a page of an allowed foreign origin read an answer with its ETag, Location
// and Retry-After. Browsers do not send cookies with requests whose answers are to be
// read so.
func (o Origins) Expose(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && o.Check(r) == nil {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

// ExposeWithCookies is Expose, and lets the page send cookies too, unless its origin is
// allowed only since all are: who wants cookies of this host in the hands of another
// one's pages has to name it.
func (o Origins) ExposeWithCookies(w http.ResponseWriter, r *http.Request) {
	o.Expose(w, r)
	if r.Header.Get("Origin") != "" && o.named().Check(r) == nil {
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
}

// named are the patterns that name something of a host, and not at most its port.
func (o Origins) named() Origins {
	var named Origins
	for _, pattern := range o {
		_, host, found := strings.Cut(pattern, "://")
		if !found {
			host = pattern
		}
		if port := strings.LastIndexByte(host, ':'); port > strings.LastIndexByte(host, ']') {
			host = host[:port]
		}
		if strings.Trim(host, "*.") != "" {
			named = append(named, pattern)
		}
	}
	return named
}
