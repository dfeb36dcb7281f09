package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// progress shows one line at a time: on a terminal the newest replaces the one
// before.
type progress struct {
	w       io.Writer
	rewrite bool
	on      bool

	mu    sync.Mutex
	shown bool
}

// newProgress decides where lines go; want overrides the custom that they go
// to terminals only.
func newProgress(out console, want *bool) *progress {
	p := &progress{w: out.stderr, rewrite: out.terminal, on: out.terminal}
	if want != nil {
		p.on = *want
	}
	return p
}

// line shows a line. Any goroutine may call it.
func (p *progress) line(text string) {
	if !p.on {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.rewrite {
		fmt.Fprintln(p.w, text)
		return
	}
	const clearLine = "\r\x1b[K"
	fmt.Fprint(p.w, clearLine+text)
	p.shown = true
}

// end removes what a terminal still shows.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
