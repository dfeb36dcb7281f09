// Package deploy_test checks that the files which put a fleet together agree
// with each other and with the node, and runs the balancer's for real.
package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/pkg/node"
	"parley/pkg/protocol/rest"
)

// read returns a file of the repository.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// find returns what the only group of the pattern matched, of the only match.
func find(t *testing.T, text, pattern string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)`+pattern).FindAllStringSubmatch(text, -1)
	if len(all) != 1 {
		t.Fatalf("%q matches %d times, want once", pattern, len(all))
	}
	return all[0][1]
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// byDefault returns what a setting of the node is when nobody sets it.
func byDefault(t *testing.T, name string) time.Duration {
	t.Helper()
	for _, s := range node.Settings() {
		if s.Name == name {
			return duration(t, s.Default)
		}
	}
	t.Fatalf("the node has no setting --%s", name)
	return 0
}

// service returns the part of docker-compose.yml about one service.
func service(t *testing.T, name string) string {
	t.Helper()
	return find(t, read(t, "docker-compose.yml"), `^  `+name+`:\n((?:(?:    .*)?\n)+)`)
}

func TestComposeLetsANodeDrain(t *testing.T) {
	grace := duration(t, find(t, service(t, "relay"), `^    stop_grace_period: (\S+)$`))
	// Clients that do not answer the close are given some seconds more.
	if drain := byDefault(t, "drain-delay") + byDefault(t, "drain-window"); grace < drain+5*time.Second {
		t.Errorf("stop_grace_period is %v, a drain takes %v", grace, drain)
	}
}

func TestComposeLetsNginxStop(t *testing.T) {
	grace := duration(t, find(t, service(t, "nginx"), `^    stop_grace_period: (\S+)$`))
	stop := duration(t, find(t, read(t, "nginx", "nginx.conf"), `^worker_shutdown_timeout (\S+);$`))
	if grace <= stop {
		t.Errorf("stop_grace_period is %v, nginx closes what is open after %v", grace, stop)
	}
}

func TestNginxOutwaitsThePings(t *testing.T) {
	ping := byDefault(t, "ping-interval")
	conf := read(t, "nginx", "server.conf")
	for _, directive := range []string{"proxy_read_timeout", "proxy_send_timeout"} {
		if timeout := duration(t, find(t, conf, `^`+directive+` (\S+);$`)); timeout < 2*ping {
			t.Errorf("%s is %v: one ping that is late, of one each %v, ends a connection", directive, timeout, ping)
		}
	}
}

func TestNginxOutwaitsThePolls(t *testing.T) {
	conf := read(t, "nginx", "server.conf")
	if timeout := duration(t, find(t, conf, `(?s)location = /me \{\s*proxy_read_timeout (\S+);`)); timeout <= rest.MaxTimeout {
		t.Errorf("nginx gives up after %v, and a poll may wait for %v", timeout, rest.MaxTimeout)
	}
}

func TestNginxHasTwoFilesForEachClient(t *testing.T) {
	conf := read(t, "nginx", "nginx.conf")
	number := func(directive string) int {
		n, err := strconv.Atoi(find(t, conf, `^\s*`+directive+` (\d+);$`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if connections, files := number("worker_connections"), number("worker_rlimit_nofile"); files < connections {
		t.Errorf("%d files for %d connections", files, connections)
	}
}

func TestNodesBelieveNginxAlone(t *testing.T) {
	nginx := find(t, service(t, "nginx"), `^        ipv4_address: (\S+)$`)
	if trusted := find(t, service(t, "relay"), `^      PARLEY_TRUSTED_PROXIES: (\S+)$`); trusted != nginx+"/32" {
		t.Errorf("nodes trust %s, nginx is at %s", trusted, nginx)
	}
}

func TestNodesAreSetUpByWhatTheyKnow(t *testing.T) {
	known := []string{"PARLEY_CONFIG"}
	for _, s := range node.Settings() {
		known = append(known, s.Env...)
	}
	var used []string
	for _, m := range regexp.MustCompile(`(?m)^\s+([A-Z_]+): `).FindAllStringSubmatch(service(t, "relay"), -1) {
		used = append(used, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^ENV ([A-Z_]+)=`).FindAllStringSubmatch(read(t, "deploy", "Dockerfile"), -1) {
		used = append(used, m[1])
	}
	// Arguments of the build stand beside the environment.
	used = slices.DeleteFunc(used, func(s string) bool { return s == "GOPROXY" || s == "VERSION" })
	if len(used) < 4 {
		t.Fatalf("found %v only", used)
	}
	for _, name := range used {
		if !slices.Contains(known, name) {
			t.Errorf("%s is no setting of a node", name)
		}
	}
}

func TestComposeCanScale(t *testing.T) {
	if strings.Contains(read(t, "docker-compose.yml"), "container_name") {
		t.Error("a container_name can be given once only")
	}
	if relay := service(t, "relay"); strings.Contains(relay, "ports:") {
		t.Error("a port of the host can be given to one node only")
	}
}

func TestComposeIsReachedFromThisMachineOnly(t *testing.T) {
	var published []string
	for _, m := range regexp.MustCompile(`ports:\n((?:\s+- .*\n)+)`).FindAllStringSubmatch(read(t, "docker-compose.yml"), -1) {
		published = append(published, strings.Fields(strings.ReplaceAll(m[1], "- ", ""))...)
	}
	if want := []string{`"${PARLEY_BIND:-127.0.0.1}:${PARLEY_PORT:-8398}:80"`}; !slices.Equal(published, want) {
		t.Errorf("published are %v, want %v", published, want)
	}
}

func TestImageIsBuiltWithTheGoOfTheModule(t *testing.T) {
	module := find(t, read(t, "go.mod"), `^go (\d+\.\d+)`)
	if image := find(t, read(t, "deploy", "Dockerfile"), `^FROM golang:(\S+) AS build$`); image != module {
		t.Errorf("the image is built with Go %s, go.mod says %s", image, module)
	}
}

func TestMakefileListsItsTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for target := range strings.FieldsSeq(find(t, makefile, `^\.PHONY: (.*)$`)) {
		line := find(t, makefile, `^(`+target+`:.*)$`)
		if target != "test-programs" && !strings.Contains(line, "## ") {
			t.Errorf("make help says nothing of %s", target)
		}
	}
}
