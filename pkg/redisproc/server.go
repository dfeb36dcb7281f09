package redisproc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"parley/pkg/childproc"
)

const (
	// startPatience is how long a server may take to answer, on a machine that has
	// other things to do.
	startPatience = 20 * time.Second
	// portAttempts is how many free ports are tried, since somebody else may be
	// given one in the meantime.
	portAttempts = 5
	// askTimeout bounds one question to a server. One that was killed, stopped or
	// is busy does not hold up the others for longer.
	askTimeout = time.Second
	// tick is the pause between two looks at something that is to come.
	tick = 5 * time.Millisecond

	host = "127.0.0.1"
)

var (
	// ErrPortTaken means that somebody else listens on the port.
	ErrPortTaken = errors.New("the port was taken before redis-server could listen on it")
	// ErrNotRunning means that the server was killed.
	ErrNotRunning = errors.New("redis-server does not run")
)

// Options configure a server.
type Options struct {
	Dir        string   // for its files; "": a temporary one, which Close removes
	Port       int      // 0: a free one
	AppendOnly bool     // it keeps what it had over a Restart; else it starts empty
	Args       []string // more settings, as on its command line: "--maxmemory", "1mb"
}

// Server is a redis-server, or a Sentinel, on a port of the loopback interface
// that stays the same over a Restart.
type Server struct {
	// Fixed after Start.
	program string
	dir     string
	port    int
	ownDir  bool
	options Options
	more    []string // lines of its configuration
	ready   string   // what its log says when it listens
	args    []string // after the name of its configuration
	log     *childproc.Log

	mu      sync.Mutex
	running *childproc.Child // nil when it was killed
	admin   *redis.Client
}

// Start runs a server without persistence, unless the options say otherwise. It
// returns when the server answers. End it with Close.
func Start(o Options) (*Server, error) {
	return start(o, func(int) []string { return nil }, "Ready to accept connections")
}

// start runs a server whose configuration has more lines, which may depend on the
// port.
func start(o Options, more func(port int) []string, ready string, args ...string) (_ *Server, err error) {
	s := &Server{options: o, dir: o.Dir, ready: ready, args: args, log: new(childproc.Log)}
	if s.program, err = exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("no redis-server to run: %w (apt-get install redis-server)", err)
	}
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "redis-"); err != nil {
			return nil, err
		}
		s.ownDir = true
	}
	attempts := portAttempts
	if o.Port != 0 {
		attempts = 1
	}
	for range attempts {
		if s.port = o.Port; s.port == 0 {
			if s.port, err = freePort(); err != nil {
				break
			}
		}
		s.more = more(s.port)
		if err = s.configure(); err == nil {
			err = s.run()
		}
		if !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Addr is where it listens, "host:port".
func (s *Server) Addr() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// Port is where it listens.
func (s *Server) Port() int { return s.port }

// URL is Addr as a redis:// URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Log is the end of what it has said, of all its runs.
func (s *Server) Log() string { return s.log.Since(0) }

// Pid is the process's number; 0 when it was killed.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return 0
	}
	return s.running.Process.Pid
}

// Running tells whether the process lives; one that is stopped does.
func (s *Server) Running() bool { return s.Pid() != 0 }

// alive is called with mu held.
func (s *Server) alive() bool {
	if s.running == nil {
		return false
	}
	select {
	case <-s.running.Exited:
		return false
	default:
		return true
	}
}

// Kill ends the server by SIGKILL and waits for its end. Killing one that was
// killed already does nothing.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

func (s *Server) kill() {
	if s.running == nil {
		return
	}
	_ = s.running.Process.Kill() // an error means that it has ended by itself
	<-s.running.Exited
	s.running = nil
}

// Stop suspends the server by SIGSTOP: connections to it stand, and new ones can
// be made, but nothing is answered until Cont.
func (s *Server) Stop() error { return s.signal(syscall.SIGSTOP) }

// Cont has a stopped server go on.
func (s *Server) Cont() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return fmt.Errorf("%v for %s: %w", sig, s.Addr(), ErrNotRunning)
	}
	return s.running.Process.Signal(sig)
}

// Restart kills the server if it runs, starts it on the same port, and returns
// when it answers. It is empty then, unless Options.AppendOnly is set. A member of
// a Cluster keeps its place there; one that Sentinels watch keeps the role that
// they gave it.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	return s.runLocked()
}

// Close kills the server and removes its directory if that was made for it.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	var err error
	if s.admin != nil {
		err = s.admin.Close()
		s.admin = nil
	}
	if s.ownDir {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// configure writes the server's configuration: a file, so that it can change it.
func (s *Server) configure() error {
	lines := []string{
		"port " + strconv.Itoa(s.port),
		"bind " + host,
		"dir " + strconv.Quote(s.dir),
		"daemonize no",
		"protected-mode no",
	}
	return os.WriteFile(s.config(), []byte(strings.Join(append(lines, s.more...), "\n")+"\n"), 0o600)
}

func (s *Server) config() string { return filepath.Join(s.dir, strconv.Itoa(s.port)+".conf") }

// run starts the process and waits until it answers.
func (s *Server) run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runLocked()
}

func (s *Server) runLocked() error {
	args := append([]string{s.config()}, s.args...)
	if len(s.args) == 0 { // not a Sentinel
		appendOnly := "no"
		if s.options.AppendOnly {
			appendOnly = "yes"
		}
		args = append(args, "--save", "", "--appendonly", appendOnly)
	}
	args = append(args, s.options.Args...)
	from := s.log.Len()
	c, err := childproc.Launch(s.program, args, s.log)
	if err != nil {
		return fmt.Errorf("redis-server: %w", err)
	}
	s.running = c
	look := time.NewTicker(tick)
	defer look.Stop()
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	for {
		select {
		case <-c.Exited:
			s.running = nil
			if strings.Contains(s.log.Since(from), "Address already in use") {
				return fmt.Errorf("%s: %w", s.Addr(), ErrPortTaken)
			}
			return fmt.Errorf("redis-server ended at once:\n%s", s.log.Since(from))
		case <-patience.C:
			s.kill()
			return fmt.Errorf("redis-server does not answer:\n%s", s.log.Since(from))
		case <-look.C:
		}
		// Its log tells that this server has the port, and not another one.
		if strings.Contains(s.log.Since(from), s.ready) && s.client().Ping(context.Background()).Err() == nil {
			return nil
		}
	}
}

// Client is for asking the server and for changing its settings; it belongs to the
// server. It knows nothing of masters and slots.
func (s *Server) Client() *redis.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client()
}

// client is called with mu held.
func (s *Server) client() *redis.Client {
	if s.admin == nil {
		s.admin = redis.NewClient(&redis.Options{
			Addr: s.Addr(), Protocol: 2, DisableIdentity: true, PoolSize: 2, MaxRetries: -1, DialerRetries: 1,
			DialTimeout: askTimeout, ReadTimeout: askTimeout, WriteTimeout: askTimeout,
			ContextTimeoutEnabled:    true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	}
	return s.admin
}

// info is the server's INFO as a map.
func (s *Server) info(ctx context.Context, section string) (map[string]string, error) {
	text, err := s.Client().Info(ctx, section).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Addr(), err)
	}
	fields := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":"); found {
			fields[name] = value
		}
	}
	return fields, nil
}

// await looks until there is no error any more, and returns the last one, with
// what was waited for, when ctx ends before.
func await(ctx context.Context, what string, look func() error) error {
	t := time.NewTicker(4 * tick)
	defer t.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-t.C:
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
