package conn

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pongTimeout is how long a peer may be silent after a ping. With the
	// default ping interval of 25 s and the clock's step of 1 s, a half-open
	// peer is gone within 35 s.
	pongTimeout = 8 * time.Second
	// closeGrace is how long a peer has to answer a close frame.
	closeGrace = 5 * time.Second
	// stallTimeout is how long a write to a full socket may make no progress.
	stallTimeout = 30 * time.Second
	// frameBurstSeconds is how many seconds' worth of frames may come at once.
	frameBurstSeconds = 10
	// drainWait is how long a draining connection waits for the answers to what
	// its client has sent.
	drainWait = 2 * time.Second
	// clockStep is the precision of Group.Now, and keepaliveStep that of
	// pings and timeouts.
	clockStep     = 100 * time.Millisecond
	keepaliveStep = time.Second
)

// Config holds the limits of connections. A limit of 0 is off.
type Config struct {
	MaxFrameBytes       int           // of one incoming message, all its frames together
	MaxQueueBytes       int           // queued for one slow reader
	PingInterval        time.Duration // a silent peer is pinged this often
	IdleTimeout         time.Duration // a peer not heard of for so long is closed
	MaxConnections      int           // on this node
	MaxConnectionsPerIP int           // on this node, from one client address or IPv6 /64
	FrameRate           float64       // frames a second that a client may send, of every kind
	Log                 *slog.Logger
}

// Group is all client connections of a node.
type Group struct {
	// Fixed after NewGroup.
	cfg     Config
	metrics *Metrics
	loops   []*Loop
	stop    context.CancelFunc
	own     sync.WaitGroup // loops and clock
	readers sync.WaitGroup // one for each connection, and one for each backlog
	ending  sync.Once

	started  time.Time    // the zero of the clock, but for clockStep
	now      atomic.Int64 // coarse clock, ns
	next     atomic.Uint64
	open     atomic.Int64 // admitted connections
	draining atomic.Bool

	mu    sync.Mutex
	perIP map[netip.Addr]int
}

// NewGroup starts the loops, one for each processor, and the clock. End them
// with Close.
func NewGroup(cfg Config, m *Metrics) *Group {
	ctx, stop := context.WithCancel(context.Background())
	g := &Group{cfg: cfg, metrics: m, stop: stop, perIP: map[netip.Addr]int{}}
	g.started = time.Now()
	g.now.Store(int64(clockStep)) // 0 means never
	for range runtime.GOMAXPROCS(0) {
		l := newLoop(g)
		g.loops = append(g.loops, l)
		g.own.Go(l.run)
	}
	g.own.Go(func() { g.clock(ctx) })
	return g
}

// Now is the time in ns since some moment before the group's start, at most
// clockStep old. It does not follow changes of the system's clock.
func (g *Group) Now() int64 { return g.now.Load() }

// Len is the number of connections, handshakes included.
func (g *Group) Len() int { return int(g.open.Load()) }

// LoopFor is the loop on which what belongs to no connection, but to a key, is delivered:
// the same for a key at any time.
func (g *Group) LoopFor(key uint64) *Loop { return g.loops[key%uint64(len(g.loops))] }

// Flush has everything that was posted to the loops go out. It never blocks.
func (g *Group) Flush() {
	for _, l := range g.loops {
		l.Flush()
	}
}

// clock moves the coarse clock and has the loops look after their connections.
func (g *Group) clock(ctx context.Context) {
	tick := time.NewTicker(clockStep)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-tick.C:
			g.now.Store(int64(time.Since(g.started) + clockStep))
			if t.Sub(last) < keepaliveStep {
				continue
			}
			last = t
			for _, l := range g.loops {
				l.post(event{kind: evTick})
				l.Flush()
			}
		}
	}
}

// Refusal is why a connection was not admitted.
type Refusal string

// What Admit answers.
const (
	Admitted    Refusal = ""
	Draining    Refusal = "draining"
	NodeFull    Refusal = "node_full"
	AddressFull Refusal = "address_full"
)

// Admit counts a connection from an address against the limits. Whoever is
// admitted must be given back with Leave, which for a WebSocket Upgrade and the end
// of the connection see to.
func (g *Group) Admit(ip netip.Addr) Refusal {
	// Counted first: Close either sees it counted or has it refused.
	n := g.open.Add(1)
	if g.draining.Load() {
		g.open.Add(-1)
		return Draining
	}
	if g.cfg.MaxConnections > 0 && n > int64(g.cfg.MaxConnections) {
		g.open.Add(-1)
		return NodeFull
	}
	if g.cfg.MaxConnectionsPerIP > 0 {
		ip = network(ip)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.perIP[ip] >= g.cfg.MaxConnectionsPerIP {
			g.open.Add(-1)
			return AddressFull
		}
		g.perIP[ip]++
	}
	return Admitted
}

// network is what counts as one address: an IPv6 host has a /64 to itself.
func network(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// Leave gives back what Admit has admitted.
func (g *Group) Leave(ip netip.Addr) {
	if g.cfg.MaxConnectionsPerIP > 0 {
		ip = network(ip)
		g.mu.Lock()
		if g.perIP[ip]--; g.perIP[ip] <= 0 {
			delete(g.perIP, ip)
		}
		g.mu.Unlock()
	}
	g.open.Add(-1) // last: a group without connections has forgotten their addresses too
}

// Refuse has Admit refuse everybody from now on.
func (g *Group) Refuse() { g.draining.Store(true) }

// Drain closes all connections with CodeRestart, evenly spread over the window,
// each after its queue has been flushed, and returns when all have gone or ctx
// ends. Call Refuse first.
func (g *Group) Drain(ctx context.Context, window time.Duration) {
	began := time.Now()
	for {
		if ctx.Err() != nil {
			return
		}
		var all []*Conn
		for _, l := range g.loops {
			all = append(all, l.snapshot()...)
		}
		for i, c := range all {
			due := began.Add(window * time.Duration(i+1) / time.Duration(len(all)))
			if !sleep(ctx, time.Until(due)) {
				return
			}
			c.drain()
		}
		// Those that were in their handshake when the list was made.
		if g.Len() == 0 || !sleep(ctx, clockStep) {
			return
		}
		began, window = time.Now(), 0
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Close cuts all connections that are left and waits for every goroutine of
// the group. What is posted to the group afterwards is dropped. A second call
// waits for the first.
func (g *Group) Close() { g.ending.Do(g.close) }

func (g *Group) close() {
	g.Refuse()
	for {
		left := g.Len() // before the loops are asked: who is not counted any more is in their list, or gone
		for _, l := range g.loops {
			for _, c := range l.snapshot() {
				c.cut(ReasonDrain)
				left++
			}
		}
		if left == 0 {
			break
		}
		sleep(context.Background(), clockStep/10)
	}
	g.readers.Wait()
	g.stop()
	for _, l := range g.loops {
		l.post(event{kind: evStop})
		l.Flush()
	}
	g.own.Wait()
}
