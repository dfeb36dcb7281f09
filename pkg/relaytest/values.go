package relaytest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Shared is what nodes share besides messages.
type Shared interface {
	relay.Values
	relay.Meter
}

// expiryPrecision is how early something may expire: the clock of the Redis inside the
// process steps by as much.
const expiryPrecision = time.Second

// Values checks what relay.Values and relay.Meter promise, in parts that run in
// parallel. Open makes one more node on the same Redis, which is empty at first.
func Values(t *testing.T, open func(testing.TB) Shared) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *sharing)
	}{
		{"PutAndGet", testValuesGet},
		{"ManyValues", testValuesMany},
		{"Expiry", testValuesExpiry},
		{"Delete", testValuesDelete},
		{"BadKeys", testValuesBadKeys},
		{"MeterLimit", testMeterLimit},
		{"MeterReturn", testMeterReturn},
		{"MeterWindow", testMeterWindow},
		{"MeterRace", testMeterRace},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, &sharing{t, fmt.Sprintf("%s-%x/", part.name, rand.Uint64()), open})
		})
	}
}

// sharing is one part of the suite, with keys that no other one has.
type sharing struct {
	t      *testing.T
	prefix string
	open   func(testing.TB) Shared
}

func (s *sharing) key(name string) string { return s.prefix + name }

// put puts and fails the test when that does.
func (s *sharing) put(n Shared, name, value string, life time.Duration) {
	s.t.Helper()
	if err := n.Put(s.t.Context(), s.key(name), []byte(value), life); err != nil {
		s.t.Fatalf("Put(%s): %v", name, err)
	}
}

// get reads values; none is "<none>".
func (s *sharing) get(n Shared, names ...string) []string {
	s.t.Helper()
	var keys []string
	for _, name := range names {
		keys = append(keys, s.key(name))
	}
	values, err := n.Get(s.t.Context(), keys...)
	if err != nil {
		s.t.Fatalf("Get(%.100q): %v", names, err)
	}
	if len(values) != len(names) {
		s.t.Fatalf("Get: %d values for %d keys", len(values), len(names))
	}
	var texts []string
	for _, v := range values {
		if v == nil {
			texts = append(texts, "<none>")
		} else {
			texts = append(texts, string(v))
		}
	}
	return texts
}

// expect checks what is under some names.
func (s *sharing) expect(n Shared, names []string, want ...string) {
	s.t.Helper()
	if got := s.get(n, names...); !slices.Equal(got, want) {
		s.t.Errorf("under %q there is %.100q, want %.100q", names, got, want)
	}
}

// take counts once, and checks whether there was room.
func (s *sharing) take(n Shared, name string, most int64, window time.Duration, room bool) (wait time.Duration) {
	s.t.Helper()
	wait, err := n.Take(s.t.Context(), s.key(name), most, window)
	if err != nil {
		s.t.Fatalf("Take(%s, %d): %v", name, most, err)
	}
	if (wait == 0) != room || wait < 0 || wait > window {
		s.t.Errorf("Take(%s, %d, %v): wait %v; want room: %v", name, most, window, wait, room)
	}
	return wait
}

func (s *sharing) giveBack(n Shared, name string) {
	s.t.Helper()
	if err := n.Return(s.t.Context(), s.key(name)); err != nil {
		s.t.Fatalf("Return(%s): %v", name, err)
	}
}

func testValuesGet(t *testing.T, s *sharing) {
	a, b := s.open(t), s.open(t)
	s.expect(a, nil)
	s.expect(a, []string{"x"}, "<none>")
	s.put(a, "x", "1", time.Minute)
	s.put(b, "y", "", time.Minute)
	bytes := string([]byte{0, 255, '\r', '\n', 0})
	s.put(b, "z", bytes, time.Minute)
	for _, n := range []Shared{a, b} {
		s.expect(n, []string{"z", "missing", "x", "y", "x"}, bytes, "<none>", "1", "", "1")
	}
	s.put(b, "x", "2", time.Minute)
	s.expect(a, []string{"x"}, "2")
	s.take(a, "x", 5, time.Minute, true) // has keys of its own
	s.expect(a, []string{"x"}, "2")
}

