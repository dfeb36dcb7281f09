package redisbus

import (
	"context"
	"fmt"
	"runtime"
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
	// keepQueue is the most room for publications that is kept for later ones.
	keepQueue = 1 << 14
)

// publication is a message on its way to Redis.
type publication struct {
	channel string
	payload string
	at      time.Time // when it was enqueued
	acker   relay.Acker
	token   relay.Token
}

// lane sends publications to Redis in the order in which they come. It is a
// queue and one goroutine, which sends all that gathered while the pipeline
// before was under way.
//
// The library's own AutoPipeline batches too. It costs a goroutine that waits
// for every message and honours no deadline, and a WAIT cannot join a batch.
type lane struct {
	client  *redis.Client
	metrics *Metrics
	cmds    []*publishCmd // for one batch, used again for the next; owned by run
	hearing *gate         // open while this node hears its topics
	flush   func()        // after each batch, when its ackers have been told
	wake    chan struct{}

	mu      sync.Mutex
	queue   []publication
	pending int // publications not answered yet
	bytes   int // their payloads
	closed  error
}

func newLane(c *redis.Client, m *Metrics, hearing *gate) *lane {
	return &lane{client: c, metrics: m, hearing: hearing, flush: func() {}, wake: make(chan struct{}, 1)}
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

// send publishes a batch and tells every sender. It takes until the deadline of
// the oldest message at most, so that no younger one waits beyond its own.
func (l *lane) send(run context.Context, pipe redis.Pipeliner, ps []publication, bytes int) {
	ctx, cancel := context.WithDeadline(run, ps[0].at.Add(publishTimeout))
	defer cancel()
	var cmds []redis.Cmder
	err := l.hearing.wait(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		for i := range ps {
			_ = pipe.Process(ctx, l.command(i, &ps[i])) // only queues
		}
		cmds, err = pipe.Exec(ctx)
	}
	l.release(len(ps), bytes)
	failure := relay.ErrUnavailable
	if run.Err() != nil {
		failure = relay.ErrClosed
	}
	l.metrics.publishBatch.Observe(float64(len(ps)))
	l.metrics.publishSeconds.Observe(time.Since(ps[0].at).Seconds())
	for i := range ps {
		e := err
		if i < len(cmds) {
			e = cmds[i].Err()
		}
		if e != nil {
			e = fmt.Errorf("%w: %w", failure, e)
			l.metrics.publishErrors.Inc()
		}
		if ps[i].acker != nil {
			ps[i].acker.Published(ps[i].token, relay.ID{}, e)
		}
	}
	l.flush()
}

// publishCmd is a PUBLISH whose channel and payload can be exchanged, so that a
// message costs the library no allocation.
type publishCmd struct {
	*redis.IntCmd
	channel, payload string
}

// command returns the PUBLISH for the i-th publication of a batch.
func (l *lane) command(i int, p *publication) redis.Cmder {
	if i == len(l.cmds) {
		c := &publishCmd{}
		c.IntCmd = redis.NewIntCmd(context.Background(), "publish", &c.channel, &c.payload)
		l.cmds = append(l.cmds, c)
	}
	c := l.cmds[i]
	c.channel, c.payload = p.channel, p.payload
	c.SetErr(nil)
	return c.IntCmd
}

// release lets go of what a batch has published; there is room for others then.
func (l *lane) release(n, bytes int) {
	l.mu.Lock()
	l.pending -= n
	l.bytes -= bytes
	l.mu.Unlock()
	for _, c := range l.cmds[:min(n, len(l.cmds))] {
		c.channel, c.payload = "", ""
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
func (b *Bus) Enqueue(m relay.Message, _ relay.Retention, a relay.Acker, t relay.Token) {
	now := time.Now()
	if m.Time.IsZero() {
		m.Time = now
	}
	// One allocation holds the channel's name and the envelope.
	buf := make([]byte, 0, len(topicPrefix)+len(m.Topic)+envelopeSize(&m))
	buf = append(append(buf, topicPrefix...), m.Topic...)
	split := len(buf)
	buf = appendEnvelope(buf, &m)
	all := unsafe.String(unsafe.SliceData(buf), len(buf)) // not changed any more
	b.lane.enqueue(publication{channel: all[:split], payload: all[split:], at: now, acker: a, token: t})
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
