package account

import (
	"errors"
	"strings"
	"testing"
)

// verdict fails the test unless a check finds what it should.
func verdict(t *testing.T, field, value string, err error, ok bool) {
	t.Helper()
	var invalid *Invalid
	switch {
	case ok && err != nil:
		t.Errorf("%s %q: %v", field, value, err)
	case !ok && (!errors.As(err, &invalid) || invalid.Field != field || invalid.Reason == ""):
		t.Errorf("%s %q: error = %v, want one of the field", field, value, err)
	}
}

func TestLengths(t *testing.T) {
	for _, c := range []struct {
		field       string
		check       func(string) error
		least, most int
	}{{"username", CheckUsername, 4, 100}, {"password", checkPassword, 10, 100}} {
		for _, r := range []string{"x", "é", "🙂", "\u0301", "\x00", " ", "\n"} {
			for n, ok := range map[int]bool{0: false, c.least - 1: false, c.least: true, c.most: true, c.most + 1: false} {
				s := strings.Repeat(r, n)
				verdict(t, c.field, s, c.check(s), ok)
			}
		}
		verdict(t, c.field, "not UTF-8", c.check(strings.Repeat("x", c.least)+"\xff"), false)
	}
}

func TestEmails(t *testing.T) {
	label := strings.Repeat("a", 63)
	for _, good := range []string{
		"a@b", "alice@example.com", "Alice.O'Neil+tag@mail.example.co.uk", "a..b@example.com", ".a.@example.com",
		"!#$%&'*+/=?^_`{|}~-@example.com", "a@1.2.3.4", "a@x-y.example", "1@2", "jörg@müller.example", "用户@例子.公司", "🙂@example.com",
		"a@" + label + ".example", strings.Repeat("a", 88) + "@example.com", strings.Repeat("é", 88) + "@example.com",
	} {
		verdict(t, "email", good, CheckEmail(good), true)
	}
	for _, bad := range []string{
		"", "alice", "@", "a@", "@b", "a@b@c", "a@b..c", "a@.b", "a@b.", "a@-b", "a@b-", "a@b_c", "a b@example.com", " a@example.com", "a@example.com ",
		"Alice <alice@example.com>", "<alice@example.com>", `"alice"@example.com`, "alice(comment)@example.com", "a@[192.0.2.1]", "a,b@example.com",
		"a@b,c@d", "a;b@example.com", "a\x00@example.com", "a@exa\nmple.com", "a\u00a0b@example.com", "a\u200bb@example.com", "a@b\u3000c", "a\u0085@b", "a@b\xff",
		"a@" + label + "a.example", strings.Repeat("a", 89) + "@example.com", "mailto:a@example.com", "a@example.com?x", "a@b:80", `a\@b`,
	} {
		verdict(t, "email", bad, CheckEmail(bad), false)
	}
}

// No error tells what was sent.
func TestInvalidTellsNoSecret(t *testing.T) {
	for _, err := range []error{checkPassword("secret"), CheckEmail("secret"), CheckUsername("sec")} {
		if err == nil || strings.Contains(err.Error(), "sec") {
			t.Errorf("error = %v", err)
		}
	}
}
