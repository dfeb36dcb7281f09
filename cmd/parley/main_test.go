package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parley")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "parley")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program runs the binary to its end.
func program(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestHelpAndVersion(t *testing.T) {
	out, _, code := program(t, nil, "--help")
	if code != 0 || !strings.Contains(out, "--redis-url URL") || !strings.Contains(out, "PARLEY_REDIS_URL, REDIS_URL") {
		t.Errorf("exit %d, help:\n%s", code, out)
	}
	out, _, code = program(t, nil, "version")
	if code != 0 || !strings.HasPrefix(out, "parley ") {
		t.Errorf("exit %d, version: %s", code, out)
	}
	_, errs, code := program(t, nil, "serf")
	if code != exitUsage || !strings.Contains(errs, `"serf"`) {
		t.Errorf("exit %d, error: %s", code, errs)
	}
}

// All wrong settings are named at once, wherever they come from.
func TestWrongSettings(t *testing.T) {
	_, errs, code := program(t, []string{"PARLEY_RATE=fast", "REDIS_URL=redis://user:hunter2/with%zz@host:x/"},
		"--listen=nowhere", "--redis-ur", "redis://:hunter2@host", "--ping-interval=-1s", "--no-such-flag", "extra", "--log-format=xml")
	if code != exitUsage {
		t.Errorf("exit %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"PARLEY_RATE", "REDIS_URL", "--listen", "--ping-interval", "no-such-flag", "--log-format"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%s is not named in:\n%s", want, errs)
		}
	}
	if strings.Contains(errs, "hunter2") {
		t.Errorf("a password is shown:\n%s", errs)
	}
}

// server is a running node.
type server struct {
	cmd            *exec.Cmd
	addr, internal string
	log            *bytes.Buffer // complete after wait
	exited         chan struct{}
}

var logAddr = regexp.MustCompile(`listen=(\S+)`)

// start runs a node on free ports and waits until it is ready.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{log: new(bytes.Buffer), exited: make(chan struct{})}
	s.cmd = exec.Command(binary, append([]string{"--listen=127.0.0.1:0", "--internal-addr=127.0.0.1:0"}, args...)...)
	r, w := io.Pipe()
	s.cmd.Stderr = w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			s.log.WriteString(scan.Text() + "\n")
			select {
			case lines <- scan.Text():
			default:
			}
		}
		close(lines)
	}()
	go func() {
		_ = s.cmd.Wait() // the state says it
		_ = w.Close()
		<-logged
		close(s.exited)
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.exited })
	deadline := time.After(20 * time.Second)
	for s.internal == "" {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the node ended:\n%s", s.log)
			}
			if m := logAddr.FindStringSubmatch(line); m != nil {
				s.addr = m[1]
			}
			if _, after, found := strings.Cut(line, "internal="); found {
				s.internal = strings.Fields(after)[0]
			}
		case <-deadline:
			t.Fatal("the node did not start")
		}
	}
	s.await(t, "/readyz", http.StatusOK)
	return s
}

func (s *server) status(path string) int {
	r, err := http.Get("http://" + s.internal + path)
	if err != nil {
		return 0
	}
	r.Body.Close()
	return r.StatusCode
}

// await waits for the internal listener to answer with a status.
func (s *server) await(t *testing.T, path string, status int) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); s.status(path) != status; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not say %d", path, status)
		}
	}
}

func (s *server) wait(t *testing.T, most time.Duration) int {
	t.Helper()
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(most):
		t.Fatalf("the node did not exit within %s", most)
		return 0
	}
}

// SIGTERM: not ready at once, clients still taken for a while, then sent away
// with 1012, and exit code 0.
func TestDrain(t *testing.T) {
	s := start(t, "--drain-delay=1s", "--drain-window=500ms")
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/readyz", http.StatusServiceUnavailable)
	late, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/v1/texto", nil)
	if err != nil {
		t.Fatalf("the balancer may still send clients: %v", err)
	}
	defer late.CloseNow()
	for _, c := range []*websocket.Conn{c, late} {
		for err = nil; err == nil; {
			_, _, err = c.Read(t.Context())
		}
		if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("closed with %v, want 1012", err)
		}
	}
	if code := s.wait(t, 6*time.Second); code != 0 {
		t.Errorf("exit %d\n%s", code, s.log)
	}
	if strings.Contains(s.log.String(), "DATA RACE") {
		t.Error(s.log)
	}
}

// Plain requests that do not end neither hold up the drain nor the exit.
func TestDrainBesideSlowRequests(t *testing.T) {
	s := start(t, "--drain-delay=0s", "--drain-window=500ms")
	for _, slow := range []string{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "GET / HTTP/1.1\r\nHost:"} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, slow); err != nil {
			t.Fatal(err)
		}
	}
	c, _, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	began := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, _, err = c.Read(t.Context())
	}
	if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("closed with %v, want 1012", err)
	}
	if code := s.wait(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d\n%s", code, s.log)
	}
	t.Logf("drained in %s", time.Since(began))
}

func TestSecondSignal(t *testing.T) {
	s := start(t, "--drain-delay=1m")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/readyz", http.StatusServiceUnavailable)
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := s.wait(t, 5*time.Second); code == 0 {
		t.Error("exit 0, want non-zero")
	}
}

func TestHealthcheck(t *testing.T) {
	s := start(t, "--drain-delay=1m")
	out, _, code := program(t, []string{"PARLEY_INTERNAL_ADDR=" + s.internal}, "healthcheck")
	if code != 0 || out != "ok\n" {
		t.Errorf("exit %d, %q", code, out)
	}
	_, port, _ := strings.Cut(s.addr, ":")
	if out, errs, code := program(t, []string{"PORT=" + port}, "healthcheck", "--internal-addr=off"); code != 0 {
		t.Errorf("without an internal listener: exit %d, %q, %q", code, out, errs)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "/readyz", http.StatusServiceUnavailable)
	if out, _, code := program(t, nil, "healthcheck", "--internal-addr="+s.internal); code != exitFailed || !strings.Contains(out, "going down") {
		t.Errorf("while draining: exit %d, %q", code, out)
	}
}

func TestPortTaken(t *testing.T) {
	s := start(t)
	_, errs, code := program(t, nil, "--listen="+s.addr, "--internal-addr=off")
	if code != exitFailed || !strings.Contains(errs, "--listen") {
		t.Errorf("exit %d, %s", code, errs)
	}
}
