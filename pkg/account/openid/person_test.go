package openid

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"parley/pkg/account"
)

func TestUsernames(t *testing.T) {
	long := strings.Repeat("é", 95)
	for _, c := range []struct{ claims, name, first string }{
		{`{"preferred_username":"alice","name":"Alice Liddell","email":"a.liddell@example.com"}`, "alice", "alice"},
		{`{"name":"Alice Liddell","email":"a.liddell@example.com"}`, "Alice Liddell", "Alice Liddell"},
		{`{"email":"a.liddell@example.com"}`, "a.liddell", "a.liddell"},
		{`{"preferred_username":"a.liddell@example.com","name":"Alice"}`, "a.liddell", "a.liddell"},
		{`{"preferred_username":"@example.com","name":"Alice"}`, "Alice", "Alice"},
		{`{"preferred_username":["x"],"name":7,"email":"alice@example.com"}`, "alice", "alice"},
		{`{"preferred_username":null,"name":"  Alice \t\u0000\u202e\n Liddell "}`, "Alice Liddell", "Alice Liddell"},
		{`{"preferred_username":"bob"}`, "bob", "bob-"},
		{`{"preferred_username":"\u0000","email":"x@example.com"}`, "x", "x-"},
		{`{}`, "", "user"},
		{`{"name":"` + long + `"}`, long[:2*90], long[:2*90]},
		{`{"name":"` + strings.Repeat("x ", 60) + `"}`, strings.TrimSpace(strings.Repeat("x ", 45)), strings.TrimSpace(strings.Repeat("x ", 45))},
	} {
		var claimed claims
		if err := json.Unmarshal([]byte(c.claims), &claimed); err != nil {
			t.Fatal(err)
		}
		var who person
		who.learn(claimed)
		if who.username != c.name {
			t.Errorf("%s: the name is %q, want %q", c.claims, who.username, c.name)
		}
		n, seen := 0, map[string]bool{}
		for name := range usernames(who) {
			if n == 0 && !strings.HasPrefix(name, c.first) || n == 0 && !strings.HasSuffix(c.first, "-") && name != c.first {
				t.Errorf("%s: the first is %q, want %q", c.claims, name, c.first)
			}
			if n > 0 && !strings.HasPrefix(name, c.name) {
				t.Errorf("%s: then %q", c.claims, name)
			}
			if err := account.CheckUsername(name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			seen[name] = true
			n++
		}
		if n != maxNames || len(seen) < maxNames-1 { // of random ones two may be the same
			t.Errorf("%s: %d names, of them %d different", c.claims, n, len(seen))
		}
	}
}

// Whatever an issuer tells, an account may have the name, it can be read, and it is no
// email.
func FuzzUsername(f *testing.F) {
	for _, s := range []string{"alice", "a@b", "\x00", "\u202e", strings.Repeat("é ", 100), "bob", ""} {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, preferred, name, email string) {
		var who person
		who.learn(claims{Preferred: text(preferred), Name: text(name), Email: text(email)})
		for name := range usernames(who) {
			if err := account.CheckUsername(name); err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if strings.Contains(name, "@") || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) || strings.TrimSpace(name) != name {
				t.Fatalf("%q", name)
			}
		}
	})
}

// Claims of the wrong type are as if they were not there.
func TestClaims(t *testing.T) {
	for text, want := range map[string]claims{
		`{"email":"a@b","azp":"c"}`: {Email: "a@b", AZP: "c"},
		`{"email":7,"azp":["c"]}`:   {},
		`{"email":null}`:            {},
		`{"email":{"a":1},"name":true,"preferred_username":"x"}`: {Preferred: "x"},
	} {
		var c claims
		if err := json.Unmarshal([]byte(text), &c); err != nil || c != want {
			t.Errorf("%s: %+v, %v", text, c, err)
		}
	}
}
