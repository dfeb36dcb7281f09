package node

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// memoryStep is how often a node looks whether many clients have come or gone.
	memoryStep = 5 * time.Second
	// memoryChange is how many of them make it worth returning memory, and
	// memoryCalm how few in a step mean that they have settled.
	memoryChange = 1000
	memoryCalm   = 50
)

// returnMemory gives memory back to the system when many clients have come or
// gone and it is calm again. A handshake leaves behind several times what an idle
// connection keeps, and the runtime would hold on to most of that for minutes.
func (n *Node) returnMemory(ctx context.Context) {
	tick := time.NewTicker(memoryStep)
	defer tick.Stop()
	settled, last, moved := 0, 0, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := n.group.Len()
		moved = max(moved, apart(now, settled)) // they may have come and gone
		if moved >= memoryChange && apart(now, last) <= memoryCalm {
			debug.FreeOSMemory()
			settled, moved = now, 0
		}
		last = now
	}
}

func apart(a, b int) int { return max(a-b, b-a) }
