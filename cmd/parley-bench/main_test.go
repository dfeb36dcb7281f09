package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/textotest"
)

// bench runs the command line and returns its exit code and output.
func bench(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, console{stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// quick are settings for a run of a fraction of a second against s.
func quick(s *textotest.Server, more ...string) []string {
	return append([]string{"direct", "--addr", s.URL, "--pairs", "3", "--warmup", "20ms", "--duration", "100ms"}, more...)
}

// start starts a server that lasts as long as the test.
func start(t *testing.T, fate func(int) textotest.Fate) *textotest.Server {
	s := textotest.Start(fate, nil)
	t.Cleanup(s.Close)
	return s
}

func dropTenth(n int) textotest.Fate {
	if n%10 == 9 {
		return textotest.Drop
	}
	return textotest.Deliver
}

func TestTableAndExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		fate func(int) textotest.Fate
		more []string
		code int
		want []string
	}{
		"well": {nil, nil, exitOK, []string{"Every acknowledged message arrived once and in order.", "latency   ", "3 pairs with 4 messages"}},
		"lost": {dropTenth, []string{"--drain", "100ms"}, exitFailed, []string{"\nFAILED: ", " acknowledged and lost", "lost though acknowledged: "}},
		"refused": {func(n int) textotest.Fate { return textotest.Fate(int(textotest.Refuse) * (n % 2)) },
			nil, exitOK, []string{"with ERATE", "Every acknowledged message"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := bench(t.Context(), quick(start(t, c.fate), c.more...)...)
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

func TestJSON(t *testing.T) {
	dir := t.TempDir()
	outFile, ledgerFile := filepath.Join(dir, "runs.jsonl"), filepath.Join(dir, "ledger.jsonl")
	if err := os.WriteFile(ledgerFile, []byte(strings.Repeat("an old and longer ledger\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dropTenth)
	var stdout string
	for range 2 {
		var code int
		var errs string
		code, stdout, errs = bench(t.Context(), quick(s, "--rate", "1000", "--drain", "100ms", "--json", "--out", outFile, "--ledger", ledgerFile, "--label", "x")...)
		if code != exitFailed || !strings.HasPrefix(errs, "FAILED: ") {
			t.Errorf("exit code %d, standard error %q", code, errs)
		}
	}
	var got struct {
		Scenario, Label string
		OK              bool
		Failures        []string
		Result          struct {
			Messages struct {
				Lost, Sent uint64
				Though     uint64 `json:"lost_though_acknowledged"`
			}
			Latency struct {
				P99 float64 `json:"p99_us"`
			}
			Findings []map[string]any
		}
		Settings map[string]string
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("not one line of JSON: %v\n%s", err, stdout)
	}
	if got.Scenario != "direct" || got.Label != "x" || got.OK || len(got.Failures) == 0 || got.Result.Latency.P99 <= 0 ||
		got.Result.Messages.Though == 0 || len(got.Result.Findings) == 0 || got.Settings["pairs"] != "3" || got.Settings["size"] != "128" {
		t.Errorf("%+v", got)
	}
	lines, err := os.ReadFile(outFile)
	if err != nil || strings.Count(string(lines), "\n") != 2 || !strings.HasSuffix(string(lines), stdout) {
		t.Errorf("--out: %v, %d lines", err, strings.Count(string(lines), "\n"))
	}

	f, err := os.Open(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var totals ledger.Totals
	var lost uint64
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
		if finding.Kind == ledger.Lost {
			lost += finding.Messages()
		}
	}
	if lost == 0 || lost != got.Result.Messages.Though || totals.Lost != lost || totals.Sent != got.Result.Messages.Sent {
		t.Errorf("the ledger file names %d lost of %+v, the report %d", lost, totals, got.Result.Messages.Though)
	}
}

func TestIdleAndConnect(t *testing.T) {
	s := start(t, nil)
	code, out, errs := bench(t.Context(), "idle", "--addr", s.URL, "--connections", "10", "--warmup", "0s", "--duration", "50ms", "--source-ips", "300")
	if code != exitOK || errs != "" || !strings.Contains(out, "idle: 10 connections held") || !strings.Contains(out, "ended while held             0") {
		t.Errorf("idle: exit code %d, %q\n%s", code, errs, out)
	}
	code, out, errs = bench(t.Context(), "connect", "--addr", s.URL, "--connections", "10", "--concurrency", "2")
	if code != exitOK || errs != "" || !strings.Contains(out, "10 of 10") || !strings.Contains(out, "upgrade") {
		t.Errorf("connect: exit code %d, %q\n%s", code, errs, out)
	}
	s.Close()
	for _, command := range []string{"direct", "idle", "connect"} {
		code, out, errs = bench(t.Context(), command, "--addr", s.URL, "--duration", "50ms", "--json")
		var got struct{ Failures []string }
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitFailed || len(got.Failures) != 1 ||
			!strings.Contains(got.Failures[0], "connection refused") || !strings.Contains(errs, "connection refused") {
			t.Errorf("%s without a server: exit code %d, %v, %q\n%s", command, code, err, errs, out)
		}
	}
}

func TestSecureServers(t *testing.T) {
	plain := start(t, nil)
	secure := httptest.NewUnstartedServer(plain.Config.Handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	args := []string{"connect", "--addr", secure.URL, "--connections", "3"}
	if code, out, _ := bench(t.Context(), args...); code != exitFailed || !strings.Contains(out, "TLS: ") {
		t.Errorf("an unknown certificate: exit code %d\n%s", code, out)
	}
	if code, out, errs := bench(t.Context(), append(args, "--tls-insecure")...); code != exitOK || !strings.Contains(out, "  TLS ") {
		t.Errorf("--tls-insecure: exit code %d, %q\n%s", code, errs, out)
	}
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	code, out, errs := bench(t.Context(), "direct", "--pairs", "none", "--window=0", "--rate", "5", "--nonsense", "7", "--size", "3",
		"--duration", "1", "--drain", "-1s", "--addr", "ftp://x,127.0.0.1:1,10.0.0.1:1", "--source-ips", "2", "--server-pids", "1073741824,x",
		"--metrics", "ftp://y", "--json=perhaps", "--out", filepath.Join(t.TempDir(), "no", "file"), "--progress=x", "--timeout")
	if code != exitUsage || out != "" {
		t.Errorf("exit code %d, standard output %q", code, out)
	}
	for _, want := range []string{
		"--pairs none", "--window 0", "--nonsense", `"7" is not a setting`, "--size 3", "--duration 1", "--drain -1s",
		`"ftp://x"`, "--source-ips: 10.0.0.1:1 is not on loopback", "there is no process 1073741824", `"x" is no process id`,
		`"ftp://y"`, "--json perhaps", "--out: open", "--progress x", "flag needs an argument: -timeout", "--rate and --window exclude",
	} {
		if !strings.Contains(errs, want) {
			t.Errorf("not named: %s in\n%s", want, errs)
		}
	}
	for _, args := range [][]string{{}, {"fly"}, {"direct", "--rate", "1e99"}, {"idle", "--connections", "0"}, {"connect", "--addr", ""}, {"direct", "--rate", "NaN"}} {
		if code, out, errs := bench(t.Context(), args...); code != exitUsage || out != "" || errs == "" {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, errs)
		}
	}
}

func TestHelpNamesEverySetting(t *testing.T) {
	code, overview, errs := bench(t.Context(), "--help")
	if code != exitOK || errs != "" {
		t.Errorf("exit code %d, %q", code, errs)
	}
	for _, c := range commands {
		if !strings.Contains(overview, "\n  "+c.name+" ") {
			t.Errorf("the overview is without %s", c.name)
		}
		for _, args := range [][]string{{c.name, "--help"}, {"help", c.name}, {c.name, "-h"}} {
			code, help, errs := bench(t.Context(), args...)
			if code != exitOK || errs != "" {
				t.Errorf("%q: exit code %d, %q", args, code, errs)
			}
			s := newSettings(c.name)
			c.setup(s)
			outputSettings(s, c.name)
			s.flags.VisitAll(func(f *flag.Flag) {
				if !strings.Contains(help, "\n  --"+f.Name) {
					t.Errorf("%s --help is without --%s", c.name, f.Name)
				}
			})
			for line := range strings.Lines(overview + help) {
				if len(line) > 100 {
					t.Errorf("too long for a terminal: %s", line)
				}
			}
		}
	}
}

func TestInterruptEndsWithAReport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := start(t, func(n int) textotest.Fate {
		if n == 200 {
			cancel()
		}
		return textotest.Deliver
	})
	code, out, errs := bench(ctx, quick(s, "--warmup", "0s", "--duration", "1h")...)
	if code != exitOK || errs != "" || !strings.Contains(out, "Interrupted: this is what was measured") || !strings.Contains(out, "Every acknowledged message arrived") {
		t.Errorf("exit code %d, %q\n%s", code, errs, out)
	}
}

func TestProgress(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		want     *bool
		lines    string
	}{
		{false, nil, ""},
		{false, new(true), "one\ntwo\n"},
		{true, nil, "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"},
		{true, new(false), ""},
	} {
		var errs bytes.Buffer
		p := newProgress(console{stderr: &errs, terminal: c.terminal}, c.want)
		p.line("one")
		p.line("two")
		p.end()
		p.end()
		if errs.String() != c.lines {
			t.Errorf("terminal %v: %q, want %q", c.terminal, errs.String(), c.lines)
		}
	}
	_, _, errs := bench(t.Context(), quick(start(t, nil), "--progress", "--duration", "10ms")...)
	if !strings.HasPrefix(errs, "opening 6 connections\n") {
		t.Errorf("--progress wrote %q", errs)
	}
}

func TestCountsAndSizes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
	if got := wrap("one two three", "  ", 9); got != "  one two\n  three\n" {
		t.Errorf("wrapped to %q", got)
	}
	if got := bytesText(3 << 19); got != "1.5 MB" {
		t.Errorf("1.5 MB is written %q", got)
	}
}
