package redisbus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// maxBatch is the most messages sent in one pipeline: enough to make the
	// round trip cheap, small enough that answers keep coming.
	maxBatch = 512
	// maxBatchBytes is about the most payload in one pipeline.
	maxBatchBytes = 1 << 20
	// maxPending and maxPendingBytes bound what waits for Redis on this node,
	// the pipeline under way included; beyond them a message is refused at once
	// with relay.ErrOverloaded.
	maxPending      = 1 << 17
	maxPendingBytes = 128 << 20
	// headLife is how long Redis knows what a topic's last message was, beyond the
	// life of the message; see coverage.
	headLife = 2 * time.Hour
	// keepQueue is the most room for publications that is kept for later ones.
	keepQueue = 1 << 14
)

// publication is a message on its way to Redis.
type publication struct {
	channel string
	payload string
	kept    *kept      // nil: the message is not kept
	stream  string     // key; only of a kept one
	head    string     // the same
	at      time.Time  // when it was enqueued
	journal *appending // nil: it is one message, and not for a journal
	acker   relay.Acker
	token   relay.Token
}

// kept is a retention as Redis is told it.
type kept struct{ length, age, headLife string }

// keptCache makes each retention's kept once.
type keptCache struct {
	mu  sync.RWMutex
	all map[relay.Retention]*kept
}

// get returns nil for a retention that keeps nothing.
func (c *keptCache) get(r relay.Retention) *kept {
	if !r.Kept() {
		return nil
	}
	c.mu.RLock()
	k := c.all[r]
	c.mu.RUnlock()
	if k != nil {
		return k
	}
	millis := func(d time.Duration) string { return strconv.FormatInt(max(1, d.Milliseconds()), 10) }
	k = &kept{length: strconv.FormatInt(r.Length, 10), age: millis(r.Age + time.Second), headLife: millis(max(headLife, 2*r.Age))}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[relay.Retention]*kept{}
	}
	c.all[r] = k
	return k
}

// lane sends publications to Redis in the order in which they come. It is a
// queue and one goroutine, which sends all that gathered while the pipeline
// before was under way.
//
// The library's own AutoPipeline batches too. It costs a goroutine that waits
// for every message and honours no deadline, and a WAIT cannot join a batch.
type lane struct {
	// Fixed after newLane.
	client       *redis.Client
	publish      script
	append       script        // that publishes what a journal keeps
	epoch        func() uint64 // of the history that the master is known to hold
	command      string        // that publishes what is not kept
	replicas     int           // that must have a batch before it counts; 0: none
	waitMillis   int64         // for them
	metrics      *Metrics
	master       *master
	hearing      *gate  // open while this node hears its topics
	flush        func() // after each batch, when its ackers have been told
	askElsewhere func(addr string) *redis.Client
	wake         chan struct{}

	// Owned by run.
	plain    []*plainCmd // for one batch, used again for the next
	keeping  []*keptCmd  // the same
	outcomes []outcome
	others   map[string]*redis.Client // masters that slots are being moved to

	mu      sync.Mutex
	queue   []publication
	pending int // publications not answered yet
	bytes   int // their payloads
	closed  error
}

func newLane(l *link, replicas int, wait time.Duration) *lane {
	command := "publish"
	if l.sharded {
		command = "spublish"
	}
	return &lane{client: l.pub, publish: l.publishScript(), append: l.appendScript(), epoch: l.settled, command: command, replicas: replicas, waitMillis: wait.Milliseconds(),
		metrics: l.metrics, master: l.master, hearing: l.hearing, flush: func() {}, wake: make(chan struct{}, 1)}
}

// enqueue never blocks. p.at must be set.
func (l *lane) enqueue(p publication) {
	l.mu.Lock()
	err := l.closed
	if err == nil && (l.pending >= maxPending || l.bytes+len(p.payload) > maxPendingBytes) {
		err = relay.ErrOverloaded
	}
	first := len(l.queue) == 0
	if err == nil {
		l.queue = append(l.queue, p)
		l.pending++
		l.bytes += len(p.payload)
	}
	l.mu.Unlock()
	if err != nil {
		l.metrics.publishErrors.Inc()
		if p.acker != nil {
			p.acker.Published(p.token, relay.ID{}, err)
		}
	} else if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// run sends until ctx ends; what is queued then is left to closeWith.
func (l *lane) run(ctx context.Context) {
	var batch []publication
	pipe := l.client.Pipeline()
	defer l.closeOthers()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for ctx.Err() == nil { // senders may never pause
			runtime.Gosched() // readers that have input go first: a longer pipeline costs less a message
			l.mu.Lock()
			batch, l.queue = l.queue, batch[:0]
			l.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			for rest := batch; len(rest) > 0; {
				n, bytes := chunk(rest)
				l.send(ctx, pipe, rest[:n], bytes)
				clear(rest[:n])
				rest = rest[n:]
			}
			if cap(batch) > keepQueue {
				batch = nil
			}
		}
	}
}

