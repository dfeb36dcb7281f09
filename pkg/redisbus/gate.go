package redisbus

import (
	"context"
	"sync"
	"time"
)

// gate holds publishes back while this node cannot hear its topics, so that what
// its own clients send each other across a broken subscriber connection is late
// instead of lost. It starts closed.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
	isOpen bool
	at     time.Time // when it was opened last
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen {
		g.isOpen, g.at = true, time.Now()
		close(g.opened)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isOpen {
		g.isOpen = false
		g.opened = make(chan struct{})
	}
}

// since returns when the gate was opened; false while it is closed.
func (g *gate) since() (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at, g.isOpen
}

// wait returns nil once the gate is open, or the error of ctx when that ends
// before.
func (g *gate) wait(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	default:
	}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
