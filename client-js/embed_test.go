package clientjs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"testing/fstest"
)

func TestFilesIsAFileSystem(t *testing.T) {
	if err := fstest.TestFS(Files, "index.html", "app.js", "style.css", "favicon.svg", "parley.js", "chat.js", "relayroom.js", "pull.js"); err != nil {
		t.Fatal(err)
	}
}

func TestFilesHoldsWhatIsServedAndNothingElse(t *testing.T) {
	want, err := filepath.Glob("*.js")
	if err != nil {
		t.Fatal(err)
	}
	app, err := os.ReadDir("app")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range app {
		want = append(want, entry.Name())
	}
	slices.Sort(want)

	entries, err := fs.ReadDir(Files, ".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("Files has %q, want %q", got, want)
	}

	for _, name := range want {
		onDisk, err := os.ReadFile(name)
		if err != nil {
			onDisk, err = os.ReadFile(path.Join("app", name))
		}
		if err != nil {
			t.Fatal(err)
		}
		embedded, err := fs.ReadFile(Files, name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(embedded, onDisk) {
			t.Errorf("%s is not what is on disk", name)
		}
	}
}

// A file that refers to another one gets it from the same root.
func TestFilesReferToEachOther(t *testing.T) {
	reference := regexp.MustCompile(`(?:from ['"]|(?:src|href)=")\.?/([^'"]+)['"]`)
	entries, err := fs.ReadDir(Files, ".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, entry := range entries {
		content, err := fs.ReadFile(Files, entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range reference.FindAllSubmatch(content, -1) {
			found++
			if _, err := fs.Stat(Files, string(match[1])); err != nil {
				t.Errorf("%s refers to %s: %v", entry.Name(), match[1], err)
			}
		}
	}
	if found == 0 {
		t.Error("no file refers to another: the test looks for the wrong thing")
	}
}

// The policy that the app is served under allows scripts and styles in files only.
func TestIndexHasNothingInline(t *testing.T) {
	index, err := fs.ReadFile(Files, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, inline := range []string{`<style`, `\sstyle=`, `\son[a-z]+=`, `javascript:`, `<script[^>]*>[^<]`} {
		if found := regexp.MustCompile(inline).Find(index); found != nil {
			t.Errorf("index.html has %q", found)
		}
	}
}

func TestMergeShowsTheFirstOfTwo(t *testing.T) {
	first := fstest.MapFS{"a": {Data: []byte("first")}, "b": {Data: []byte("b")}}
	second := fstest.MapFS{"a": {Data: []byte("second")}, "c": {Data: []byte("c")}}
	files := merge(first, second)
	if err := fstest.TestFS(files, "a", "b", "c"); err != nil {
		t.Error(err)
	}
	if a, err := fs.ReadFile(files, "a"); err != nil || string(a) != "first" {
		t.Errorf("a is %q, %v, want that of the first", a, err)
	}
}
