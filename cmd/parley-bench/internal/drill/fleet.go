package drill

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// fleet is nodes on loopback over one Redis, as child processes.
type fleet struct {
	dir      string // for logs
	program  string // the node's
	args     []string
	env      []string
	nodes    []*node
	balancer *balancer // nil: none
}

// node is one node. It keeps its addresses over a restart.
type node struct {
	fleet          *fleet
	name           string
	addr, internal string
	redis          string // its URL
	process        *process
}

// startPatience is how long a node may take until it is ready.
const startPatience = 20 * time.Second

// startFleet starts n nodes and returns when all are ready. On an error those
// that run are ended.
func startFleet(ctx context.Context, dir, program, redisURL string, n int, args, env []string) (*fleet, error) {
	return startFleetOn(ctx, dir, program, slices.Repeat([]string{redisURL}, n), args, env)
}

// startFleetOn is startFleet for nodes that reach their Redis each by a URL of its own.
func startFleetOn(ctx context.Context, dir, program string, redisURLs []string, args, env []string) (*fleet, error) {
	var secret [16]byte
	_, _ = rand.Read(secret[:])
	f := &fleet{dir: dir, program: program, args: args, env: append([]string{
		// By the environment, as the URL of Redis: it is in no list of processes, and a
		// node of an older version, which does not know all of them, starts all the same.
		"PARLEY_FLEET_SECRET=" + hex.EncodeToString(secret[:]),
	}, env...)}
	for i, url := range redisURLs {
		n := &node{fleet: f, name: fmt.Sprintf("node-%d", i+1), redis: url}
		f.nodes = append(f.nodes, n)
		var err error
		for range portAttempts {
			if n.addr, err = nodeAddr(); err != nil {
				break
			}
			if n.internal, err = nodeAddr(); err != nil {
				break
			}
			if err = n.start(ctx); !errors.Is(err, errPortTaken) {
				break
			}
		}
		if err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

// close ends all that runs.
func (f *fleet) close() {
	if f.balancer != nil {
		f.balancer.close()
	}
	for _, n := range f.nodes {
		if n.process != nil {
			n.process.kill()
		}
	}
}

// targets are the addresses that clients connect to.
func (f *fleet) targets() (targets []wsclient.Target) {
	addrs := make([]string, 0, len(f.nodes))
	for _, n := range f.nodes {
		addrs = append(addrs, n.addr)
	}
	if f.balancer != nil {
		addrs = []string{f.balancer.addr}
	}
	for _, addr := range addrs {
		targets = append(targets, wsclient.Target{Addr: addr, Host: addr, Path: texto.Path})
	}
	return targets
}

// addrs are the nodes' own addresses.
func (f *fleet) addrs() (addrs []string) {
	for _, n := range f.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// start starts the node, which does not run, and returns when it is ready.
func (n *node) start(ctx context.Context) error {
	args := append([]string{"--listen", n.addr, "--internal-addr", n.internal, "--node-name", n.name}, n.fleet.args...)
	var err error
	if n.process, err = startProcess(n.fleet.dir, n.name, n.fleet.program, args, append(n.fleet.env[:len(n.fleet.env):len(n.fleet.env)], "PARLEY_REDIS_URL="+n.redis)); err != nil {
		return err
	}
	deadline := time.Now().Add(startPatience)
	for {
		if !n.process.running() {
			log, _ := os.ReadFile(n.process.logFile)
			n.process = nil
			if strings.Contains(string(log), "address already in use") {
				return fmt.Errorf("%s: %w", n.name, errPortTaken)
			}
			return fmt.Errorf("%s ended at once: %s", n.name, lastLines(string(log), 5))
		}
		if n.ready(ctx) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s was not ready within %v; its log is %s", n.name, startPatience, n.process.logFile)
		}
		sleep(ctx, 10*time.Millisecond)
	}
}

// ready asks the node whether it is ready.
func (n *node) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.internal+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

// terminate asks the node to drain.
func (n *node) terminate() { n.process.signal(syscall.SIGTERM) }

// lastLines returns the end of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// Nodes listen below the ports that the system gives to outgoing connections:
// else one of those could take a node's port while it is down.
const firstNodePort, lastNodePort = 20000, 32000

// nodeAddr is an address on loopback that nobody listens on just now.
func nodeAddr() (string, error) {
	var err error
	for range 100 {
		port := firstNodePort + mathrand.IntN(lastNodePort-firstNodePort)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr, nil
		}
	}
	return "", fmt.Errorf("no free port for a node: %w", err)
}
