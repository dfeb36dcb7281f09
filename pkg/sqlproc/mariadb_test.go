package sqlproc

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// patience is long, since it is no measure of speed.
const patience = time.Minute

func start(t *testing.T, o Options) *MariaDB {
	t.Helper()
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestServerLives(t *testing.T) {
	s := start(t, Options{})
	ctx := within(t, patience)
	name, err := s.CreateDatabase(ctx)
	must(t, err)
	if want := "mysql://parley:" + s.Password() + "@" + s.Addr() + "/" + name; s.URL(name) != want {
		t.Errorf("URL is %q, want %q", s.URL(name), want)
	}
	db, err := s.Open(name)
	must(t, err)
	defer db.Close()
	_, err = db.ExecContext(ctx, "CREATE TABLE kept (n INT)")
	must(t, err)
	_, err = db.ExecContext(ctx, "INSERT INTO kept VALUES (7)")
	must(t, err)

	pid, addr := s.Pid(), s.Addr()
	if pid == 0 {
		t.Error("a server that runs has no number")
	}
	s.Kill()
	s.Kill() // is allowed
	if s.Pid() != 0 {
		t.Error("a server that was killed runs")
	}
	if err := db.PingContext(ctx); err == nil {
		t.Error("a server that was killed answers")
	}
	if err := s.Stop(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stopping a dead server: %v, want %v", err, ErrNotRunning)
	}
	must(t, s.Restart())
	if s.Pid() == pid || s.Addr() != addr {
		t.Errorf("process %d on %s after the restart, was %d on %s", s.Pid(), s.Addr(), pid, addr)
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
		t.Errorf("after the restart the table has %d (%v), want 7", n, err)
	}

	must(t, s.Stop())
	if err := db.PingContext(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stopped server answers or refuses: %v", err)
	}
	must(t, s.Cont())
	must(t, db.PingContext(ctx))
	must(t, s.Stop())
	s.Kill() // ends one that is stopped too
}

// Two servers do not meet, have passwords, and leave nothing behind.
func TestServerIsAlone(t *testing.T) {
	a, b := start(t, Options{}), start(t, Options{})
	if a.Addr() == b.Addr() || a.Password() == b.Password() {
		t.Fatalf("two servers on %s and %s, with one password: %v", a.Addr(), b.Addr(), a.Password() == b.Password())
	}
	for _, who := range []struct{ user, password string }{{"parley", ""}, {"parley", b.Password()}, {"root", ""}, {"", ""}} {
		c := mysql.NewConfig()
		c.User, c.Passwd, c.Net, c.Addr, c.Logger = who.user, who.password, "tcp", a.Addr(), &mysql.NopLogger{}
		connector, err := mysql.NewConnector(c)
		must(t, err)
		conn, err := connector.Connect(within(t, patience))
		var refused *mysql.MySQLError
		if !errors.As(err, &refused) {
			t.Errorf("%q with a wrong password: error = %v, want a refusal", who.user, err)
		}
		if err == nil {
			must(t, conn.Close())
		}
	}
	must(t, a.Close())
	must(t, b.ping())
	if _, err := os.Stat(a.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

func TestServerNamesTakenPort(t *testing.T) {
	first := start(t, Options{})
	if second, err := Start(Options{Port: first.port}); !errors.Is(err, ErrPortTaken) {
		t.Errorf("error = %v, want %v", err, ErrPortTaken)
		if err == nil {
			must(t, second.Close())
		}
	}
	must(t, first.ping())
}

func TestServerNamesWrongSetting(t *testing.T) {
	_, err := Start(Options{Args: []string{"--no-such-setting=1"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
}
