package node

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"parley/deploy/nginxtest"
	"parley/pkg/relaytest"
)

const clientDir = "../../client-js"

// runInChromium runs one of the client's end-to-end tests, with page A at one address
// and page B at another. When the test wants it, kill is called with the name of page
// A's node, if the page knows it.
func runInChromium(t *testing.T, script, addrA, addrB string, kill func(node string)) {
	t.Helper()
	if _, err := os.Stat(clientDir + "/node_modules/playwright-core"); err != nil {
		t.Fatal("client-js has not been set up: run make setup (npm ci in client-js)")
	}
	args := []string{clientDir + "/e2e/" + script, "--url", "http://" + addrA, "--url2", "http://" + addrB}
	if dir := os.Getenv("PARLEY_SHOTS"); dir != "" {
		args = append(args, "--shots", dir)
	}
	cmd := exec.CommandContext(t.Context(), "node", args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("node: %v (apt-get install nodejs)", err)
	}
	limit := time.AfterFunc(4*time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	of := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		t.Log(lines.Text())
		if name, found := strings.CutPrefix(lines.Text(), "PAGE-A-NODE "); found {
			of = name
		}
		if lines.Text() == "READY-FOR-KILL" {
			kill(of)
			if _, err := io.WriteString(stdin, "KILLED\n"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
}

// Direct messages of the sample app in Chromium: two pages talk through two nodes, and
// the one whose node dies comes back on the other.
func TestSampleApp(t *testing.T) {
	redis := relaytest.StartRedis(t)
	a := startNode(t, "--redis-url="+redis.URL(), "--rate=50", "--node-name=node-a")
	b := startNode(t, "--redis-url="+redis.URL(), "--rate=50", "--node-name=node-b")
	ready(t, a, b)
	// Page A comes through nginx, which has node a first, and node b when that
	// one has died; page B is on node b.
	balancer := nginxtest.Start(t, a.addr, b.addr+" backup")
	runInChromium(t, "app.e2e.mjs", balancer, b.addr, func(node string) {
		if node == "node-b" {
			b.kill()
		} else {
			a.kill()
		}
	})
}

// Rooms of the sample app in Chromium, on two nodes that are reached in the same way.
func TestSampleAppRooms(t *testing.T) {
	nodes := chatFleet(t, 2)
	a, b := nodes[0], nodes[1]
	balancer := nginxtest.Start(t, a.addr, b.addr+" backup")
	runInChromium(t, "rooms.e2e.mjs", balancer, b.addr, func(string) { a.kill() })
}

// What a node serves to browsers is complete, and only that.
func TestAppFiles(t *testing.T) {
	n := startNode(t)
	get := func(path string) *http.Response {
		t.Helper()
		r, err := http.Get("http://" + n.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r
	}
	for path, contentType := range map[string]string{"/": "text/html", "/parley.js": "text/javascript", "/chat.js": "text/javascript", "/app.js": "text/javascript",
		"/style.css": "text/css", "/favicon.svg": "image/svg+xml"} {
		r := get(path)
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("Content-Type"), contentType) {
			t.Errorf("%s: %s, %s", path, r.Status, r.Header.Get("Content-Type"))
		}
		if !strings.Contains(r.Header.Get("Content-Security-Policy"), "script-src 'self'") {
			t.Errorf("%s has no content security policy", path)
		}
	}
	for _, path := range []string{"/package.json", "/embed.go", "/metrics", "/debug/pprof/", "/readyz", "/../README.md", "/v1/other"} {
		if r := get(path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, want 404", path, r.Status)
		}
	}
	if r := get("/v1/texto"); r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain GET of the endpoint: %s, want 426", r.Status)
	}
}
