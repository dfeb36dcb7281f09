package relaytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Redis is a real redis-server on a free loopback port, without persistence. Its
// methods may not be called at the same time.
type Redis struct {
	tb      testing.TB
	program string
	dir     string
	port    int
	log     *logBuffer
	running *server // nil when it was killed
}

// server is one process.
type server struct {
	process *os.Process
	exited  chan struct{}
}

// errPortTaken means that somebody else was given the port in the meantime.
var errPortTaken = errors.New("the port was taken before redis-server could listen on it")

// startPatience is how long a redis-server may take to answer, on a machine that
// has other things to do.
const startPatience = 20 * time.Second

// StartRedis runs a redis-server until the test ends. It returns when the server
// answers; the test fails when there is none or it does not start.
func StartRedis(tb testing.TB) *Redis {
	tb.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Fatalf("no redis-server to test with: %v (apt-get install redis-server)", err)
	}
	r := &Redis{tb: tb, program: program, dir: tb.TempDir(), log: new(logBuffer)}
	tb.Cleanup(func() {
		r.Kill()
		if tb.Failed() {
			tb.Logf("redis-server's log:\n%s", r.log.since(0))
		}
	})
	for range 5 {
		if r.port, err = freePort(); err == nil {
			err = r.start()
		}
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Addr is where it listens, "host:port". It stays the same over a Restart.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// URL is Addr as a redis:// URL.
func (r *Redis) URL() string { return "redis://" + r.Addr() }

// Kill ends the server by SIGKILL and waits for its end. Killing one that was
// killed already does nothing.
func (r *Redis) Kill() {
	if r.running == nil {
		return
	}
	_ = r.running.process.Kill() // an error means that it has ended by itself
	<-r.running.exited
	r.running = nil
}

// Restart starts an empty server on the same port, after killing the one that
// runs, and returns when it answers.
func (r *Redis) Restart(tb testing.TB) {
	tb.Helper()
	r.Kill()
	if err := r.start(); err != nil {
		tb.Fatal(err)
	}
}

// Stop suspends the server by SIGSTOP: connections to it stand, and new ones can
// be made, but nothing is answered until Cont.
func (r *Redis) Stop(tb testing.TB) {
	tb.Helper()
	r.signal(tb, syscall.SIGSTOP)
}

// Cont has a stopped server go on.
func (r *Redis) Cont(tb testing.TB) {
	tb.Helper()
	r.signal(tb, syscall.SIGCONT)
}

func (r *Redis) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if r.running == nil {
		tb.Fatalf("%v for a redis-server that was killed", s)
	}
	if err := r.running.process.Signal(s); err != nil {
		tb.Fatalf("%v for redis-server: %v", s, err)
	}
}

// start runs a server and waits until it answers.
func (r *Redis) start() error {
	from := r.log.len()
	s, err := r.launch()
	if err != nil {
		return fmt.Errorf("redis-server: %w", err)
	}
	r.running = s
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for {
		select {
		case <-s.exited:
			r.running = nil
			if strings.Contains(r.log.since(from), "Address already in use") {
				return errPortTaken
			}
			return fmt.Errorf("redis-server ended at once:\n%s", r.log.since(from))
		case <-patience.C:
			r.Kill()
			return fmt.Errorf("redis-server does not answer:\n%s", r.log.since(from))
		case <-tick.C:
		}
		// Its log tells that this server has the port, and not another one.
		if strings.Contains(r.log.since(from), "Ready to accept connections") && r.ping() == nil {
			return nil
		}
	}
}

// launch starts the process.
func (r *Redis) launch() (*server, error) {
	cmd := exec.Command(r.program, "--port", strconv.Itoa(r.port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--dir", r.dir, "--daemonize", "no")
	cmd.Stdout, cmd.Stderr = r.log, r.log
	// A test that is killed cleans nothing up: the system ends the server then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s := &server{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig means the death of the thread that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(s.exited)
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is told by its log
		}
	}()
	return s, <-started
}

// ping asks the server for a sign of life.
func (r *Redis) ping() error {
	nc, err := net.DialTimeout("tcp", r.Addr(), time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(nc, "PING\r\n"); err != nil {
		return err
	}
	const pong = "+PONG\r\n"
	answer := make([]byte, len(pong))
	if _, err := io.ReadFull(nc, answer); err != nil {
		return err
	}
	if string(answer) != pong {
		return fmt.Errorf("redis-server answers PING with %q", answer)
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// logBuffer keeps what a server says.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

// since returns what was said after the first n bytes.
func (l *logBuffer) since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[n:])
}
