package openid

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxRedirect is the longest redirect, in bytes.
	maxRedirect = 2048
	// maxDecodings is how often a path is decoded to see what it may become.
	maxDecodings = 3
)

// checkedRedirect returns where a browser goes after the sign-in: a path of this origin,
// with query and fragment, as it may stand in a header. False for whatever else could
// lead somewhere else, now or after somebody has decoded it once more, and for a path that would sign in
// again.
func checkedRedirect(s string) (string, bool) {
	if s == "" {
		return "/", true
	}
	if len(s) > maxRedirect || !utf8.ValidString(s) || !local(s) {
		return "", false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	path := u.Path
	for range maxDecodings {
		if !local(path) || strings.Contains(path, "//") {
			return "", false
		}
		decoded, err := url.PathUnescape(path)
		if err != nil {
			break // it is as plain as it gets
		}
		path = decoded
	}
	for _, part := range strings.Split(path, "/") {
		if part == "." || part == ".." { // browsers take them out, and may join what was apart
			return "", false
		}
	}
	if path == "/auth" || strings.HasPrefix(path, "/auth/") {
		return "", false
	}
	return u.String(), true
}

// local tells whether a text begins like a path of this origin, for every reader: some
// take a backslash for a slash, and pass over control characters.
func local(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.Contains(s, `\`) && !strings.ContainsFunc(s, unicode.IsControl)
}
