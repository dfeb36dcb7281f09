// Package crowd is clients that behave as a good SDK does: they come back by
// themselves, elsewhere when a node is gone, take their session up again with
// its token, drop what they have seen, and note what they are told to have
// missed. Each has a partner to which it writes, and all that is written is in
// a ledger.
package crowd

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Config says who is in a crowd. Fixed before New.
type Config struct {
	Clients int               // rounded up to an even number
	Targets []wsclient.Target // where the nodes are; a client moves on to the next when one fails
	Home    func(i int) int   // the target that client i tries first; nil: in turns
	Rate    float64           // messages a second of all clients together
	Size    int               // bytes of text; at least texto.IDLen
	Seed    uint64
	Ledger  *ledger.Ledger // may be shared by crowds
	// Nonce is the first of Clients numbers that tell this crowd's messages from
	// those of others in the same fleet.
	Nonce uint32
	// Concurrency bounds the connections that are being opened by Start. Those
	// that come back later are bound by nothing but their waits.
	Concurrency int
}

// dialTimeout bounds one attempt to connect, up to the greeting.
const dialTimeout = 10 * time.Second

// Crowd is a crowd of clients. All methods may be called by any goroutine.
type Crowd struct {
	cfg     Config
	start   time.Time
	dialer  wsclient.Dialer
	filler  []byte
	clients []*Client
	opening chan struct{} // bounds Start's connections

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	quiet   atomic.Bool // nothing is sent
	latency atomic.Pointer[hist.Histogram]
	watch   atomic.Pointer[Watch]

	// Answers are the times from a message to its answer, Reconnects those from
	// the end of a connection to the greeting of the next one.
	Answers, Reconnects hist.Histogram

	events events
}

// New makes a crowd. Start connects it, and Close has to follow.
func New(cfg Config) *Crowd {
	cfg.Clients += cfg.Clients & 1
	if cfg.Home == nil {
		cfg.Home = func(i int) int { return i }
	}
	c := &Crowd{cfg: cfg, start: time.Now(), filler: texto.Filler(max(cfg.Size-texto.IDLen, 0)),
		dialer:  wsclient.Dialer{Timeout: dialTimeout},
		opening: make(chan struct{}, max(cfg.Concurrency, 1))}
	c.clients = make([]*Client, cfg.Clients)
	for i := range c.clients {
		c.clients[i] = newClient(c, i)
	}
	for i, client := range c.clients {
		client.partner = c.clients[i^1]
		client.out = cfg.Ledger.Open(client.name(), client.partner.name())
		client.partner.in = client.out
	}
	return c
}

// Start connects all clients and begins to send. It returns when each has been
// greeted once, or ctx is done: then with its error.
func (c *Crowd) Start(ctx context.Context) error {
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, client := range c.clients {
		c.wg.Go(func() { client.run(c.ctx) })
	}
	for _, client := range c.clients {
		select {
		case <-client.first:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for worker := range workers {
		c.wg.Go(func() { c.pace(worker) })
	}
	c.wg.Go(c.refresh)
	return nil
}

// Close ends all connections and waits for all goroutines of the crowd.
func (c *Crowd) Close() {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
}

// Clients returns all clients. The caller does not change the slice.
func (c *Crowd) Clients() []*Client { return c.clients }

// Ledger is the account of what the crowd sends.
func (c *Crowd) Ledger() *ledger.Ledger { return c.cfg.Ledger }

// now is the time since the crowd was made, in nanoseconds.
func (c *Crowd) now() int64 { return int64(time.Since(c.start)) }

// Measure has the time from sending to delivery recorded in h from now on; nil
// ends it. Messages that are on their way count where they arrive.
func (c *Crowd) Measure(h *hist.Histogram) { c.latency.Store(h) }

// Quiet stops and resumes the sending.
func (c *Crowd) Quiet(quiet bool) { c.quiet.Store(quiet) }

// workers send, each for its own part of the clients, so that a socket that is
// full holds up a part only.
const workers = 4

// pace sends at even times for every client whose number belongs to the worker.
func (c *Crowd) pace(worker int) {
	const step = 5 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	var mine []*Client
	for i, client := range c.clients {
		// Neighbours write to each other and are kept together.
		if i>>1%workers == worker {
			mine = append(mine, client)
		}
	}
	if len(mine) == 0 || c.cfg.Rate <= 0 {
		return
	}
	rng := rand.New(rand.NewPCG(c.cfg.Seed, uint64(worker)))
	rng.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
	rate := c.cfg.Rate * float64(len(mine)) / float64(len(c.clients))
	owed, next, last := 0.0, 0, time.Now()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		// A worker that was held up makes up for a second of it, no more.
		owed = min(owed+rate*now.Sub(last).Seconds(), rate)
		last = now
		if c.quiet.Load() {
			owed = 0
		}
		for ; owed >= 1 && c.ctx.Err() == nil; owed-- {
			mine[next].send()
			next = (next + 1) % len(mine)
		}
	}
}

// refreshInterval is how often a client asks for a fresh token. An SDK does so
// every ten minutes; a drill takes less than that.
const refreshInterval = time.Minute

// refresh asks for fresh tokens, a part of the clients at a time.
func (c *Crowd) refresh() {
	const steps = 60
	tick := time.NewTicker(refreshInterval / steps)
	defer tick.Stop()
	for step := 0; ; step = (step + 1) % steps {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		for i := step; i < len(c.clients); i += steps {
			c.clients[i].register()
		}
	}
}

// Connected tells how many clients have a connection.
func (c *Crowd) Connected() (n int) {
	for _, client := range c.clients {
		if client.Connected() {
			n++
		}
	}
	return n
}

// settleQuiet is how long nothing may happen before a crowd counts as settled:
// longer than any answer may take.
const settleQuiet = 2500 * time.Millisecond

// Settle stops the sending and waits until all clients are connected and every
// message is settled, or nothing has happened for a while; for at most patience.
// It returns false when clients were still without a connection.
func (c *Crowd) Settle(ctx context.Context, patience time.Duration) bool {
	c.Quiet(true)
	deadline := time.Now().Add(patience)
	still, before := time.Now(), uint64(0)
	for {
		connected := c.Connected() == len(c.clients)
		unsettled, events := uint64(0), uint64(0)
		for _, client := range c.clients {
			u, e := client.out.Progress()
			unsettled, events = unsettled+u, events+e
		}
		if connected && unsettled == 0 {
			return true
		}
		if events != before || !connected {
			still, before = time.Now(), events
		}
		if connected && time.Since(still) > settleQuiet {
			return true
		}
		if time.Now().After(deadline) || !Sleep(ctx, 20*time.Millisecond) {
			return connected
		}
	}
}

// Sleep waits for d; false when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
