package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"parley/pkg/relay"
)

const (
	// batchMost is how many messages are moved at once, and batchBytes how large
	// their bodies should be together: what a script of Redis reads at once, and a
	// transaction writes. A batch begins with batchFirst messages and grows fourfold
	// as long as they are small.
	batchMost  = 500
	batchFirst = 32
	batchBytes = 1 << 20
	// batchesAtOnce is how many topics are moved at the same time by one node.
	batchesAtOnce = 2
	// restShare is the part of a batch's time for which its topic rests after it, so
	// that Redis and the database have time for others.
	restShare = 4

	// lookEvery is the time between two looks at a topic with less than a batch to
	// move, a quarter more or less.
	lookEvery = time.Second
	// retryFirst is how long it takes until a topic is tried again after an error,
	// twice as long each time, up to retryLast; a quarter more or less.
	retryFirst = 2 * time.Second
	retryLast  = 15 * time.Second
	// retryAll is that time in MoveAll.
	retryAll = 250 * time.Millisecond

	// journalTimeout, storeTimeout and releaseTimeout bound one call each.
	journalTimeout = 5 * time.Second
	storeTimeout   = 15 * time.Second
	releaseTimeout = 2 * time.Second

	// claimKind begins the names of the claims.
	claimKind = "archive/"
)

// Journal is as much of a relay.Journal as a Mover needs.
type Journal interface {
	Oldest(ctx context.Context, t relay.Topic, n int) (messages []relay.Message, total int64, err error)
	Forget(ctx context.Context, t relay.Topic, upTo relay.ID) error
}

// Storer is as much of a relay.Archive as a Mover needs.
type Storer interface {
	Store(ctx context.Context, messages []relay.Message) error
}

// Claims are as much of relay.Claims as a Mover needs.
type Claims interface {
	Claim(ctx context.Context, name, holder string) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Config is what a Mover works with. It is not changed after NewMover.
type Config struct {
	Journal Journal
	Archive Storer
	Claims  Claims
	Node    string        // the id of this node, as Claims know it
	Topics  []relay.Topic // whose messages are moved; each once
	Length  int64         // how many of the newest messages of a topic stay in the journal; at least 0
	Log     *slog.Logger
}

// Mover keeps journals short: of each topic it moves into the archive, oldest first,
// what the journal has beyond a length. It stores messages, and has the journal forget
// them when they are stored; whenever it ends in between, the next one repeats that.
//
// One node at a time moves a topic: the one that has the claim "archive/<topic>". It
// keeps the claim until it stops, fails, or has lost it, which it finds out before
// each batch. That only saves work: several may move a topic at once, and no message
// is lost or stored twice. Nothing has to be done when a claim of this kind is
// released or lost.
type Mover struct {
	// Fixed after NewMover.
	config  Config
	metrics *Metrics
	slots   chan struct{} // batches under way

	mu      sync.Mutex
	backlog map[relay.Topic]int64
	failing map[relay.Topic]bool
}

// NewMover makes one; Run makes it work.
func NewMover(c Config) *Mover {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Length = max(c.Length, 0)
	m := &Mover{config: c, slots: make(chan struct{}, batchesAtOnce),
		backlog: map[relay.Topic]int64{}, failing: map[relay.Topic]bool{}}
	m.metrics = newMetrics(m.beyond)
	return m
}

// Metrics are the mover's figures, to be registered once.
func (m *Mover) Metrics() *Metrics { return m.metrics }

// Run moves messages until ctx ends, whatever fails meanwhile, gives its claims back,
// and returns nil. It needs the claims for two seconds more then. Call it once.
func (m *Mover) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, t := range m.config.Topics {
		wg.Go(func() {
			f := follower{Mover: m, topic: t, size: batchFirst}
			f.run(ctx)
		})
	}
	wg.Wait()
	return nil
}

// MoveAll moves every message of every topic, for a node that takes its journal with
// it when it ends. It needs no claims. It repeats what fails until ctx ends; the error
// says then what is left. Call it after Run, when nobody appends any more.
func (m *Mover) MoveAll(ctx context.Context) error {
	var failed []error
	for _, t := range m.config.Topics {
		f := follower{Mover: m, topic: t, size: batchFirst}
		if err := f.empty(ctx); err != nil {
			failed = append(failed, fmt.Errorf("messages of %q are left: %w", t, err))
		}
	}
	return errors.Join(failed...)
}

// beyond is the number of messages of all topics that are still to be moved.
func (m *Mover) beyond() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sum int64
	for _, n := range m.backlog {
		sum += n
	}
	return float64(sum)
}

func (m *Mover) setBacklog(t relay.Topic, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.backlog[t] = n
}

// failed and recovered keep account of the topics that cannot be moved, and log when
// the first one begins to fail and when none does any more.
func (m *Mover) failed(t relay.Topic, err error) {
	m.metrics.errors.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.failing) == 0 {
		m.config.Log.Warn("messages could not be moved to the archive, trying again", "topic", t, "error", err)
	}
	m.failing[t] = true
}

func (m *Mover) recovered(t relay.Topic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.failing[t] {
		return
	}
	if delete(m.failing, t); len(m.failing) == 0 {
		m.config.Log.Info("messages are moved to the archive again")
	}
}

