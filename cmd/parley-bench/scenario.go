package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/wsclient"
)

// scenario turns settings into a run. The problems are of settings that are
// wrong only in company of others.
type scenario interface {
	prepare(progress func(string)) (r runner, problems []string)
}

// runner is a run that is ready to start. It blocks until the end, of the run
// or of ctx; an error means that nothing was measured.
type runner interface {
	run(ctx context.Context) (result, error)
}

// result is what a scenario measured.
type result interface {
	Failures() []string // in words; none when all is well
	table(*table)
}

// defaultAddr is where a node listens by default.
const defaultAddr = "127.0.0.1:8398"

// fleetSettings declares what all scenarios need to know about the servers.
type fleetSettings struct {
	fleet     load.Fleet
	probe     probe.Probe
	sourceIPs int
	insecure  bool
}

// declareFleet declares them; path is where the servers speak the protocol.
func declareFleet(s *settings, path string, concurrency int) *fleetSettings {
	f := &fleetSettings{fleet: load.Fleet{Concurrency: concurrency, Timeout: 10 * time.Second}}
	add := func(address string) error {
		t, err := wsclient.ParseTarget(address, path)
		if err == nil {
			f.fleet.Targets = append(f.fleet.Targets, t)
		}
		return err
	}
	_ = add(defaultAddr)
	s.group("Servers")
	s.list("addr", "where the servers are, separated by commas: `host:port`, or ws, wss, http and https URLs; without a path in the URL it is "+path,
		func() { f.fleet.Targets = nil }, add, func() string { return joined(f.fleet.Targets) })
	s.duration(&f.fleet.Timeout, "timeout", time.Millisecond, "`how long` a connection may take, up to its greeting")
	s.number(&f.fleet.Concurrency, "concurrency", 1, 100000, "`connections` being opened at once")
	s.number(&f.sourceIPs, "source-ips", 0, 60000, "connect from `n` source addresses, 127.0.1.1 and up, since one has ports for some 28,000 connections to a server; servers on loopback only. 0: the system chooses")
	s.boolean(&f.insecure, "tls-insecure", "take any certificate (wss)")
	s.group("What the servers cost")
	pids(s, &f.probe.ServerPIDs, "server-pids", "`pids` of the server processes, separated by commas: their CPU time (user and system) and resident memory")
	pids(s, &f.probe.RedisPIDs, "redis-pids", "the same for `pids` of Redis")
	urls(s, &f.probe.Metrics, "metrics", "/metrics", "`URLs` of Prometheus pages, one a node, separated by commas: goroutines, and without --server-pids CPU time and memory")
	urls(s, &f.probe.Pprof, "pprof", "", "base `URLs` with /debug/pprof/, one a node, separated by commas: goroutines")
	return f
}

// check finishes the settings and returns what is wrong with them.
func (f *fleetSettings) check() (problems []string) {
	if len(f.fleet.Targets) == 0 {
		problems = append(problems, "--addr names no server")
	}
	if f.insecure {
		f.fleet.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	for i := range f.sourceIPs {
		f.fleet.Sources = append(f.fleet.Sources, net.IPv4(127, 0, byte(1+i/254), byte(1+i%254)))
	}
	for _, t := range f.fleet.Targets {
		if name, _, _ := net.SplitHostPort(t.Addr); f.sourceIPs > 0 && !loopback(name) {
			problems = append(problems, fmt.Sprintf("--source-ips: %s is not on loopback (127.0.0.0/8)", t.Addr))
		}
	}
	return problems
}

func loopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.To4() != nil && ip.IsLoopback()
}

func joined[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, ",")
}

func pids(s *settings, p *[]int, name, usage string) {
	s.list(name, usage, func() { *p = nil }, func(item string) error {
		pid, err := strconv.Atoi(item)
		if err != nil || pid < 1 {
			return fmt.Errorf("%q is no process id", item)
		}
		switch _, err := host.CPU(pid); {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("there is no process %d", pid)
		case err != nil:
			return err
		}
		*p = append(*p, pid)
		return nil
	}, func() string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(*p), " ", ","), "[]") })
}

func urls(s *settings, p *[]string, name, defaultPath, usage string) {
	s.list(name, usage, func() { *p = nil }, func(item string) error {
		if !strings.Contains(item, "://") {
			item = "http://" + item
		}
		u, err := url.Parse(item)
		if err != nil {
			return err
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is no http or https URL", item)
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = defaultPath
		}
		*p = append(*p, u.String())
		return nil
	}, func() string { return strings.Join(*p, ",") })
}
