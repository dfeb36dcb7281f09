// Package nginxtest runs a real nginx for tests, with the fleet's own
// configuration: everything in the directory nginx but the address it listens
// on and the list of nodes.
package nginxtest

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// Start runs nginx in front of the given backends ("host:port") until the test
// ends, and returns the address it listens on. It blocks until nginx takes
// connections. The test fails when there is no nginx or it does not start; what
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
	conf := filepath.Join(dir, "nginx.conf")
	if err := render(conf, config{
		Dir:      dir,
		Conf:     confDir(tb),
		Root:     os.Geteuid() == 0,
		Listen:   addr,
		Backends: backends,
	}); err != nil {
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

type config struct {
	Dir      string // for everything nginx writes
	Conf     string // the repository's nginx
	Root     bool
	Listen   string
	Backends []string
}

// fleet takes the place of nginx/nginx.conf. It names the nodes, where that
// file has them looked up, which nginx can do only since 1.27.3.
var fleet = template.Must(template.New("nginx.conf").Parse(`
daemon off;
worker_processes 2;
pid {{.Dir}}/nginx.pid;
{{- /* The test's directory is open to its own user only. */}}
{{if .Root}}user root root;{{end}}
events { worker_connections 1024; }
http {
    include {{.Conf}}/http.conf;
    access_log {{.Dir}}/access.log relay;
    client_body_temp_path {{.Dir}}/body;
    proxy_temp_path {{.Dir}}/proxy;
    fastcgi_temp_path {{.Dir}}/fastcgi;
    uwsgi_temp_path {{.Dir}}/uwsgi;
    scgi_temp_path {{.Dir}}/scgi;
    upstream relay {
        include {{.Conf}}/upstream.conf;
        {{- range .Backends}}
        server {{.}} max_fails=0;
        {{- end}}
    }
    server {
        listen {{.Listen}};
        include {{.Conf}}/server.conf;
    }
}
`))

func render(path string, c config) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(fleet.Execute(f, c), f.Close())
}
