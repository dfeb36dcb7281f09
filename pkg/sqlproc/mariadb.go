package sqlproc

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
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

	"github.com/go-sql-driver/mysql"

	"parley/pkg/childproc"
)

const (
	// startPatience is how long a server may take to answer, on a machine that has
	// other things to do; after a kill it reads its log first.
	startPatience = 60 * time.Second
	// portAttempts is how many free ports are tried, since somebody else may be
	// given one in the meantime.
	portAttempts = 5
	// askTimeout bounds one question to a server. One that was killed, stopped or
	// is busy does not hold up the others for longer.
	askTimeout = 10 * time.Second
	// tick is the pause between two looks at something that is to come.
	tick = 10 * time.Millisecond

	host = "127.0.0.1"
	user = "parley"
)

var (
	// ErrPortTaken means that somebody else listens on the port.
	ErrPortTaken = errors.New("the port was taken before mariadbd could listen on it")
	// ErrNotRunning means that the server was killed.
	ErrNotRunning = errors.New("mariadbd does not run")
)

// Options configure a server.
type Options struct {
	Port int      // 0: a free one
	Args []string // more settings, as on its command line: "--max-connections=10"
}

// MariaDB is a server on a port of the loopback interface that stays the same over
// a Restart, as its data does.
type MariaDB struct {
	// Fixed after Start.
	program  string
	dir      string
	port     int
	password string
	options  Options
	log      *childproc.Log
	admin    *sql.DB

	mu        sync.Mutex
	running   *childproc.Child // nil when it was killed
	databases int
}

// Start makes a data directory and runs a server on it. It returns when the server
// answers. End it with Close.
func Start(o Options) (_ *MariaDB, err error) {
	s := &MariaDB{options: o, password: rand.Text(), log: new(childproc.Log)}
	if s.program, err = find("mariadbd"); err != nil {
		return nil, err
	}
	// Not below a test's directory: the path of its socket may have 107 bytes.
	if s.dir, err = os.MkdirTemp("", "mariadb-"); err != nil {
		return nil, err
	}
	if err = s.install(); err != nil {
		return nil, errors.Join(err, s.Close())
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
		if err = s.run(); !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// find looks for a program of the server, which not every user has in the path.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin", "/usr/libexec", "/usr/bin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, program))
	}
	if err != nil {
		return "", fmt.Errorf("no %s to run: %w (apt-get install mariadb-server)", program, err)
	}
	return path, nil
}

// install makes the data directory.
func (s *MariaDB) install() error {
	program, err := find("mariadb-install-db")
	if err != nil {
		return err
	}
	args := append([]string{"--no-defaults", "--datadir=" + s.data(), "--auth-root-authentication-method=normal",
		"--skip-test-db"}, asUser()...)
	if err := os.Mkdir(s.temporary(), 0o700); err != nil {
		return err
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+s.temporary())
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb-install-db: %w\n%s", err, said)
	}
	// What the server executes at each start. Nobody else on this machine gets in:
	// the user root is left for the socket alone, which lies in a private directory.
	account := fmt.Sprintf("'%s'@'%s'", user, host)
	first := fmt.Sprintf("DROP USER IF EXISTS 'root'@'127.0.0.1';\n"+
		"CREATE USER IF NOT EXISTS %s IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO %s WITH GRANT OPTION;\n",
		account, s.password, account)
	return os.WriteFile(s.first(), []byte(first), 0o600)
}

func (s *MariaDB) data() string  { return filepath.Join(s.dir, "data") }
func (s *MariaDB) first() string { return filepath.Join(s.dir, "first.sql") }

// temporary is where it has temporary tables: a server that starts removes those that
// it finds where it puts its own, whosever they are.
func (s *MariaDB) temporary() string { return filepath.Join(s.dir, "tmp") }

// asUser are the arguments without which the server does not run as root.
func asUser() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// Addr is where it listens, "host:port".
func (s *MariaDB) Addr() string { return net.JoinHostPort(host, strconv.Itoa(s.port)) }

// Password is that of the user parley, who may do everything.
func (s *MariaDB) Password() string { return s.password }

// Log is the end of what it has said, of all its runs.
func (s *MariaDB) Log() string { return s.log.Since(0) }

// Pid is the process's number; 0 when it was killed.
func (s *MariaDB) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return 0
	}
	return s.running.Process.Pid
}

