package sqlstore

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// Nobody else may read the file, what SQLite puts beside it, or its directory.
func TestFileIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b c?d=e#f%41")
	file := filepath.Join(dir, "par ley?mode=ro#x%42.db")
	use(t, open(t, "sqlite:"+file), "somebody")
	for name, want := range map[string]os.FileMode{
		file: 0o600, file + "-wal": 0o600, file + "-shm": 0o600, file + ".lock": 0o600, file + ".used": 0o600, dir: 0o700, filepath.Dir(dir): 0o700,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has the mode %o, want %o", name, got, want)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 5 {
		t.Errorf("the directory has %v (%v)", files, err)
	}
}

func TestFileOutlivesTheStore(t *testing.T) {
	relaytest.NoLeaks(t)
	t.Chdir(t.TempDir())
	s, err := Open(t.Context(), Options{URL: "sqlite:data/parley.db"})
	if err != nil {
		t.Fatal(err)
	}
	use(t, s, "somebody")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	u, _, err := open(t, "sqlite:data/parley.db").Users().ByEmail(t.Context(), "somebody@example.com")
	if err != nil || u.Username != "somebody" {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestFileCannotBeUsed(t *testing.T) {
	relaytest.NoLeaks(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("this is a text, and no database at all, however long one reads on in it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, url := range map[string]string{
		"no database":             "sqlite:" + plain,
		"a directory":             "sqlite:" + dir,
		"a file as its directory": "sqlite:" + filepath.Join(plain, "parley.db"),
	} {
		if s, err := Open(t.Context(), Options{URL: url}); err == nil {
			t.Errorf("%s is opened", what)
			_ = s.Close()
		}
	}
}

// Another process that writes holds up those that write, for QueryTimeout at most,
// and nobody who reads.
func TestFileIsBusy(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	s, other := open(t, url), open(t, url)
	use(t, s, "first")
	tx, err := other.write.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for name, call := range map[string]func() error{
		"ByEmail": func() error { _, _, err := s.Users().ByEmail(t.Context(), "first@example.com"); return err },
		"Before": func() error {
			_, _, err := s.Archive().Before(t.Context(), "chat/first", relay.ID{}, 1)
			return err
		},
		"Ping": func() error { return s.Ping(t.Context()) },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Users().Create(ctx, relay.User{Username: "x", Email: "x"}, ""); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Create with little patience: %v", err)
	}
	if err := s.Archive().Store(t.Context(), []relay.Message{{ID: relay.ID{Millis: 9}, Topic: "chat/first"}}); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Store: %v", err)
	}
	if took := time.Since(began); took > 2*QueryTimeout {
		t.Errorf("they took %v, %v is the most", took, QueryTimeout)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	use(t, s, "second")
}

func TestSignedKeepsOrder(t *testing.T) {
	if signed(0) != math.MinInt64 || signed(math.MaxUint64) != math.MaxInt64 || signed(1<<63) != 0 || signed(1<<63-1) != -1 {
		t.Errorf("0 is %d, 2^63-1 %d, 2^63 %d, 2^64-1 %d", signed(0), signed(1<<63-1), signed(1<<63), signed(math.MaxUint64))
	}
	for _, n := range []uint64{0, 1, 1<<63 - 1, 1 << 63, math.MaxUint64} {
		var back uint64
		if err := (&shifted{&back}).Scan(signed(n)); err != nil || back != n {
			t.Errorf("%d came back as %d (%v)", n, back, err)
		}
	}
	if err := (&shifted{new(uint64)}).Scan("1"); err == nil {
		t.Error("a text is taken for a number")
	}
}

// Nodes that share a Redis share a file; one that has its own wants to be alone.
func TestAlone(t *testing.T) {
	url := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	openAs := func(alone bool) (*Store, error) {
		return Open(t.Context(), Options{URL: url, Alone: alone})
	}
	for _, first := range []bool{true, false} {
		a, err := openAs(first)
		if err != nil {
			t.Fatal(err)
		}
		for _, second := range []bool{true, false} {
			b, err := openAs(second)
			if refused := first || second; refused != errors.Is(err, ErrOccupied) || !refused && err != nil {
				t.Errorf("alone: %v, the next one alone: %v: error = %v", first, second, err)
			}
			if err == nil {
				_ = b.Close()
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