// chunk is how many of the publications go into the next pipeline, and the bytes
// of their payloads.
func chunk(ps []publication) (n, bytes int) {
	for n < len(ps) && n < maxBatch {
		size := len(ps[n].payload)
		if n > 0 && bytes+size > maxBatchBytes {
			break
		}
		bytes += size
		n++
	}
	return n, bytes
}

// outcome is how a publication fared.
type outcome struct {
	id   relay.ID
	err  error
	open bool // not known yet: to be sent, or to be sent again
}

// send publishes a batch and tells every sender. It takes until the deadline of
// the oldest message at most, so that no younger one waits beyond its own.
func (l *lane) send(run context.Context, pipe redis.Pipeliner, ps []publication, bytes int) {
	ctx, cancel := context.WithDeadline(run, ps[0].at.Add(publishTimeout))
	defer cancel()
	l.outcomes = l.outcomes[:0]
	for range ps {
		l.outcomes = append(l.outcomes, outcome{open: true})
	}
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		err := l.hearing.wait(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			for i := range l.outcomes {
				if o := &l.outcomes[i]; o.open && o.err == nil {
					o.err = err
				}
			}
			break
		}
		l.exec(ctx, pipe, ps)
		if !l.again(ctx, ps) || !sleep(ctx, pause) {
			break
		}
	}
	l.release(len(ps), bytes)
	failure := relay.ErrUnavailable
	if run.Err() != nil {
		failure = relay.ErrClosed
	}
	l.metrics.publishBatch.Observe(float64(len(ps)))
	l.metrics.publishSeconds.Observe(time.Since(ps[0].at).Seconds())
	for i := range ps {
		o := &l.outcomes[i]
		if o.err != nil && !errors.Is(o.err, relay.ErrFull) {
			o.id, o.err = relay.ID{}, fmt.Errorf("%w: %w", failure, o.err)
			l.metrics.publishErrors.Inc()
		}
		if ps[i].acker != nil {
			ps[i].acker.Published(ps[i].token, o.id, o.err)
		}
	}
	clear(l.outcomes)
	l.flush()
}

// exec sends what is open in one pipeline, with one WAIT for all.
func (l *lane) exec(ctx context.Context, pipe redis.Pipeliner, ps []publication) {
	counts := false // somebody wants to know whether it was accepted
	for i := range ps {
		if l.outcomes[i].open {
			_ = pipe.Process(ctx, l.cmd(i, &ps[i])) // only queues
			counts = counts || ps[i].acker != nil
		}
	}
	var wait *redis.IntCmd
	if l.replicas > 0 && counts {
		wait = redis.NewIntCmd(ctx, "wait", l.replicas, l.waitMillis)
		_ = pipe.Process(ctx, wait)
	}
	_ = spread(pipe.Exec(ctx))
	var short error
	if wait != nil {
		short = l.replicated(wait)
	}
	for i := range ps {
		if o := &l.outcomes[i]; o.open {
			o.id, o.err = l.result(i, &ps[i])
			if o.err == nil {
				o.err = short
			}
			o.open = false
		}
	}
}

// replicated tells whether enough replicas have what was sent before.
func (l *lane) replicated(wait *redis.IntCmd) error {
	n, err := wait.Result()
	if err != nil {
		return err
	}
	if n < int64(l.replicas) {
		return fmt.Errorf("%d replicas have it, want %d (--redis-wait-replicas)", n, l.replicas)
	}
	return nil
}

// plainCmd is a PUBLISH whose channel and payload can be exchanged, so that a
// message costs the library no allocation.
type plainCmd struct {
	*redis.IntCmd
	channel, payload string
}

// keptCmd is the same for a message that is kept.
type keptCmd struct {
	*redis.StringCmd
	stream, head, channel, payload string
	kept                           kept
}

