package texto

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/pkg/relay"
)

var (
	tokenClient   = uuid.MustParse(idOne)
	tokenPosition = relay.Position{Epoch: 7, ID: relay.ID{Millis: 1_700_000_000_123, Seq: 42}, At: time.UnixMilli(1_700_000_000_456)}
	tokenTime     = time.Unix(1_700_000_001, 0)
)

func TestTokenRoundTrip(t *testing.T) {
	k := newKeys([][]byte{[]byte("0123456789abcdef")})
	for _, p := range []relay.Position{
		tokenPosition,
		{},
		{Epoch: math.MaxUint64, ID: relay.ID{Millis: math.MaxUint64, Seq: math.MaxUint64}, At: time.UnixMilli(math.MaxInt64)},
		{At: time.UnixMilli(-1)},
	} {
		token := string(k.appendToken(nil, tokenClient, p, tokenTime))
		if len(token) != tokenLength || strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			t.Errorf("%q: not %d characters that need no escaping", token, tokenLength)
		}
		client, got, issued, ok := k.parse(token, tokenTime)
		if !ok || client != tokenClient || !issued.Equal(tokenTime) || got.Epoch != p.Epoch || got.ID != p.ID || !got.At.Equal(p.At) {
			t.Errorf("%v of %v, %v, want %v of %v", got, client, ok, p, tokenClient)
		}
	}
}

// A token holds for a day, and a node's clock may be an hour late.
func TestTokenLife(t *testing.T) {
	k := newKeys([][]byte{[]byte("0123456789abcdef")})
	token := string(k.appendToken(nil, tokenClient, tokenPosition, tokenTime))
	for _, c := range []struct {
		after time.Duration
		ok    bool
	}{
		{0, true}, {time.Hour, true},
		{tokenLife, true}, {tokenLife + time.Second, false}, {10 * tokenLife, false},
		{-tokenSkew, true}, {-tokenSkew - time.Second, false},
	} {
		if _, _, _, ok := k.parse(token, tokenTime.Add(c.after)); ok != c.ok {
			t.Errorf("accepted %s after its issue: %v, want %v", c.after, ok, c.ok)
		}
	}
	if _, _, _, ok := k.parse(token, time.Time{}); ok {
		t.Error("accepted by a clock that was never set")
	}
}

// A new secret comes first, and tokens of the old one hold as long as it is named.
func TestTokenRotation(t *testing.T) {
	older, newer := []byte("the secret of old"), []byte("the secret of now")
	before, during, after := newKeys([][]byte{older}), newKeys([][]byte{newer, older}), newKeys([][]byte{newer})
	token := func(k keys) string { return string(k.appendToken(nil, tokenClient, tokenPosition, tokenTime)) }
	for _, c := range []struct {
		name   string
		token  string
		reader keys
		ok     bool
	}{
		{"old, before", token(before), before, true},
		{"old, during", token(before), during, true},
		{"old, after", token(before), after, false},
		{"new, during", token(during), during, true},
		{"new, after", token(during), after, true},
		{"new, before", token(during), before, false},
	} {
		if _, _, _, ok := c.reader.parse(c.token, tokenTime); ok != c.ok {
			t.Errorf("%s: accepted %v, want %v", c.name, ok, c.ok)
		}
	}
	if one, two := newKeys(nil), newKeys(nil); bytes.Equal(one[0], two[0]) {
		t.Error("two secrets that were made up are the same")
	}
}

// Nothing but a whole token is one: not with another bit, longer, shorter, or
// written otherwise.
func TestTokenForged(t *testing.T) {
	k := newKeys([][]byte{[]byte("0123456789abcdef")})
	token := string(k.appendToken(nil, tokenClient, tokenPosition, tokenTime))
	raw, err := tokenEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	var forged []string
	for bit := range 8 * tokenBytes {
		b := bytes.Clone(raw)
		b[bit/8] ^= 1 << (bit % 8)
		forged = append(forged, tokenEncoding.EncodeToString(b))
	}
	forged = append(forged, "", "x", token[1:], token[:len(token)-1], token+"A", token+"=", " "+token[1:], token[:len(token)-1]+"\n",
		strings.Repeat("A", tokenLength), strings.Repeat("A", 1<<20), token[:len(token)-1]+string(token[len(token)-1]+1))
	for _, f := range forged {
		if _, _, _, ok := k.parse(f, tokenTime); ok {
			t.Errorf("accepted: %.200q", f)
		}
	}
}

// FuzzToken has no token accepted but those that were issued.
func FuzzToken(f *testing.F) {
	k := newKeys([][]byte{[]byte("0123456789abcdef")})
	issued := string(k.appendToken(nil, tokenClient, tokenPosition, tokenTime))
	for _, seed := range []string{issued, "", issued[1:], strings.ToUpper(issued), strings.Repeat("_", tokenLength), strings.Repeat("\n", tokenLength)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		client, p, _, ok := k.parse(token, tokenTime)
		if ok != (token == issued) {
			t.Errorf("%q: accepted %v", token, ok)
		}
		if ok && (client != tokenClient || p.ID != tokenPosition.ID) {
			t.Errorf("%v of %v", p, client)
		}
	})
}
