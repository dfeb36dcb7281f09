package relaytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/pkg/relay"
)

func testSearch(t *testing.T, open OpenPeople) {
	t.Run("prefix, then substring", open.one(testSearchOrder))
	t.Run("what is special", open.one(testSearchSpecial))
	t.Run("pages", open.one(testSearchPages))
	t.Run("places that were not given out", open.one(testSearchPlaces))
	t.Run("renamed", open.one(testSearchRenamed))
	t.Run("pages while names change", func(t *testing.T) { testSearchChanges(t, open(t, 2)) })
}

// search reads all pages of n, and wants each to be full but the last.
func (p People) search(t *testing.T, text string, n int) (names []string) {
	t.Helper()
	var after []byte
	for {
		found, next, err := p.Directory.Find(t.Context(), text, after, n)
		if err != nil {
			t.Fatalf("Find %q: %v", text, err)
		}
		for _, u := range found {
			if u.ID == 0 || u.Email != "" {
				t.Errorf("%q: %+v, want an id and no email", text, u)
			}
			names = append(names, u.Username)
		}
		switch {
		case next == nil && len(found) <= n:
			return names
		case next != nil && len(found) == n:
			after = next
		default:
			t.Fatalf("%q: a page has %d of %d, and there are more: %v", text, len(found), n, next != nil)
		}
	}
}

func (p People) expectFound(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, n := range []int{1, 2, 100} {
		if got := p.search(t, text, n); !slices.Equal(got, want) {
			t.Errorf("%q, %d a page: %q, want %q", text, n, got, want)
		}
	}
}

func testSearchOrder(t *testing.T, p People) {
	p.expectFound(t, "a")
	p.users(t, "Banana", "ana", "Anatol", "Susanna", "Joe", "xana", "nAN", "ANA ANA ANA")
	for text, want := range map[string]struct{ begin, have []string }{
		"ana":      {[]string{"ANA ANA ANA", "Anatol", "ana"}, []string{"Banana", "xana"}},
		"ANA":      {[]string{"ANA ANA ANA", "Anatol", "ana"}, []string{"Banana", "xana"}},
		"n":        {[]string{"nAN"}, []string{"ANA ANA ANA", "Anatol", "Banana", "Susanna", "ana", "xana"}},
		"joe":      {[]string{"Joe"}, nil},
		"oe":       {nil, []string{"Joe"}},
		" ana ana": {nil, []string{"ANA ANA ANA"}},
		"anatole":  {},
		"":         {},
	} {
		for _, n := range []int{1, 3, 100} {
			got := p.search(t, text, n)
			if len(got) != len(want.begin)+len(want.have) {
				t.Errorf("%q: %q, want %q", text, got, want)
				continue
			}
			begin, have := got[:len(want.begin)], slices.Sorted(slices.Values(got[len(want.begin):]))
			if slices.Sort(begin); !slices.Equal(begin, want.begin) || !slices.Equal(have, want.have) {
				t.Errorf("%q: %q begin with it and %q have it; want %q", text, begin, have, want)
			}
		}
	}
}

