package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/cmd/parley-bench/internal/drill"
	"parley/cmd/parley-bench/internal/pulltest"
)

func quickPolls(s *pulltest.Server, more ...string) []string {
	return append([]string{"poll", "--target", s.URL, "--metrics", s.URL, "--polls", "10", "--hold", "50ms", "--warmup", "20ms", "--pollers", "3", "--rate", "100",
		"--duration", "200ms", "--messages", "100", "--senders", "2", "--receivers", "2"}, more...)
}

func TestPollTableAndExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		fate pulltest.Fate
		more []string
		code int
		want []string
	}{
		"well": {pulltest.Deliver, nil, exitOK, []string{"park: 10 polls of 1 users held", "1.0 KB a poll", "poll answered", "sent late by",
			"Every message was pulled once and in order, and every notification came once."}},
		"one part": {pulltest.Deliver, []string{"--parts", "latency"}, exitOK, []string{"latency: 3 pollers, 100 messages/s, 128 bytes"}},
		"twice": {pulltest.Duplicate, []string{"--parts", "ledger"}, exitFailed, []string{"\nFAILED: ledger: ", "messages pulled more than once",
			"duplicated: sender 1 -> receiver"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := pulltest.Start(func(n int) pulltest.Fate { return pulltest.Fate(int(c.fate) * (n % 2)) })
			t.Cleanup(s.Close)
			code, out, errs := bench(t.Context(), quickPolls(s, c.more...)...)
			if code != c.code || errs != "" {
				t.Errorf("exit code %d, want %d; standard error %q\n%s", code, c.code, errs, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

func TestPollJSON(t *testing.T) {
	s := pulltest.Start(nil)
	t.Cleanup(s.Close)
	ledgerFile := filepath.Join(t.TempDir(), "ledger.jsonl")
	code, out, errs := bench(t.Context(), quickPolls(s, "--json", "--ledger", ledgerFile, "--progress")...)
	var got struct {
		Scenario string
		OK       bool
		Result   struct {
			Park    struct{ Polls int }
			Latency struct {
				Notified uint64
				Latency  map[string]float64
			}
			Ledger struct {
				Messages      struct{ Delivered uint64 }
				Notifications struct{ Came uint64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := got.Result
	if code != exitOK || !got.OK || got.Scenario != "poll" || r.Park.Polls != 10 || r.Latency.Notified == 0 || r.Latency.Latency["p50_us"] <= 0 ||
		r.Ledger.Messages.Delivered != 100 || r.Ledger.Notifications.Came != 100 {
		t.Errorf("exit code %d: %s", code, out)
	}
	if !strings.Contains(errs, "signing up") {
		t.Errorf("progress %q", errs)
	}
	if b, err := os.ReadFile(ledgerFile); err != nil || !strings.HasPrefix(string(b), `{"sent":100,`) {
		t.Errorf("ledger %.80q, %v", b, err)
	}
}

func TestPollSettings(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"--parts", "sleep", "--rate", "0", "--hold", "2m", "--window", "1000", "--server-pids", "1"},
			[]string{`"sleep" is none of`, "--parts names none", "--hold and --warmup are more", "--window 1000", "--server-pids is for a fleet"}},
		{[]string{"--parts", "latency", "--rate", "0"}, []string{"--rate has to be more than 0"}},
		{[]string{"--target", "http://127.0.0.1:1", "--nodes", "2", "--parley", "x", "--database", "sqlite:secret"},
			[]string{"--nodes has no meaning", "--parley has no meaning", "--database has no meaning"}},
	} {
		code, _, errs := bench(t.Context(), append([]string{"poll"}, c.args...)...)
		if code != exitUsage {
			t.Errorf("%q: exit code %d", c.args, code)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%q: no %q in %s", c.args, want, errs)
			}
		}
	}
	code, _, errs := bench(t.Context(), "poll", "--parley", filepath.Join(t.TempDir(), "none"), "--json")
	if code != exitFailed || !strings.Contains(errs, "--parley: ") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// A fleet of its own, with real nodes and a real Redis.
func TestPollWithRealPrograms(t *testing.T) {
	code, out, errs := bench(t.Context(), "poll", "--parley", built(t), "--nodes", "2", "--polls", "50", "--hold", "100ms", "--warmup", "100ms", "--pollers", "5",
		"--rate", "50", "--duration", "1s", "--messages", "200", "--json")
	var got struct {
		Result struct {
			Park struct {
				Polls  int
				Users  int
				Memory *float64 `json:"server_bytes_per_poll"`
				Redis  *int     `json:"redis_connections"`
			}
			Ledger struct {
				Nodes    int
				Messages struct{ Delivered uint64 }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if p, l := got.Result.Park, got.Result.Ledger; code != exitOK || p.Polls != 50 || p.Users != 50 || p.Memory == nil || p.Redis == nil || l.Nodes != 2 || l.Messages.Delivered != 200 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

func TestPollKillWithRealPrograms(t *testing.T) {
	t.Parallel()
	code, out, errs := bench(t.Context(), "drill", "poll-kill", "--rounds", "1", "--json", "--seed", "5", "--parley", built(t))
	var r drill.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	if m := r.Messages; code != exitOK || !r.OK || r.Rounds != 1 || m.Delivered == 0 || m.Lost != 0 || r.AllBack == nil || len(r.Findings) != 0 || len(r.Checks) < 10 {
		t.Errorf("exit code %d: %s", code, out)
	}
}
