package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/cmd/parley-bench/internal/chattest"
	"parley/cmd/parley-bench/internal/ledger"
)

func startChat(t *testing.T, fate func(int) chattest.Fate) *chattest.Server {
	s := chattest.Start(fate)
	t.Cleanup(s.Close)
	return s
}

func quickFanout(s *chattest.Server, more ...string) []string {
	return append([]string{"fanout", "--addr", s.URL, "--subscribers", "3", "--warmup", "20ms", "--duration", "100ms", "--concurrency", "1"}, more...)
}

func TestFanoutTableAndExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		fate func(int) chattest.Fate
		more []string
		code int
		want []string
	}{
		"well": {nil, nil, exitOK, []string{"Everybody got every message once, and in one order.", "latency   ", "room beast, 3 subscribers, publishers: 1 with 8 messages"}},
		"paced": {nil, []string{"--rate", "500", "--publishers", "2"}, exitOK,
			[]string{"Everybody got every message once", "sent late by", "publishers: 2, 500 messages/s, 128 bytes"}},
		"lost": {func(n int) chattest.Fate { return chattest.Fate(int(chattest.Drop) * (n % 2)) }, []string{"--drain", "100ms"},
			exitFailed, []string{"\nFAILED: ", " deliveries lost", "lost though acknowledged: publisher 1 -> subscriber 3, message", "note: not everybody had all messages"}},
		"refused": {func(n int) chattest.Fate { return chattest.Fate(int(chattest.Refuse) * (n % 2)) },
			nil, exitOK, []string{"with RATE_LIMITED", "Everybody got every message once"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := bench(t.Context(), quickFanout(startChat(t, c.fate), c.more...)...)
			if code != c.code || errs != "" {
				t.Errorf("exit code %d, want %d; standard error %q", code, c.code, errs)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

func TestFanoutJSON(t *testing.T) {
	ledgerFile := filepath.Join(t.TempDir(), "ledger.jsonl")
	s := startChat(t, func(n int) chattest.Fate { return chattest.Fate(int(chattest.Duplicate) * (n % 2)) })
	code, stdout, errs := bench(t.Context(), quickFanout(s, "--json", "--ledger", ledgerFile)...)
	if code != exitFailed || !strings.HasPrefix(errs, "FAILED: ") {
		t.Errorf("exit code %d, standard error %q", code, errs)
	}
	var got struct {
		Scenario string
		Result   struct {
			Messages ledger.RoomTotals
			Cost     map[string]float64 `json:"cost_per_delivery"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	m := got.Result.Messages
	if got.Scenario != "fanout" || m.Duplicates != s.Count(chattest.Duplicate) || m.Delivered != 4*m.Sent || got.Result.Cost["own_cpu_us"] <= 0 {
		t.Errorf("%+v", got)
	}
	f, err := os.Open(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var totals ledger.RoomTotals
	var duplicated uint64
	all := bufio.NewScanner(f)
	for first := true; all.Scan(); first = false {
		var finding ledger.Finding
		target := any(&finding)
		if first {
			target = &totals
		}
		if err := json.Unmarshal(all.Bytes(), target); err != nil {
			t.Fatalf("%s: %v", all.Text(), err)
		}
		if finding.Kind == ledger.Duplicated {
			duplicated += finding.Messages()
		}
	}
	if duplicated == 0 || duplicated != m.Duplicates || totals.Sent != m.Sent {
		t.Errorf("the ledger file names %d duplicated of %+v, the report %d", duplicated, totals, m.Duplicates)
	}
}

func TestFanoutSettings(t *testing.T) {
	code, _, errs := bench(t.Context(), "fanout", "--rate", "5", "--window", "2", "--publishers", "0", "--size", "10", "--addr", "")
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"--rate and --window", "--publishers 0", "--size 10", "--addr names no server"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
}
