package drill

import (
	"context"
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
	"time"

	"parley/nginx"
)

// errNoNginx says what a drill lacks that needs a balancer.
var errNoNginx = errors.New("no nginx on this machine: install it (apt-get install nginx) or put it on the PATH")

// balancer is an nginx with the fleet's own configuration, on loopback.
type balancer struct {
	process *process
	addr    string
}

// errPortTaken means that another program was given a port in the meantime.
var errPortTaken = errors.New("the port was taken by another program")

// startBalancer runs nginx in front of nodes and returns when it takes
// connections.
func startBalancer(ctx context.Context, dir string, nodes []string) (*balancer, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, errNoNginx
		}
	}
	for range portAttempts {
		var b *balancer
		if b, err = tryBalancer(ctx, program, filepath.Join(dir, "nginx"), nodes); !errors.Is(err, errPortTaken) {
			return b, err
		}
	}
	return nil, err
}

// portAttempts is how often a free port is asked for anew when another program
// was quicker to take it.
const portAttempts = 5

func tryBalancer(ctx context.Context, program, dir string, nodes []string) (*balancer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	status, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf, err := writeConf(dir, addr, status, nodes)
	if err != nil {
		return nil, err
	}
	errorLog := filepath.Join(dir, "error.log")
	_ = os.Remove(errorLog) // of an attempt before, if any
	b := &balancer{addr: addr}
	if b.process, err = startMortal(syscall.SIGTERM, dir, "nginx", program, []string{"-p", dir, "-c", conf, "-e", errorLog}, nil); err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-b.process.exited:
			complaints, _ := os.ReadFile(errorLog)
			if strings.Contains(string(complaints), "Address already in use") {
				return nil, errPortTaken
			}
			return nil, fmt.Errorf("nginx ended at once: %s", complaints)
		case <-ctx.Done():
			b.close()
			return nil, ctx.Err()
		case <-tick.C:
		}
		// The pid file is written after the sockets are bound.
		if _, err := os.Stat(filepath.Join(dir, "nginx.pid")); err == nil {
			return b, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			b.close()
			return nil, err
		}
	}
}

// nginxPatience is how long nginx may take to end its workers.
const nginxPatience = 5 * time.Second

// close ends nginx with its workers, which it would leave behind if it were
// killed.
func (b *balancer) close() {
	b.process.signal(syscall.SIGTERM)
	if !b.process.waitFor(nginxPatience) {
		b.process.kill()
	}
}

// writeConf writes the fleet's configuration into dir, changed where it speaks
// of the container that it is made for, and returns the main file.
func writeConf(dir, listen, status string, nodes []string) (string, error) {
	files, err := fs.Glob(nginx.Files, "*.conf")
	if err != nil {
		return "", err
	}
	const mainFile = "nginx.conf"
	for _, file := range files {
		text, err := fs.ReadFile(nginx.Files, file)
		if err != nil {
			return "", err
		}
		if file == mainFile {
			if text, err = adapt(text, dir, listen, status, nodes); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, mainFile), nil
}

// adapt replaces the lines of nginx.conf that hold in the container only. Each
// must be there once.
func adapt(conf []byte, dir, listen, status string, nodes []string) ([]byte, error) {
	global := "daemon off;"
	if os.Geteuid() == 0 {
		global += " user root root;" // the directory is open to its own user only
	}
	var temporary, servers strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	for _, node := range nodes {
		fmt.Fprintf(&servers, "server %s$1;\n", node)
	}
	for _, change := range []struct{ line, by string }{
		{`worker_processes auto;`, "worker_processes 2; " + global},
		{`worker_connections \d+;`, "worker_connections 8192;"},
		{`worker_rlimit_nofile \d+;`, ""},
		{`error_log /dev/stderr`, "error_log " + dir + "/error.log"},
		{`pid /run/nginx\.pid;`, "pid " + dir + "/nginx.pid;"},
		{`include http\.conf;`, "include http.conf;\n" + temporary.String()},
		{`access_log /dev/stdout`, "access_log " + dir + "/access.log"},
		// The nodes are listed here, and not looked up by name.
		{`resolver [^;]*;`, ""},
		{`resolver_timeout [^;]*;`, ""},
		{`server relay:8080 resolve( [^;]*)?;`, servers.String()},
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

// freeAddr is an address on loopback that nobody listens on just now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
