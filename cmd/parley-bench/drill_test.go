package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/drill"
	"parley/cmd/parley-bench/internal/textotest"
)

func TestDrillsAreListedAndExplained(t *testing.T) {
	code, out, errs := bench(t.Context(), "drill", "list")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, standard error %q", code, errs)
	}
	_, help, _ := bench(t.Context(), "drill", "--help")
	for _, d := range drill.All {
		if !strings.Contains(out, "\n  passes when: ") || !strings.Contains(out, d.Name+"\n") {
			t.Errorf("%s is not listed", d.Name)
		}
		if !strings.Contains(help, d.Name) {
			t.Errorf("%s is not in the help", d.Name)
		}
	}
	if _, overview, _ := bench(t.Context(), "help"); !strings.Contains(overview, drillSummary) {
		t.Error("the overview does not name the drills")
	}
}

func TestWrongDrillSettingsAreNamed(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{}, []string{"which drill?"}},
		{[]string{"--seed", "3"}, []string{"the drill's name comes before the settings"}},
		{[]string{"nothing"}, []string{`there is no drill "nothing"`}},
		{[]string{"node-kill", "--rounds", "x", "--nodes", "99"}, []string{"--rounds x", "--nodes 99"}},
		{[]string{"node-kill", "--kill-cmd", "true"}, []string{"--target says where it is"}},
		{[]string{"node-kill", "--target", "localhost:1"}, []string{"--target needs --kill-cmd"}},
		{[]string{"node-kill", "--target", "ftp://x", "--kill-cmd", "true"}, []string{"ftp"}},
		{[]string{"redis-flush", "--target", "localhost:1", "--kill-cmd", "true", "--nodes", "2"},
			[]string{"redis-flush needs a fleet of its own", "--nodes has no meaning"}},
	} {
		code, _, errs := bench(t.Context(), append([]string{"drill"}, c.args...)...)
		if code != exitUsage {
			t.Errorf("%q: exit code %d", c.args, code)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%q: no %q in %q", c.args, want, errs)
			}
		}
	}
	code, _, errs := bench(t.Context(), "drill", "node-kill", "--parley", filepath.Join(t.TempDir(), "none"))
	if code != exitFailed || !strings.Contains(errs, "--parley: ") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// built returns a node's program, built from this source tree.
func built(t *testing.T) string {
	t.Helper()
	program, done, err := findParley(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return program
}

func TestDrillsWithRealPrograms(t *testing.T) {
	program := built(t)
	for name, more := range map[string][]string{
		"node-kill":   {"--rounds", "1"},
		"redis-flush": {"--rounds", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledgerFile := filepath.Join(t.TempDir(), "ledger.jsonl")
			code, out, errs := bench(t.Context(), append([]string{"drill", name, "--quick", "--json", "--seed", "5",
				"--clients", "16", "--rate", "200", "--parley", program, "--ledger", ledgerFile}, more...)...)
			var r drill.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			if code != exitOK || !r.OK || len(r.Failures) != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if r.Drill != name || r.Rounds != 1 || r.Seed != 5 || !r.Quick || r.Messages.Delivered == 0 || r.Messages.Lost != 0 ||
				r.AllBack == nil || r.Logs != "" || len(r.Checks) < 6 {
				t.Errorf("%s", out)
			}
			if !strings.Contains(errs, name+", ") || !strings.Contains(errs, "round 1 of 1") {
				t.Errorf("progress %q", errs)
			}
			if b, err := os.ReadFile(ledgerFile); err != nil || !strings.HasPrefix(string(b), `{"sent":`) {
				t.Errorf("ledger %.80q, %v", b, err)
			}
		})
	}
}

func TestChatKillWithRealPrograms(t *testing.T) {
	t.Parallel()
	code, out, errs := bench(t.Context(), "drill", "chat-kill", "--rounds", "1", "--json", "--seed", "5", "--rate", "200", "--parley", built(t))
	var r drill.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	m := r.Messages
	if code != exitOK || !r.OK || r.Rounds != 1 || m.Delivered == 0 || m.Lost != 0 || m.Delivered < m.Acknowledged || len(r.Findings) != 0 ||
		r.Clients.Recovered == 0 || r.Reconnect == nil || len(r.Checks) < 15 {
		t.Errorf("exit code %d: %s", code, out)
	}
}

func TestADrillOfAFleetThatRunsBreaksWhatItIsTold(t *testing.T) {
	s := start(t, nil)
	s.Keep()
	signal := filepath.Join(t.TempDir(), "broken")
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { // the fleet's operator
		defer close(watched)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if _, err := os.Stat(signal); err == nil {
				s.HangUp()
				_ = os.Remove(signal)
			}
		}
	}()
	code, out, errs := bench(ctx, "drill", "node-kill", "--target", s.URL, "--rounds", "1", "--clients", "8", "--rate", "200",
		"--kill-cmd", "touch "+signal+"; while test -e "+signal+"; do sleep 0.01; done", "--heal-cmd", "test ! -e "+signal)
	cancel()
	<-watched
	if code != exitOK || !strings.Contains(out, "node-kill: PASS\n") || !strings.Contains(out, "8 recovered") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestALossFailsTheDrill(t *testing.T) {
	s := start(t, func(n int) textotest.Fate {
		if n == 20 {
			return textotest.Drop
		}
		return textotest.Deliver
	})
	s.Keep()
	code, out, _ := bench(t.Context(), "drill", "node-kill", "--target", s.URL, "--rounds", "1", "--clients", "8", "--rate", "200", "--kill-cmd", "true")
	if code != exitFailed || !strings.Contains(out, "node-kill: FAIL") || !strings.Contains(out, "lost silently: 1, want 0") ||
		!strings.Contains(out, "the fault hit nobody") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestTheTableOfManyDrills(t *testing.T) {
	got := drillTable([]*drill.Report{{Drill: "one", OK: true, Back: &drill.Times{P50: 1, Max: 2000}}, {Drill: "two"}, {Drill: "three", Interrupted: true}})
	for _, want := range []string{"one ", "2s", "PASS\n", "FAIL\n", "INTERRUPTED\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
