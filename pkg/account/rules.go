package account

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Lengths in Unicode code points, as the Chat protocol has them.
const (
	MinUsername = 4
	MaxUsername = 100
	MaxEmail    = 100
	MinPassword = 10
	MaxPassword = 100
)

// maxLabel is the longest part of a domain between two dots (RFC 1035, section 2.3.4).
const maxLabel = 63

// Invalid means that a username, an email or a password breaks a rule.
type Invalid struct {
	Field  string // "username", "email" or "password"
	Reason string // for the one who sent it; never tells what was sent
}

func (i *Invalid) Error() string { return i.Field + ": " + i.Reason }

func checkLength(field, s string, least, most int) error {
	if !utf8.ValidString(s) {
		return &Invalid{field, "it is not valid UTF-8"}
	}
	if n := utf8.RuneCountInString(s); n < least || n > most {
		return &Invalid{field, fmt.Sprintf("it has %d characters, want %d to %d", n, least, most)}
	}
	return nil
}

// CheckUsername returns nil or an *Invalid. It allows every character: the protocol forbids none, and clients that
// were written for other servers send what their users like, white space and control
// characters included. Who shows a name has to cope.
func CheckUsername(s string) error { return checkLength("username", s, MinUsername, MaxUsername) }

// checkPassword allows every character too. Passwords are compared byte by byte:
// nothing is trimmed, folded or normalised.
func checkPassword(s string) error { return checkLength("password", s, MinPassword, MaxPassword) }

// CheckEmail returns nil or an *Invalid. It allows what the HTML standard calls a valid email address (the rule by
// which browsers check a field of that type), and besides it letters and symbols that
// are not ASCII, on both sides of the @ (RFC 6531). So there are no quoted parts, no
// comments, no display names, no addresses in brackets.
func CheckEmail(s string) error {
	if err := checkLength("email", s, 1, MaxEmail); err != nil {
		return err
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || strings.ContainsFunc(local, func(r rune) bool { return !inLocal(r) }) {
		return errEmail
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !inLabel(r) }) {
			return errEmail
		}
	}
	return nil
}

var errEmail = &Invalid{"email", "it is not a valid address like somebody@example.com"}

func inLocal(r rune) bool { return inLabel(r) || strings.ContainsRune(".!#$%&'*+/=?^_`{|}~", r) }

func inLabel(r rune) bool {
	switch {
	case r >= utf8.RuneSelf:
		return unicode.IsGraphic(r) && !unicode.IsSpace(r)
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-':
		return true
	}
	return false
}