// alive is called with mu held.
func (s *MariaDB) alive() bool {
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
func (s *MariaDB) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

func (s *MariaDB) kill() {
	if s.running == nil {
		return
	}
	_ = s.running.Process.Kill() // an error means that it has ended by itself
	<-s.running.Exited
	s.running = nil
}

// Stop suspends the server by SIGSTOP: connections to it stand, and new ones can
// be made, but nothing is answered until Cont.
func (s *MariaDB) Stop() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	// Its threads come to a halt one after the other.
	deadline := time.Now().Add(askTimeout)
	for pid := s.Pid(); !halted(pid); time.Sleep(tick) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not come to a halt", s.Addr())
		}
	}
	return nil
}

// halted tells whether all threads of a process are suspended. It knows of Linux only,
// and believes others.
func halted(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is a good one
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		// The state is what comes after the name, which may have parentheses.
		if i := bytes.LastIndexByte(stat, ')'); i >= 0 && !bytes.HasPrefix(stat[i+1:], []byte(" T")) {
			return false
		}
	}
	return true
}

// Cont has a stopped server go on.
func (s *MariaDB) Cont() error { return s.signal(syscall.SIGCONT) }

func (s *MariaDB) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive() {
		return fmt.Errorf("%v for %s: %w", sig, s.Addr(), ErrNotRunning)
	}
	return s.running.Process.Signal(sig)
}

// Restart kills the server if it runs, starts it on the same port with the data
// that it had, and returns when it answers.
func (s *MariaDB) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	return s.runLocked()
}

// Close kills the server and removes its data.
func (s *MariaDB) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// run starts the process and waits until it answers.
func (s *MariaDB) run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runLocked()
}

func (s *MariaDB) runLocked() error {
	if s.admin != nil {
		if err := s.admin.Close(); err != nil {
			return err
		}
	}
	var err error
	if s.admin, err = s.open(""); err != nil {
		return err
	}
	args := append([]string{
		"--no-defaults",
		"--datadir=" + s.data(),
		"--tmpdir=" + s.temporary(),
		"--init-file=" + s.first(),
		"--bind-address=" + host,
		"--port=" + strconv.Itoa(s.port),
		"--socket=" + filepath.Join(s.dir, "socket"),
		"--pid-file=" + filepath.Join(s.dir, "pid"),
		"--skip-name-resolve",
		// The system allows a user only so much of it, which many servers at once
		// exceed.
		"--innodb-use-native-aio=0",
		"--performance-schema=OFF",
		"--innodb-buffer-pool-size=64M",
		// What was committed outlives the process, though not the machine.
		"--innodb-flush-log-at-trx-commit=2",
	}, asUser()...)
	from := s.log.Len()
	c, err := childproc.Launch(s.program, append(args, s.options.Args...), s.log)
	if err != nil {
		return fmt.Errorf("mariadbd: %w", err)
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
			return fmt.Errorf("mariadbd ended at once:\n%s", s.log.Since(from))
		case <-patience.C:
			s.kill()
			return fmt.Errorf("mariadbd does not answer:\n%s", s.log.Since(from))
		case <-look.C:
		}
		// Its log tells that this server has the port, and not another one.
		if strings.Contains(s.log.Since(from), "ready for connections") && s.ping() == nil {
			return nil
		}
	}
}

func (s *MariaDB) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	return s.admin.PingContext(ctx)
}

func (s *MariaDB) open(database string) (*sql.DB, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = user, s.password, "tcp", s.Addr(), database
	c.Timeout, c.Logger = askTimeout, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(1)
	return db, nil
}

// Admin is for asking the server and for changing its settings; it belongs to the
// server, and ends with a Restart. No database is chosen.
func (s *MariaDB) Admin() *sql.DB {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admin
}

// Open connects to one of the databases. Close it before the server.
func (s *MariaDB) Open(database string) (*sql.DB, error) { return s.open(database) }

// CreateDatabase makes an empty database with a name that no other one has.
func (s *MariaDB) CreateDatabase(ctx context.Context) (name string, err error) {
	s.mu.Lock()
	s.databases++
	name = "parley_" + strconv.Itoa(s.databases)
	admin := s.admin
	s.mu.Unlock()
	_, err = admin.ExecContext(ctx, "CREATE DATABASE "+name)
	return name, err
}

// URL is where a node finds a database.
func (s *MariaDB) URL(database string) string {
	return "mysql://" + user + ":" + s.password + "@" + s.Addr() + "/" + database
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
