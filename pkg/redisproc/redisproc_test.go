package redisproc

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is long, since it is no measure of speed.
const patience = time.Minute

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// finish ends what was started, at the end of the test.
func finish(t *testing.T, what interface {
	Close() error
	Log() string
}) {
	t.Helper()
	t.Cleanup(func() {
		if err := what.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Log(what.Log())
		}
	})
}

func startServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	finish(t, s)
	return s
}

func ping(s *Server) error {
	nobody := *s.Client().Options()
	c := redis.NewClient(&nobody) // a new connection
	defer c.Close()
	return c.Ping(context.Background()).Err()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServerLives(t *testing.T) {
	s := startServer(t, Options{})
	if want := "redis://127.0.0.1:" + strconv.Itoa(s.Port()); s.URL() != want {
		t.Errorf("URL is %q, want %q", s.URL(), want)
	}
	pid := s.Pid()
	if pid == 0 || !s.Running() {
		t.Error("a server that runs has no number")
	}
	must(t, ping(s))

	s.Kill()
	s.Kill() // is allowed
	if s.Running() {
		t.Error("a server that was killed runs")
	}
	if err := ping(s); err == nil {
		t.Error("a server that was killed answers")
	}
	if err := s.Stop(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopping a dead server: %v, want %v", err, ErrNotRunning)
	}
	must(t, s.Restart())
	must(t, ping(s))
	if s.Pid() == pid {
		t.Error("the same process after a restart")
	}

	must(t, s.Stop())
	var timeout interface{ Timeout() bool }
	if err := ping(s); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a stopped server answers or refuses: %v", err)
	}
	must(t, s.Cont())
	must(t, await(deadline(t), "the server goes on", func() error { return ping(s) }))
	must(t, s.Stop())
	s.Kill() // ends one that is stopped too
}

func TestServerKeepsWhatItWasToldToKeep(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		s := startServer(t, Options{AppendOnly: keeps, Args: []string{"--appendfsync", "always"}})
		ctx := deadline(t)
		must(t, s.Client().Set(ctx, "k", "v", 0).Err())
		must(t, s.Restart())
		n, err := s.Client().Exists(ctx, "k").Result()
		if err != nil || (n == 1) != keeps {
			t.Errorf("AppendOnly %v: %d keys after the restart (%v)", keeps, n, err)
		}
	}
}

func TestServerNamesTakenPort(t *testing.T) {
	first := startServer(t, Options{})
	if second, err := Start(Options{Port: first.Port()}); !errors.Is(err, ErrPortTaken) {
		t.Errorf("error = %v, want %v", err, ErrPortTaken)
		if err == nil {
			must(t, second.Close())
		}
	}
	must(t, ping(first))
}

func TestServerNamesWrongSetting(t *testing.T) {
	_, err := Start(Options{Args: []string{"--no-such-setting", "1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
}

// Two servers of one test do not meet, and leave nothing behind.
func TestServerIsAlone(t *testing.T) {
	a, b := startServer(t, Options{}), startServer(t, Options{})
	if a.Addr() == b.Addr() {
		t.Fatalf("two servers on %s", a.Addr())
	}
	must(t, a.Close())
	must(t, ping(b))
	if _, err := os.Stat(a.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}