func testSearchSpecial(t *testing.T, p People) {
	names := []string{"100%", "a_b", `back\slash`, "it's", "x\x00y", "Stra\u00dfe", "\u00c4rger", "\U0001f600\U0001f601", "\u0130x", "50 percent"}
	p.users(t, names...)
	p.expectFound(t, "%", "100%")
	p.expectFound(t, "_", "a_b")
	p.expectFound(t, "a%b")
	p.expectFound(t, `\`, `back\slash`)
	p.expectFound(t, "'", "it's")
	p.expectFound(t, "\x00", "x\x00y")
	p.expectFound(t, "\u00e4R", "\u00c4rger")
	p.expectFound(t, "STRA\u00df", "Stra\u00dfe")
	p.expectFound(t, "\U0001f601", "\U0001f600\U0001f601")
	p.expectFound(t, "\U0001f602")
	p.expectFound(t, "\x98") // a part of a character
	p.expectFound(t, "\xff")
	p.expectFound(t, strings.Repeat("x", 10_000))
	for _, name := range names {
		p.expectFound(t, name, name)
	}
}

// Whatever the text, each name is found once, and those that begin with it come first.
func testSearchPages(t *testing.T, p People) {
	var names []string
	for i := range 60 {
		// Names that have the same text again and again.
		names = append(names, fmt.Sprintf("%03b%s", i, strings.Repeat("ab", i%4)))
	}
	p.users(t, names...)
	for _, text := range []string{"0", "1", "01", "10", "101", "ab", "ba", "b", "abab", "bab", "1ab", "zz"} {
		var want []string
		begin := 0
		for _, name := range names {
			if strings.HasPrefix(name, text) {
				begin++
			}
			if strings.Contains(name, text) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		var first []string
		for _, n := range []int{1, 7, 100} {
			got := p.search(t, text, n)
			if first == nil {
				first = slices.Clone(got)
			}
			if !slices.Equal(got, first) {
				t.Errorf("%q: with %d a page they come in another order", text, n)
			}
			for i, name := range got {
				if strings.HasPrefix(name, text) != (i < begin) {
					t.Errorf("%q: %q is number %d, %d begin with it", text, name, i, begin)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%q, %d a page: %q, want %q", text, n, got, want)
			}
		}
	}
}

func testSearchPlaces(t *testing.T, p People) {
	p.users(t, "aaa", "aab", "aac", "xaa")
	_, next, err := p.Directory.Find(t.Context(), "aa", nil, 1)
	if err != nil || next == nil {
		t.Fatalf("Find: more %v, %v", next != nil, err)
	}
	for what, after := range map[string][]byte{
		"empty": {}, "zero": {0}, "text": []byte("aaa"), "long": slices.Repeat([]byte{0xff}, 10_000), "cut off": next[:len(next)-2],
	} {
		found, more, err := p.Directory.Find(t.Context(), "aa", after, 10)
		expect(t, what, err, relay.ErrBadPlace)
		if found != nil || more != nil {
			t.Errorf("%s: %v, %v", what, found, more)
		}
	}
	_, _, err = p.Directory.Find(t.Context(), "x", next, 10)
	expect(t, "of another search", err, relay.ErrBadPlace)
	if found, _, err := p.Directory.Find(t.Context(), "AA", next, 10); err != nil || len(found) != 3 {
		t.Errorf("of the same search in another case: %v, %v", found, err)
	}
}

func testSearchRenamed(t *testing.T, p People) {
	u := p.user(t, "Caterpillar")
	p.expectFound(t, "pill", "Caterpillar")
	name, email := "Butterfly", "fly@example.com"
	if _, err := p.Directory.Rename(t.Context(), u.ID, &name, &email); err != nil {
		t.Fatal(err)
	}
	p.expectFound(t, "pill")
	p.expectFound(t, "fly", "Butterfly")
	p.expectFound(t, "example")
	upper := "BUTTERFLY"
	if _, err := p.Directory.Rename(t.Context(), u.ID, &upper, nil); err != nil {
		t.Fatal(err)
	}
	p.expectFound(t, "butter", "BUTTERFLY")
	p.user(t, "Taken")
	taken := "Taken"
	_, err := p.Directory.Rename(t.Context(), u.ID, &taken, nil)
	expect(t, "Rename", err, relay.ErrUsernameTaken)
	p.expectFound(t, "taken", "Taken")
	p.expectFound(t, "BUTTER", "BUTTERFLY")
	if made, err := p.Identities.CreateWithIdentity(t.Context(), relay.User{Username: "Moth", Email: "m"}, "i", "s"); err != nil || made.ID == 0 {
		t.Fatal(err)
	}
	p.expectFound(t, "oth", "Moth")
}

// While others come, go under another name and come back, those that stay are found on
// one page each.
func testSearchChanges(t *testing.T, nodes []People) {
	const stay, rounds = 30, 20
	var want []string
	for i := range stay {
		want = append(want, fmt.Sprintf("%02d stays %02d", i*7%stay, i))
	}
	nodes[0].users(t, want...)
	slices.Sort(want)
	restless := nodes[0].user(t, "stays not")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := []string{"stays not", "0 stays not", "is away", "z stays not"}[i%4]
			if _, err := nodes[1].Directory.Rename(t.Context(), restless.ID, &name, nil); err != nil {
				t.Errorf("Rename: %v", err)
			}
			_, err := nodes[1].Users.Create(t.Context(), relay.User{Username: fmt.Sprint(i, " comes and stays"), Email: fmt.Sprint(i)}, "")
			if err != nil && !errors.Is(err, relay.ErrUsernameTaken) {
				t.Errorf("Create: %v", err)
			}
		}
	})
	for range rounds {
		var got []string
		var after []byte
		for {
			found, next, err := nodes[0].Directory.Find(t.Context(), "stays ", after, 7)
			if err != nil {
				t.Fatalf("Find: %v", err)
			}
			for _, u := range found {
				if u.ID != restless.ID {
					got = append(got, u.Username)
				}
			}
			if after = next; next == nil {
				break
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	close(stop)
	wg.Wait()
}