func testValuesMany(t *testing.T, s *sharing) {
	n := s.open(t)
	const many = 1203
	var names, want []string
	var wg sync.WaitGroup
	for i := range many {
		names, want = append(names, fmt.Sprint(i)), append(want, "<none>")
		if i%3 != 0 {
			want[i] = fmt.Sprint("value ", i)
		}
	}
	for w := range 3 {
		wg.Go(func() {
			for i := w; i < many; i += 3 {
				if i%3 == 0 {
					continue
				}
				if err := n.Put(t.Context(), s.key(names[i]), []byte(want[i]), time.Minute); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := s.get(n, names...); !slices.Equal(got, want) {
		t.Errorf("%d values are not those that were put, in the order asked for", many)
	}
}

func testValuesExpiry(t *testing.T, s *sharing) {
	n := s.open(t)
	const life = 2500 * time.Millisecond
	began := time.Now()
	s.put(n, "short", "1", life)
	s.put(n, "prolonged", "1", life)
	s.put(n, "shortened", "1", time.Hour)
	s.put(n, "long", "1", time.Hour)
	s.put(n, "prolonged", "2", time.Hour)
	s.put(n, "shortened", "2", life)
	gone := func(name string) {
		t.Helper()
		Eventually(t, "the value expires", func() bool { return s.get(n, name)[0] == "<none>" })
		if took := time.Since(began); took < life-expiryPrecision {
			t.Errorf("%s has expired after %v, want %v", name, took, life)
		}
	}
	gone("short")
	gone("shortened")
	s.expect(n, []string{"prolonged", "long"}, "2", "1")
}

func testValuesDelete(t *testing.T, s *sharing) {
	nodes := []Shared{s.open(t), s.open(t), s.open(t)}
	was := func(n Shared, name string) bool {
		was, err := n.Delete(t.Context(), s.key(name))
		if err != nil {
			t.Errorf("Delete(%s): %v", name, err)
		}
		return was
	}
	if was(nodes[0], "x") {
		t.Error("deleted what was never there")
	}
	for i := range 20 {
		name := fmt.Sprint("x", i)
		s.put(nodes[0], name, "1", time.Minute)
		var wg sync.WaitGroup
		var times atomic.Int32
		for _, n := range nodes {
			wg.Go(func() {
				if was(n, name) {
					times.Add(1)
				}
			})
		}
		wg.Wait()
		if times.Load() != 1 {
			t.Errorf("%d of %d that delete a value are told that it was there, want 1", times.Load(), len(nodes))
		}
		s.expect(nodes[1], []string{name}, "<none>")
	}
}

func testValuesBadKeys(t *testing.T, s *sharing) {
	n := s.open(t)
	ctx := t.Context()
	long := "k/" + strings.Repeat("x", 254)
	const most = 64 << 10
	if err := n.Put(ctx, long, bytes.Repeat([]byte{1}, most), time.Millisecond); err != nil {
		t.Errorf("the longest key and value, for the shortest time: %v", err)
	}
	wrong := func(what string, err error) {
		t.Helper()
		if err == nil || errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("%s: error = %v, want one, and not %v", what, err, relay.ErrUnavailable)
		}
	}
	for _, key := range []string{"", "x", "/x", "x/", long + "x"} {
		wrong("Put", n.Put(ctx, key, nil, time.Minute))
		_, err := n.Get(ctx, s.key("fine"), key)
		wrong("Get", err)
		_, err = n.Delete(ctx, key)
		wrong("Delete", err)
		_, err = n.Take(ctx, key, 1, time.Minute)
		wrong("Take", err)
		wrong("Return", n.Return(ctx, key))
	}
	wrong("a value too long", n.Put(ctx, s.key("x"), make([]byte, most+1), time.Minute))
	wrong("no time", n.Put(ctx, s.key("x"), nil, time.Millisecond-1))
	_, err := n.Take(ctx, s.key("x"), 0, time.Minute)
	wrong("a limit of nothing", err)
	_, err = n.Take(ctx, s.key("x"), 1, 0)
	wrong("no window", err)
}

func testMeterLimit(t *testing.T, s *sharing) {
	a, b := s.open(t), s.open(t)
	const most, window = 5, time.Minute
	for i := range most {
		s.take([]Shared{a, b}[i%2], "x", most, window, true)
	}
	for range 3 { // which counts nothing
		s.take(a, "x", most, window, false)
		s.take(b, "x", most, window, false)
	}
	s.take(a, "x", most+1, window, true) // five, and not eleven
	s.take(a, "x", most+1, window, false)
	s.take(a, "y", 1, window, true)
	s.put(a, "z", "not a number", window) // has keys of its own
	s.take(a, "z", 1, window, true)
}

func testMeterReturn(t *testing.T, s *sharing) {
	a, b := s.open(t), s.open(t)
	s.giveBack(a, "x") // nothing to return
	s.giveBack(a, "x")
	s.take(a, "x", 2, time.Minute, true)
	s.take(a, "x", 2, time.Minute, true)
	s.take(a, "x", 2, time.Minute, false)
	s.giveBack(b, "x")
	s.take(a, "x", 2, time.Minute, true)
	s.take(b, "x", 2, time.Minute, false)
	for range 4 { // more than were taken
		s.giveBack(b, "x")
	}
	s.take(a, "x", 2, time.Minute, true)
	s.take(b, "x", 2, time.Minute, true)
	s.take(b, "x", 2, time.Minute, false)
}

// The window begins with the first count, and later ones do not prolong it.
func testMeterWindow(t *testing.T, s *sharing) {
	n := s.open(t)
	const window = 4 * time.Second
	before := time.Now()
	s.take(n, "x", 2, window, true)
	began := time.Now()
	Eventually(t, "time passes", func() bool { return time.Since(began) > window/2 })
	s.take(n, "x", 2, window, true)
	if wait, left := s.take(n, "x", 2, window, false), window-time.Since(began); wait > left+expiryPrecision {
		t.Errorf("wait %v, want %v", wait, left)
	}
	// One who was told of a shorter window waits no longer than that.
	s.take(n, "x", 2, time.Second, false)
	s.take(n, "y", 1, window, true)
	Eventually(t, "the window ends", func() bool {
		wait, err := n.Take(t.Context(), s.key("y"), 1, window)
		if err != nil {
			t.Fatal(err)
		}
		return wait == 0
	})
	if took := time.Since(before); took < window-expiryPrecision {
		t.Errorf("the window has ended after %v, want %v", took, window)
	}
	s.take(n, "y", 1, window, false) // in the next one
}

func testMeterRace(t *testing.T, s *sharing) {
	nodes := []Shared{s.open(t), s.open(t), s.open(t)}
	const most, each = 20, 15
	var taken atomic.Int32
	var wg sync.WaitGroup
	for _, n := range nodes {
		for range each {
			wg.Go(func() {
				wait, err := n.Take(t.Context(), s.key("x"), most, time.Minute)
				if err != nil {
					t.Errorf("Take: %v", err)
				} else if wait == 0 {
					taken.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if taken.Load() != most {
		t.Errorf("%d were counted of %d at once, want %d", taken.Load(), each*len(nodes), most)
	}
}