// cmd returns the command for the i-th publication of a batch.
func (l *lane) cmd(i int, p *publication) redis.Cmder {
	if p.journal != nil {
		return l.appendCmd(p)
	}
	for i >= len(l.plain) {
		c, k := &plainCmd{}, &keptCmd{}
		c.IntCmd = redis.NewIntCmd(context.Background(), l.command, &c.channel, &c.payload)
		k.StringCmd = redis.NewStringCmd(context.Background(), "evalsha", l.publish.hash, 2, &k.stream, &k.head,
			&k.channel, &k.payload, &k.kept.length, &k.kept.age, &k.kept.headLife)
		l.plain, l.keeping = append(l.plain, c), append(l.keeping, k)
	}
	if p.kept == nil {
		c := l.plain[i]
		c.channel, c.payload = p.channel, p.payload
		c.SetErr(nil)
		return c.IntCmd
	}
	c := l.keeping[i]
	c.stream, c.head, c.channel, c.payload, c.kept = p.stream, p.head, p.channel, p.payload, *p.kept
	c.SetErr(nil)
	return c.StringCmd
}

// result is the answer to the command for the i-th publication.
func (l *lane) result(i int, p *publication) (id relay.ID, err error) {
	var text string
	switch {
	case p.journal != nil:
		if text, err = p.journal.cmd.Result(); err == nil && text == "" {
			err = relay.ErrFull
		}
	case p.kept != nil:
		text, err = l.keeping[i].Result()
	default:
		return id, l.plain[i].Err()
	}
	if err != nil {
		return id, err
	}
	id, ok := parsePlace(text)
	if !ok || id.IsZero() {
		return relay.ID{}, fmt.Errorf("redis gave a message the id %q", text)
	}
	return id, nil
}

// release lets go of what a batch has published; there is room for others then.
func (l *lane) release(n, bytes int) {
	l.mu.Lock()
	l.pending -= n
	l.bytes -= bytes
	l.mu.Unlock()
	for _, c := range l.plain[:min(n, len(l.plain))] {
		c.channel, c.payload = "", ""
	}
	for _, c := range l.keeping[:min(n, len(l.keeping))] {
		c.stream, c.head, c.channel, c.payload, c.kept = "", "", "", "", kept{}
		c.SetVal("")
	}
}

// closeWith answers what is queued, and all that comes later, with err.
func (l *lane) closeWith(err error) {
	l.mu.Lock()
	rest := l.queue
	l.queue, l.closed = nil, err
	l.mu.Unlock()
	for _, p := range rest {
		if p.acker != nil {
			p.acker.Published(p.token, relay.ID{}, err)
		}
	}
	l.flush()
}

// Enqueue implements relay.Publisher.
func (b *Bus) Enqueue(m relay.Message, r relay.Retention, a relay.Acker, t relay.Token) {
	now := time.Now()
	if m.Time.IsZero() {
		m.Time = now
	}
	l := b.link(m.Topic)
	p := publication{kept: b.keep.get(r), at: now, acker: a, token: t}
	// One allocation holds the names and the envelope.
	name := len(l.keys.prefix) + len(channelKind) + len(m.Topic)
	buf := make([]byte, 0, 3*name+envelopeSize(&m))
	buf = l.keys.append(buf, channelKind, m.Topic)
	if p.kept != nil {
		buf = l.keys.append(buf, streamKind, m.Topic)
		buf = l.keys.append(buf, headKind, m.Topic)
	}
	names := len(buf)
	buf = appendEnvelope(buf, &m)
	all := unsafe.String(unsafe.SliceData(buf), len(buf)) // not changed any more
	p.channel, p.payload = all[:name], all[names:]
	if p.kept != nil {
		p.stream, p.head = all[name:2*name], all[2*name:3*name]
	}
	l.laneOf(m.Topic).enqueue(p)
}

// Publish implements relay.Publisher.
func (b *Bus) Publish(ctx context.Context, m relay.Message, r relay.Retention) (relay.ID, error) {
	w := make(waitingAcker, 1)
	b.Enqueue(m, r, w, relay.Token{})
	select {
	case a := <-w:
		return a.id, a.err
	case <-ctx.Done():
		return relay.ID{}, fmt.Errorf("%w: %w", relay.ErrUnavailable, ctx.Err())
	}
}

type answer struct {
	id  relay.ID
	err error
}

// waitingAcker has room for the one answer, so that Published does not block
// when nobody waits any more.
type waitingAcker chan answer

func (w waitingAcker) Published(_ relay.Token, id relay.ID, err error) { w <- answer{id, err} }
