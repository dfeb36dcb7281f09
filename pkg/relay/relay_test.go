package relay

import (
	"errors"
	"testing"
)

func TestIDRoundTrip(t *testing.T) {
	for _, s := range []string{"0-0", "1-2", "18446744073709551615-18446744073709551615"} {
		id, err := ParseID(s)
		if err != nil || id.String() != s {
			t.Errorf("ParseID(%q) = %v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "-", "1", "1-", "-1", "1-2-3", "a-b", "18446744073709551616-0"} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) = %v, want an error", s, id)
		}
	}
}

func TestIDOrder(t *testing.T) {
	ordered := []ID{{}, {0, 1}, {1, 0}, {1, 1}, {2, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
		}
	}
	if !ordered[0].IsZero() || ordered[1].IsZero() {
		t.Error("only the zero ID is zero")
	}
}

func TestOverloadedIsUnavailable(t *testing.T) {
	if !errors.Is(ErrOverloaded, ErrUnavailable) {
		t.Error("a sender that only knows ErrUnavailable must recognise ErrOverloaded")
	}
}
