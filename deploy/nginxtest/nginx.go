// Package nginxtest runs a real nginx for tests, with the fleet's own
// configuration from the directory nginx. It listens on a free port, and its
// nodes are listed instead of looked up.
package nginxtest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Start runs nginx in front of the given backends until the test ends, and
// returns the address it listens on. It blocks until nginx takes connections.
// A backend is "host:port"; "host:port backup" is used only while no other
// answers. The test fails when there is no nginx or it does not start; what
// nginx had to complain about is logged when the test fails.
func Start(tb testing.TB, backends ...string) (addr string) {
	tb.Helper()
	program, err := find()
	if err != nil {
		tb.Fatalf("no nginx to test with: %v (apt-get install nginx)", err)
	}
	// Between asking for a free port and nginx taking it, another process may
	// be given the same one.
	for range 5 {
		addr, err = start(tb, program, backends)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return addr
}

// find returns nginx's path, also where sbin is not on an ordinary user's PATH.
func find() (string, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return exec.LookPath("/usr/sbin/nginx")
	}
	return path, nil
}

var errPortTaken = errors.New("the port was taken before nginx could listen on it")

func start(tb testing.TB, program string, backends []string) (string, error) {
	tb.Helper()
	addr := freeAddr(tb)
	dir := tb.TempDir()
	conf, err := writeConf(confDir(tb), dir, addr, freeAddr(tb), backends)
	if err != nil {
		return "", err
	}
	errorLog := filepath.Join(dir, "error.log")
	cmd := exec.Command(program, "-p", dir, "-c", conf, "-e", errorLog)
	if err := cmd.Start(); err != nil {
		return "", err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	complaints := func() string {
		text, err := os.ReadFile(errorLog)
		if err != nil {
			return err.Error()
		}
		return string(text)
	}

	// The pid file is written after the sockets are bound, and in a directory
	// of this test alone, so it tells that this nginx owns the port.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-exited:
			if strings.Contains(complaints(), "Address already in use") {
				return "", errPortTaken
			}
			return "", errors.Join(errors.New("nginx ended at once: "+complaints()), err)
		case <-tick.C:
		}
		if _, err := os.Stat(filepath.Join(dir, "nginx.pid")); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			tb.Error(err)
		}
	}

	tb.Cleanup(func() {
		// The fast stop: a graceful one would wait for open WebSockets.
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			tb.Errorf("stopping nginx: %v", err)
		}
		if err := <-exited; err != nil {
			tb.Errorf("nginx ended with: %v", err)
		}
		if tb.Failed() {
			tb.Logf("nginx's error log:\n%s", complaints())
		}
	})
	return addr, nil
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// confDir is the repository's directory nginx; a test runs in its package's
// directory, somewhere below.
func confDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "nginx")
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("the test does not run inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

// writeConf copies the fleet's configuration into dir, changed where it speaks
// of the container it is made for, and returns the main file.
func writeConf(from, dir, listen, status string, backends []string) (string, error) {
	shared, err := filepath.Glob(filepath.Join(from, "*.conf"))
	if err != nil {
		return "", err
	}
	for _, file := range shared {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		if filepath.Base(file) == "nginx.conf" {
			if text, err = adapt(text, dir, listen, status, backends); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "nginx.conf"), nil
}

// adapt replaces the lines of nginx.conf that hold in the container only. Each
// must be there once, so that the tests run what the fleet runs or fail.
func adapt(conf []byte, dir, listen, status string, backends []string) ([]byte, error) {
	global := "daemon off;"
	if os.Geteuid() == 0 {
		global += " user root root;" // the test's directory is open to its own user only
	}
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	servers := ""
	for _, b := range backends {
		servers += "server " + b + "$1;\n"
	}
	for _, change := range []struct{ line, by string }{
		{`worker_processes auto;`, "worker_processes 2; " + global},
		{`worker_connections \d+;`, "worker_connections 1024;"},
		{`worker_rlimit_nofile \d+;`, ""},
		{`error_log /dev/stderr`, "error_log " + dir + "/error.log"},
		{`pid /run/nginx\.pid;`, "pid " + dir + "/nginx.pid;"},
		{`include http\.conf;`, "include http.conf;\n" + temporary},
		{`access_log /dev/stdout`, "access_log " + dir + "/access.log"},
		// Nodes are found by name since nginx 1.27.3; here they are listed.
		{`resolver [^;]*;`, ""},
		{`resolver_timeout [^;]*;`, ""},
		{`server relay:8080 resolve( [^;]*)?;`, servers},
		// With reuseport two programs of one user could share a port unawares.
		{`listen 80 reuseport`, "listen " + listen},
		{`listen 127\.0\.0\.1:8081;`, "listen " + status + ";"},
	} {
		re := regexp.MustCompile(`(?m)^\s*` + change.line)
		if n := len(re.FindAllIndex(conf, -1)); n != 1 {
			return nil, fmt.Errorf("nginx.conf: %d lines begin like %q, want 1", n, change.line)
		}
		conf = re.ReplaceAll(conf, []byte("\n"+change.by))
	}
	return conf, nil
}