// follower moves one topic. It belongs to one goroutine.
type follower struct {
	*Mover
	topic relay.Topic
	size  int           // of the next batch
	retry time.Duration // until the next attempt, after an error
	mine  bool          // the claim may be this node's
}

func (f *follower) run(ctx context.Context) {
	pause := spread(lookEvery) / 2 // not all topics and nodes at the same moment
	for sleep(ctx, pause) {
		pause = f.round(ctx)
	}
	f.letGo(ctx)
}

// round looks at the topic, moves a batch if there is something to move, and returns
// how long to wait until the next round.
func (f *follower) round(ctx context.Context) time.Duration {
	mine, err := f.config.Claims.Claim(ctx, f.name(), f.config.Node)
	switch {
	case errors.Is(err, relay.ErrUnavailable), errors.Is(err, relay.ErrClosed):
		// The node has told of it, as far as there is something to tell.
		f.mine = true // perhaps
		return spread(lookEvery)
	case err != nil:
		return f.fail(ctx, err)
	case !mine:
		f.mine, f.retry, f.size = false, 0, batchFirst
		f.setBacklog(f.topic, 0) // another's to tell
		f.recovered(f.topic)
		return spread(lookEvery)
	}
	f.mine = true
	begun := time.Now()
	left, err := f.look(ctx)
	if err == nil && left > 0 {
		left, err = f.move(ctx)
	}
	if err != nil {
		return f.fail(ctx, err)
	}
	f.retry = 0
	f.recovered(f.topic)
	if left >= int64(f.size) {
		return time.Since(begun) / restShare
	}
	return spread(lookEvery) // what is less than a batch can wait for more
}

// empty moves all messages, until ctx ends.
func (f *follower) empty(ctx context.Context) error {
	for {
		left, err := f.batch(ctx, 0)
		switch {
		case err == nil && left == 0:
			return nil
		case err != nil && ctx.Err() == nil:
			f.metrics.errors.Inc()
			sleep(ctx, retryAll)
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// look asks the journal how many messages are to be moved.
func (f *follower) look(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, journalTimeout)
	defer cancel()
	_, total, err := f.config.Journal.Oldest(ctx, f.topic, 1)
	if err != nil {
		return 0, fmt.Errorf("the journal of %q: %w", f.topic, err)
	}
	left := max(total-f.config.Length, 0)
	f.setBacklog(f.topic, left)
	return left, nil
}

// move waits for its turn and moves a batch.
func (f *follower) move(ctx context.Context) (left int64, err error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	left, err = f.batch(ctx, f.config.Length)
	if err == nil {
		f.setBacklog(f.topic, left)
	}
	return left, err
}

// batch moves the oldest messages of the topic, but leaves the given number of the
// newest ones, and returns how many are left to be moved. It may be repeated whenever
// it has ended, and by whomever.
func (f *follower) batch(ctx context.Context, keep int64) (left int64, err error) {
	within := func(timeout time.Duration, call func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return call(ctx)
	}
	var messages []relay.Message
	err = within(journalTimeout, func(ctx context.Context) (err error) {
		messages, left, err = f.config.Journal.Oldest(ctx, f.topic, f.size)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("the journal of %q: %w", f.topic, err)
	}
	left = max(left-keep, 0)
	messages = messages[:min(int64(len(messages)), left)]
	if len(messages) == 0 {
		return 0, nil
	}
	err = within(storeTimeout, func(ctx context.Context) error { return f.config.Archive.Store(ctx, messages) })
	if err != nil {
		return 0, archiveFailed(f.topic, err)
	}
	last := messages[len(messages)-1].ID
	err = within(journalTimeout, func(ctx context.Context) error { return f.config.Journal.Forget(ctx, f.topic, last) })
	if err != nil {
		return 0, fmt.Errorf("the journal of %q: %w", f.topic, err)
	}
	f.metrics.archived.Add(float64(len(messages)))
	f.size = nextSize(f.size, messages)
	return left - int64(len(messages)), nil
}

// nextSize is how many messages to move at once after a batch.
func nextSize(size int, batch []relay.Message) int {
	total := 0
	for _, m := range batch {
		total += len(m.Body)
	}
	fits := batchMost
	if total > 0 {
		fits = batchBytes * len(batch) / total
	}
	return max(1, min(fits, 4*size, batchMost))
}

// fail notes an error. Another node, which may have better luck, can take over.
func (f *follower) fail(ctx context.Context, err error) time.Duration {
	if ctx.Err() != nil {
		return 0
	}
	f.failed(f.topic, err)
	f.letGo(ctx)
	f.retry = min(max(2*f.retry, retryFirst), retryLast)
	return spread(f.retry)
}

// letGo gives the claim back if the node may have it. What fails of that, the claims
// take care of.
func (f *follower) letGo(ctx context.Context) {
	if !f.mine {
		return
	}
	f.mine = false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := f.config.Claims.Release(ctx, f.name(), f.config.Node); err != nil {
		f.config.Log.Debug("a claim was not given back at once", "claim", f.name(), "error", err)
	}
}

func (f *follower) name() string { return claimKind + string(f.topic) }

// spread is a quarter more or less.
func spread(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2)
}

// sleep waits, and tells whether ctx still stands.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
