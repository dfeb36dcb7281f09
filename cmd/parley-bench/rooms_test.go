package main

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/load"
	"parley/cmd/parley-bench/internal/roomstest"
)

func startRooms(t *testing.T, fate func(int) roomstest.Fate) *roomstest.Server {
	s := roomstest.Start(fate)
	t.Cleanup(s.Close)
	return s
}

func quickRooms(s *roomstest.Server, more ...string) []string {
	return append([]string{"rooms", "--addr", s.URL, "--rooms", "2", "--clients", "3", "--warmup", "20ms", "--duration", "100ms", "--concurrency", "1"}, more...)
}

func TestRoomsTableAndExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		fate func(int) roomstest.Fate
		more []string
		code int
		want []string
	}{
		"well": {nil, nil, exitOK, []string{"Everybody got every message of its host once, and in order.", "latency   ",
			"rooms: 2 of 3 clients each, with 8 messages"}},
		"paced": {nil, []string{"--rate", "500"}, exitOK, []string{"Everybody got every message", "sent late by", "clients each, 500 messages/s, 128 bytes"}},
		"lost": {func(n int) roomstest.Fate { return roomstest.Fate(int(roomstest.Drop) * (n % 2)) }, []string{"--drain", "100ms"},
			exitFailed, []string{"\nFAILED: ", " deliveries lost", "lost though acknowledged: host 1 -> room 1 client 3, message", "note: not everybody had all messages"}},
		"refused": {func(n int) roomstest.Fate { return roomstest.Fate(int(roomstest.Refuse) * (n % 2)) },
			nil, exitOK, []string{"with 429", "Everybody got every message"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := bench(t.Context(), quickRooms(startRooms(t, c.fate), c.more...)...)
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

func TestRoomsJSON(t *testing.T) {
	ledgerFile := filepath.Join(t.TempDir(), "ledger.jsonl")
	s := startRooms(t, func(n int) roomstest.Fate { return roomstest.Fate(int(roomstest.Duplicate) * (n % 2)) })
	s.Token = "open sesame"
	code, stdout, errs := bench(t.Context(), quickRooms(s, "--token", s.Token, "--json", "--ledger", ledgerFile)...)
	if code != exitFailed || !strings.HasPrefix(errs, "FAILED: ") {
		t.Errorf("exit code %d, standard error %q", code, errs)
	}
	var got struct {
		Scenario string
		Settings map[string]string
		Result   struct {
			Messages load.RelayTotals
			Cost     map[string]float64 `json:"cost_per_delivery"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	m := got.Result.Messages
	if got.Scenario != "rooms" || m.Duplicates != s.Count(roomstest.Duplicate) || m.Delivered != 2*m.Sent || got.Result.Cost["own_cpu_us"] <= 0 {
		t.Errorf("%+v", got)
	}
	if strings.Contains(stdout, s.Token) {
		t.Errorf("the token is in the report: %v", got.Settings["token"])
	}
	f, err := os.Open(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var totals load.RelayTotals
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

func TestRoomsSettings(t *testing.T) {
	code, _, errs := bench(t.Context(), "rooms", "--rate", "5", "--window", "2", "--rooms", "4097", "--clients", "1", "--size", "35", "--addr", "")
	if code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"--rate and --window", "--rooms 4097", "--clients 1", "--size 35", "--addr names no server"} {
		if !strings.Contains(errs, want) {
			t.Errorf("no %q in %s", want, errs)
		}
	}
}
