package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/wsclient"
	"parley/pkg/relaytest"
)

func TestEveryDrillSaysWhatItDoesAndWhenItPasses(t *testing.T) {
	names := map[string]bool{}
	for _, d := range All {
		if d.Name == "" || d.Summary == "" || d.Passes == "" || d.play == nil || names[d.Name] {
			t.Errorf("drill %q: %+v", d.Name, d)
		}
		names[d.Name] = true
		if Find(d.Name) != d {
			t.Errorf("%s is not found by its name", d.Name)
		}
		if d.rounds == 0 && d.duration == 0 {
			t.Errorf("%s has neither rounds nor a duration", d.Name)
		}
		if quick := d.defaults(Options{Quick: true}); quick.Rounds > d.defaults(Options{}).Rounds || quick.Duration > d.defaults(Options{}).Duration {
			t.Errorf("%s takes longer when it is quick", d.Name)
		}
	}
	if len(All) != 18 || Find("none") != nil {
		t.Errorf("%d drills", len(All))
	}
}

func TestOptionsCountBeforeDefaults(t *testing.T) {
	d := &Drill{rounds: 20, quickRounds: 2, duration: time.Minute, quickDuration: time.Second, clients: 9}
	for name, c := range map[string]struct{ in, want Options }{
		"nothing":    {Options{}, Options{Rounds: 20, Duration: time.Minute, Nodes: 3, Clients: 9, Rate: 500}},
		"quick":      {Options{Quick: true}, Options{Quick: true, Rounds: 2, Duration: time.Second, Nodes: 3, Clients: 9, Rate: 500}},
		"everything": {Options{Quick: true, Rounds: 7, Duration: 8, Nodes: 5, Clients: 6, Rate: 4}, Options{Quick: true, Rounds: 7, Duration: 8, Nodes: 5, Clients: 6, Rate: 4}},
	} {
		if got := d.defaults(c.in); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return &stage{report: &Report{}, drill: &Drill{Name: "test"}, ledger: ledger.New(), dir: t.TempDir()}
}

func TestClosesThatComeAtOnceAreNotSpread(t *testing.T) {
	n := &node{name: "n1"}
	from := time.Now()
	ends := func(code int, each ...int) (ends []crowd.End) { // so many in each tenth of ten seconds
		for part, count := range each {
			for range count {
				ends = append(ends, crowd.End{At: from.Add(time.Duration(part)*time.Second + time.Millisecond), Node: "n1", Code: code})
			}
		}
		return ends
	}
	for name, c := range map[string]struct {
		ends []crowd.End
		ok   bool
	}{
		"even":                  {ends(1012, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2), true},
		"three tenths in one":   {ends(1012, 6, 2, 2, 2, 2, 2, 2, 2, 0, 0), true},
		"more than that":        {ends(1012, 7, 2, 2, 2, 2, 2, 2, 1, 0, 0), false},
		"too few to judge":      {ends(1012, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2), false},
		"another code":          {ends(1001, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2), false},
		"late ones":             {ends(1012, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 8), false},
		"of another node":       {append(ends(1012, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2), crowd.End{At: from, Node: "n2", Code: 1}), true},
		"before the window too": {append(ends(1012, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2), crowd.End{At: from.Add(-time.Second), Node: "n1", Code: 1012}), true},
	} {
		s := newStage(t)
		s.checkSpread(c.ends, n, from, 10*time.Second)
		if ok := len(s.report.Failures) == 0; ok != c.ok {
			t.Errorf("%s: %v", name, s.report.Failures)
		}
	}
}

func TestChecksAtTheirEdges(t *testing.T) {
	r := &Report{}
	r.within("a", time.Second, time.Second)
	r.ratio("b", time.Second, 3*time.Second, 3)
	r.none("c", 0)
	r.tell("d", "x")
	if len(r.Failures) != 0 || len(r.Checks) != 4 {
		t.Errorf("%+v", r)
	}
	r.within("a", time.Second+1, time.Second)
	r.ratio("b", time.Second, 3*time.Second+1, 3)
	r.ratio("nothing was measured before", 0, 0, 3)
	r.none("c", 1)
	if len(r.Failures) != 4 {
		t.Errorf("%q", r.Failures)
	}
}

func TestTimes(t *testing.T) {
	if timesOf(nil) != nil || timesIn(new(hist.Histogram)) != nil {
		t.Error("times of nothing")
	}
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	if got := *timesOf(all); got != (Times{Count: 100, P50: 51, P99: 100, Max: 100}) {
		t.Errorf("%+v", got)
	}
	var p phases
	for _, d := range []time.Duration{9 * time.Second, time.Second, 2 * time.Second} {
		p.begin().Record(d)
	}
	if got := p.quantile(0.99); got != time.Second {
		t.Errorf("the least of three phases: %v", got)
	}
	if got := p.each(0.99); got != "9s, 1s, 2s" {
		t.Errorf("three phases: %s", got)
	}
	if got := phases(nil).quantile(0.5); got != 0 {
		t.Errorf("of no phase: %v", got)
	}
}

func TestMetricsAreSummedByLabel(t *testing.T) {
	m := metrics{`a{x="1",y="2"}`: 3, `a{x="2"}`: 4, "a_b": 5, "c": 6}
	for _, c := range []struct {
		got, want float64
	}{
		{m.sum("a"), 7}, {m.sum("a", `x="1"`), 3}, {m.sum("a", `x="1"`, `y="3"`), 0}, {m.sum("c"), 6}, {m.sum("none"), 0},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

func TestProcessesEndAndTellHow(t *testing.T) {
	dir := t.TempDir()
	p, err := startProcess(dir, "shell", "sh", []string{"-c", "echo $WORD; exit 3"}, []string{"WORD=hello"})
	if err != nil {
		t.Fatal(err)
	}
	if !p.waitFor(relaytest.Patience) || p.code != 3 || p.running() || p.at.IsZero() {
		t.Errorf("ended with %d, running %v", p.code, p.running())
	}
	if log, err := os.ReadFile(filepath.Join(dir, "shell.log")); err != nil || string(log) != "hello\n" {
		t.Errorf("log %q, %v", log, err)
	}
	p.kill() // once more does nothing
	if p, err = startProcess(dir, "sleep", "sleep", []string{"1000"}, nil); err != nil {
		t.Fatal(err)
	}
	if p.waitFor(10 * time.Millisecond) {
		t.Error("ended by itself")
	}
	p.kill()
	if p.running() || p.code != -1 {
		t.Errorf("after a kill: running %v, code %d", p.running(), p.code)
	}
	if err := syscall.Kill(p.os.Pid, 0); err == nil {
		t.Error("it is there still")
	}
	if _, err := startProcess(dir, "none", filepath.Join(dir, "none"), nil, nil); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestANodeThatDoesNotStartSaysWhy(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "node")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho the setting is wrong >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := startFleet(t.Context(), dir, program, "redis://x", 2, nil, nil); err == nil || !strings.Contains(err.Error(), "the setting is wrong") {
		t.Errorf("%v", err)
	}
}

func TestTheBalancersConfigurationIsTheFleets(t *testing.T) {
	dir := t.TempDir()
	file, err := writeConf(dir, "127.0.0.1:1", "127.0.0.1:2", []string{"127.0.0.1:3", "127.0.0.1:4"})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"listen 127.0.0.1:1 ", "server 127.0.0.1:3 max_fails=0;", "server 127.0.0.1:4 max_fails=0;", "daemon off;"} {
		if !strings.Contains(string(conf), want) {
			t.Errorf("no %q in\n%s", want, conf)
		}
	}
	if _, err := adapt([]byte("http { }"), dir, "", "", nil); err == nil {
		t.Error("a configuration without the lines that are to be changed was taken")
	}
}

func TestATargetIsRefusedWhereItMakesNoSense(t *testing.T) {
	for _, d := range All {
		if d.Target {
			continue
		}
		r := d.Play(t.Context(), Options{Targets: []wsclient.Target{{Addr: "127.0.0.1:1"}}})
		if r.OK || len(r.Failures) != 1 || !strings.Contains(r.Failures[0], "without --target") {
			t.Errorf("%s: %q", d.Name, r.Failures)
		}
		_ = os.RemoveAll(r.Logs)
	}
}

func TestTooFewNodesAreRefused(t *testing.T) {
	for _, d := range []*Drill{nodeKill, nodeDrain, rolling, herd} {
		r := d.Play(t.Context(), Options{Nodes: 1})
		if r.OK || len(r.Failures) != 1 || !strings.Contains(r.Failures[0], "needs 2 nodes at least, for clients to go to: --nodes 2") {
			t.Errorf("%s: %q", d.Name, r.Failures)
		}
		_ = os.RemoveAll(r.Logs)
	}
}

func TestAFailingCommandIsShown(t *testing.T) {
	s := newStage(t)
	s.opt.KillCmd, s.opt.HealCmd = "echo this is why; exit 4", ""
	if err := s.killOther(t.Context()); err == nil || !strings.Contains(err.Error(), "--kill-cmd: exit status 4: this is why") {
		t.Errorf("%v", err)
	}
	if err := s.healOther(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClosersRunTheLastFirst(t *testing.T) {
	s := newStage(t)
	var order []int
	for i := range 3 {
		s.later(func() { order = append(order, i) })
	}
	s.endAll()
	s.endAll()
	if !slices.Equal(order, []int{2, 1, 0}) {
		t.Errorf("%v", order)
	}
}

func TestAnInterruptedDrillEndsWhatItStarted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var p *process
	d := &Drill{Name: "interrupted", rounds: 1, play: func(ctx context.Context, s *stage) (err error) {
		if p, err = startProcess(s.dir, "sleep", "sleep", []string{"1000"}, nil); err != nil {
			return err
		}
		s.later(p.kill)
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}
	r := d.Play(ctx, Options{})
	if !r.Interrupted || r.OK || p == nil || p.running() {
		t.Errorf("interrupted %v, ok %v", r.Interrupted, r.OK)
	}
	if _, err := os.Stat(r.Logs); err != nil {
		t.Errorf("logs: %v", err)
	}
	_ = os.RemoveAll(r.Logs)
}
