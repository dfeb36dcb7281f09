package relaytest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// Transcripts plays what the archives in testdata/transcripts of a protocol's package
// hold, each in a test of its own: a file "transcript", whose lines only the protocol
// understands, and perhaps a file "settings".
func Transcripts(t *testing.T, play func(t *testing.T, settings string, lines []string)) {
	files, err := filepath.Glob("testdata/transcripts/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		settings := ""
		var lines []string
		for _, part := range archive.Files {
			switch part.Name {
			case "settings":
				settings = string(part.Data)
			case "transcript":
				lines = strings.Split(strings.TrimRight(string(part.Data), "\n"), "\n")
			default:
				t.Fatalf("%s: a file %q", file, part.Name)
			}
		}
		if len(lines) == 0 {
			t.Fatalf("%s: no transcript", file)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, settings, lines) })
	}
}

// MaxMessageBytes reads settings with nothing but max-message-bytes; 0 if there are none.
func MaxMessageBytes(t *testing.T, settings string) (n int) {
	t.Helper()
	if settings == "" {
		return 0
	}
	if _, err := fmt.Sscanf(settings, "max-message-bytes %d", &n); err != nil {
		t.Fatalf("settings %q: %v", settings, err)
	}
	return n
}

var examples = regexp.MustCompile("(?s)```transcript\n(.*?)```")

// Examples plays the transcripts that a protocol's page shows, of which there are at
// least so many, each in a test of its own.
func Examples(t *testing.T, page string, atLeast int, play func(t *testing.T, lines []string)) {
	all := examples.FindAllStringSubmatch(page, -1)
	if len(all) < atLeast {
		t.Errorf("the page has only %d examples", len(all))
	}
	for i, e := range all {
		t.Run(strconv.Itoa(i), func(t *testing.T) { play(t, strings.Split(e[1], "\n")) })
	}
}
