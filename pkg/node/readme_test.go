package node

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of README.md")

const readme = "../../README.md"

// README.md lists every setting and every metric; the tables come from the code.
func TestReadmeTables(t *testing.T) {
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	want := section(t, text, "settings", settingsTable())
	want = section(t, want, "metrics", metricsTable(t))
	if *update {
		if err := os.WriteFile(readme, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(text, want) {
		t.Error("README.md is behind the code: run go test ./pkg/node -run TestReadmeTables -update")
	}
}

// section replaces what stands between the marks of a name.
func section(t *testing.T, text []byte, name, content string) []byte {
	t.Helper()
	from, to := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok := strings.Cut(string(text), from)
	_, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("README.md has no section %s", name)
	}
	return []byte(before + from + content + to + after)
}

func settingsTable() string {
	var b strings.Builder
	b.WriteString("| flag | environment | default | |\n|---|---|---|---|\n")
	for _, s := range Settings() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", s.Name, strings.Join(s.Env, "`, `"), value, strings.ReplaceAll(s.Help, "|", `\|`))
	}
	return b.String()
}

func metricsTable(t *testing.T) string {
	t.Helper()
	cfg, err := ParseConfig([]string{"--listen=127.0.0.1:0", "--internal-addr=off", "--database-url=sqlite:" + t.TempDir() + "/parley.db"}, func(string) string { return "" }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	var b strings.Builder
	b.WriteString("| metric | labels | |\n|---|---|---|\n")
	all := n.metrics.describe()
	if len(all) < 10 {
		t.Fatalf("only %d metrics found", len(all))
	}
	for _, m := range all {
		labels := ""
		if m.Labels != "" {
			labels = "`" + strings.ReplaceAll(m.Labels, ",", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", m.Name, labels, m.Help)
	}
	return b.String()
}
