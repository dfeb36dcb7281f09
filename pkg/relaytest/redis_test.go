package relaytest

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestRedisLives(t *testing.T) {
	r := StartRedis(t)
	if want := "redis://" + r.Addr(); r.URL() != want {
		t.Errorf("URL is %q, want %q", r.URL(), want)
	}
	if err := r.ping(); err != nil {
		t.Errorf("after the start: %v", err)
	}

	addr := r.Addr()
	r.Kill()
	r.Kill() // is allowed
	if err := r.ping(); err == nil {
		t.Error("a server that was killed answers")
	}
	r.Restart(t)
	if r.Addr() != addr {
		t.Errorf("restarted on %s, was on %s", r.Addr(), addr)
	}
	if err := r.ping(); err != nil {
		t.Errorf("after the restart: %v", err)
	}

	r.Stop(t)
	if err := r.ping(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stopped server answers or refuses: %v", err)
	}
	r.Cont(t)
	Eventually(t, "the server goes on", func() bool { return r.ping() == nil })
}

func TestRedisNamesTakenPort(t *testing.T) {
	first := StartRedis(t)
	second := &Redis{tb: t, program: first.program, dir: t.TempDir(), port: first.port, log: new(logBuffer)}
	err := second.start()
	if !errors.Is(err, errPortTaken) {
		t.Errorf("error = %v, want %v", err, errPortTaken)
	}
	if log := second.log.since(0); !strings.Contains(log, "Address already in use") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// Two servers of one test do not meet.
func TestRedisIsAlone(t *testing.T) {
	a, b := StartRedis(t), StartRedis(t)
	if a.Addr() == b.Addr() {
		t.Fatalf("two servers on %s", a.Addr())
	}
	a.Kill()
	if err := b.ping(); err != nil {
		t.Errorf("the other one was killed: %v", err)
	}
}
