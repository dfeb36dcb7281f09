// Package clientjs holds the sample app and the JavaScript SDK that it runs on,
// as they are served to browsers.
package clientjs

import (
	"embed"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
)

var (
	//go:embed app/*.html app/*.js app/*.css app/*.svg
	app embed.FS

	//go:embed *.js
	sdk embed.FS
)

// Files has the files of the app and of the SDK beside each other at its root:
// index.html, app.js, style.css, favicon.svg, parley.js, chat.js, relayroom.js,
// pull.js and the modules that they import. There are no directories in it. It is safe for concurrent use.
var Files fs.FS = merge(sdk, must(fs.Sub(app, "app")))

// must is for what cannot fail once the program has been built.
func must(files fs.FS, err error) fs.FS {
	if err != nil {
		panic(err)
	}
	return files
}

// merged is file systems without directories, laid over each other. Of two
// files with one name the first file system's is seen.
type merged struct {
	layers  []fs.FS
	entries []fs.DirEntry // of the root, sorted by name
}

func merge(layers ...fs.FS) merged {
	m := merged{layers: layers}
	for _, layer := range layers {
		entries, err := fs.ReadDir(layer, ".")
		if err != nil {
			panic(err) // embedded file systems have a root
		}
		m.entries = append(m.entries, entries...)
	}
	byName := func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) }
	slices.SortStableFunc(m.entries, byName)
	m.entries = slices.CompactFunc(m.entries, func(a, b fs.DirEntry) bool { return a.Name() == b.Name() })
	return m
}

// Open implements fs.FS.
func (m merged) Open(name string) (fs.File, error) {
	if name == "." {
		file, err := m.layers[0].Open(name)
		return &root{File: file, rest: m.entries}, err
	}
	for _, layer := range m.layers {
		file, err := layer.Open(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// root is the one directory of a merged file system.
type root struct {
	fs.File
	rest []fs.DirEntry
}

// ReadDir implements fs.ReadDirFile.
func (r *root) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(r.rest)
	} else if len(r.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(r.rest))
	entries := slices.Clone(r.rest[:n])
	r.rest = r.rest[n:]
	return entries, nil
}
