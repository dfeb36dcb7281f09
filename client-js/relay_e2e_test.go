package clientjs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"parley/deploy/nginxtest"
	"parley/pkg/relaytest"
)

// How long a script may take for the whole test, and a node to listen.
const (
	scriptTimeout = 5 * time.Minute
	listenTimeout = 30 * time.Second
)

// relayNode is a node in a process of its own.
type relayNode struct {
	cmd  *exec.Cmd
	addr string
	done chan struct{} // closed when the process has ended and its log is read

	mu  sync.Mutex
	log bytes.Buffer
}

// buildNode builds the program, with the app as it is now.
func buildNode(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "parley")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/parley")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// startProcess runs a node until the test ends, and returns when it listens.
func startProcess(t *testing.T, program, name, redis string, more ...string) *relayNode {
	t.Helper()
	n := &relayNode{done: make(chan struct{})}
	n.cmd = exec.Command(program, append([]string{"--listen=127.0.0.1:0", "--internal-addr=off", "--node-name=" + name, "--redis-url=" + redis}, more...)...)
	stderr, err := n.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go n.read(stderr, listening)
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("node %s:\n%s", name, n.log.String())
		}
	})
	select {
	case n.addr = <-listening:
	case <-n.done:
		t.Fatalf("node %s has ended at once", name)
	case <-time.After(listenTimeout):
		t.Fatalf("node %s does not listen", name)
	}
	return n
}

var listens = regexp.MustCompile(`msg="node started".* listen=(\S+)`)

// read keeps the log until it ends, and sends the address that it names once.
func (n *relayNode) read(log io.Reader, listening chan<- string) {
	defer close(n.done)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		n.mu.Lock()
		fmt.Fprintln(&n.log, lines.Text())
		n.mu.Unlock()
		if match := listens.FindStringSubmatch(lines.Text()); match != nil {
			listening <- match[1]
		}
	}
}

// kill ends the process by SIGKILL, and returns when it is gone. It may be called
// again.
func (n *relayNode) kill() {
	_ = n.cmd.Process.Kill() // it may have ended
	<-n.done
	_ = n.cmd.Wait() // it was killed
}

// drain has the process end by itself, by SIGTERM, and returns when it has.
func (n *relayNode) drain(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	<-n.done
}

// ready waits until a node takes clients.
func (n *relayNode) ready(t *testing.T) {
	t.Helper()
	relaytest.Eventually(t, "the node takes clients", func() bool {
		r, err := http.Get("http://" + n.addr + "/healthz")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// runScript runs one of the end-to-end tests, with the first page or client at one
// address and the others at another. What it prints on a line of its own has the
// function of that name called, and is told when that has returned.
func runScript(t *testing.T, script, addrA, addrB string, on map[string]func()) {
	t.Helper()
	if _, err := os.Stat("node_modules/playwright-core"); err != nil {
		t.Fatal("client-js has not been set up: run make setup (npm ci in client-js)")
	}
	args := []string{"e2e/" + script, "--url", "http://" + addrA, "--url2", "http://" + addrB}
	if dir := os.Getenv("PARLEY_SHOTS"); dir != "" {
		args = append(args, "--shots", dir)
	}
	node := exec.CommandContext(t.Context(), "node", args...)
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	node.Stderr = &stderr
	if err := node.Start(); err != nil {
		t.Fatalf("node: %v (apt-get install nodejs)", err)
	}
	limit := time.AfterFunc(scriptTimeout, func() { _ = node.Process.Kill() })
	defer limit.Stop()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		t.Log(lines.Text())
		if f := on[lines.Text()]; f != nil {
			f()
			if _, err := io.WriteString(stdin, "KILLED\n"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := node.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
}

// The board of the sample app in Chromium: three pages on two processes, behind nginx
// and on one Redis. The host's process is killed, and the others go on drawing.
func TestBoard(t *testing.T) {
	redis, program := relaytest.StartRedis(t), buildNode(t)
	a := startProcess(t, program, "node-a", redis.URL())
	b := startProcess(t, program, "node-b", redis.URL())
	a.ready(t)
	b.ready(t)
	// The first page comes through nginx, which has node a first, and node b when that
	// one has died; the others are on node b.
	balancer := nginxtest.Start(t, a.addr, b.addr+" backup")
	runScript(t, "board.e2e.mjs", balancer, b.addr, map[string]func(){"READY-FOR-KILL": a.kill})
}

// RoomClient on two processes: what it says and hears, a node that drains under it, and
// the end of its room.
func TestRoomClient(t *testing.T) {
	redis, program := relaytest.StartRedis(t), buildNode(t)
	drains := []string{"--drain-delay=100ms", "--drain-window=500ms"}
	a := startProcess(t, program, "node-a", redis.URL(), drains...)
	b := startProcess(t, program, "node-b", redis.URL(), drains...)
	a.ready(t)
	b.ready(t)
	balancer := nginxtest.Start(t, a.addr, b.addr+" backup")
	runScript(t, "relayroom.e2e.mjs", balancer, b.addr, map[string]func(){"READY-FOR-DRAIN": func() { a.drain(t) }})
}

// People and groups of the sample app in Chromium, on two processes, one Redis and one
// MariaDB. The first page comes through nginx: its node is killed while it polls, and the
// one that takes its place drains; it is told everything, once.
func TestPeople(t *testing.T) {
	redis, database, program := relaytest.StartRedis(t), relaytest.StartMariaDB(t), buildNode(t)
	args := []string{"--database-url=" + database.NewURL(t), "--rate=0", "--drain-delay=300ms", "--drain-window=500ms"}
	a := startProcess(t, program, "node-a", redis.URL(), args...)
	b := startProcess(t, program, "node-b", redis.URL(), args...)
	a.ready(t)
	b.ready(t)
	balancer := nginxtest.Start(t, a.addr, b.addr+" backup")
	replace := func() {
		a = startProcess(t, program, "node-a", redis.URL(), append(args, "--listen="+a.addr)...)
	}
	runScript(t, "people.e2e.mjs", balancer, b.addr, map[string]func(){
		"READY-FOR-KILL":  func() { a.kill(); replace() },
		"READY-FOR-DRAIN": func() { a.drain(t); replace() },
	})
}
