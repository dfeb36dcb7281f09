package redisbus

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"parley/pkg/relay"
)

// memoryRedis is a Redis in memory that is reached through pipes, so that it
// lives on synctest's clock.
type memoryRedis struct {
	server *miniredis.Miniredis
	dials  atomic.Int64

	mu     sync.Mutex
	dialer dialFunc      // nil: as usual
	frozen chan struct{} // not nil: no command is answered until it is closed
	silent []*silencer   // every connection
	calls  map[string]int
	slow   map[string]time.Duration // by command
	drop   string                   // a channel
}

func newMemoryRedis(t *testing.T) *memoryRedis {
	r := &memoryRedis{server: miniredis.NewMiniRedis(), calls: map[string]int{}, slow: map[string]time.Duration{}}
	first, err := r.server.Dial() // starts it
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	r.server.Server().SetPreHook(r.beforeCommand)
	t.Cleanup(func() {
		r.thaw()
		r.server.Close()
	})
	return r
}

func (r *memoryRedis) beforeCommand(c *server.Peer, cmd string, args ...string) (done bool) {
	r.mu.Lock()
	frozen, slow, drop := r.frozen, r.slow[cmd], r.drop
	r.calls[cmd]++
	r.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	time.Sleep(slow)
	if cmd == "PUBLISH" && drop != "" && len(args) > 0 && args[0] == drop {
		c.WriteInt(0)
		return true
	}
	return false
}

// delay has a command take that long from now on, for the connection that it
// came over.
func (r *memoryRedis) delay(cmd string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow[cmd] = d
}

// lose has what is published to a channel from now on reach nobody.
func (r *memoryRedis) lose(channel string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = channel
}

// dial is the Options.dial of a bus on this Redis.
func (r *memoryRedis) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	r.dials.Add(1)
	r.mu.Lock()
	dialer := r.dialer
	r.mu.Unlock()
	if dialer != nil {
		return dialer(ctx, network, addr)
	}
	ours, theirs := net.Pipe()
	r.server.Server().ServeConn(newBuffered(theirs))
	s := &silencer{Conn: ours}
	r.mu.Lock()
	r.silent = append(r.silent, s)
	r.mu.Unlock()
	return s, nil
}

func (r *memoryRedis) setDialer(d dialFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialer = d
}

// freeze has nothing answered until thaw is called.
func (r *memoryRedis) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = make(chan struct{})
}

func (r *memoryRedis) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.frozen != nil {
		close(r.frozen)
		r.frozen = nil
	}
}

// silence has nothing come through the connections made so far, in either
// direction, though they stand.
func (r *memoryRedis) silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.silent {
		s.on.Store(true)
	}
}

// cut closes the connections made so far, or only those over which somebody
// subscribed.
func (r *memoryRedis) cut(t *testing.T, all bool) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	cut := 0
	for _, s := range r.silent {
		if (all || s.subscribed.Load()) && s.Conn.Close() == nil {
			cut++
		}
	}
	if cut == 0 {
		t.Error("nobody to cut off")
	}
}

// called is how often Redis has seen a command.
func (r *memoryRedis) called(cmd string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[cmd]
}

// buffered is a connection whose writes do not wait for the reader, as a real
// server's do not.
type buffered struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newBuffered(nc net.Conn) *buffered {
	b := &buffered{Conn: nc, out: make(chan []byte, 1<<12), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case <-b.closed:
				return
			case p := <-b.out:
				if _, err := nc.Write(p); err != nil {
					return
				}
			}
		}
	}()
	return b
}

func (b *buffered) Write(p []byte) (int, error) {
	select {
	case <-b.closed:
		return 0, net.ErrClosed
	case b.out <- bytes.Clone(p):
		return len(p), nil
	}
}

func (b *buffered) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Conn.Close()
}

// silencer is a connection that can fall silent.
type silencer struct {
	net.Conn
	on         atomic.Bool
	subscribed atomic.Bool
}

func (s *silencer) Read(p []byte) (int, error) {
	for {
		n, err := s.Conn.Read(p)
		if err != nil || !s.on.Load() {
			return n, err
		}
	}
}

func (s *silencer) Write(p []byte) (int, error) {
	if s.on.Load() {
		return len(p), nil
	}
	if bytes.Contains(p, []byte("\r\nsubscribe\r\n")) {
		s.subscribed.Store(true)
	}
	return s.Conn.Write(p)
}

// times notes when its methods were called.
type times struct {
	mu         sync.Mutex
	dispatched []time.Time
	gaps       []time.Time
}

func (r *times) Dispatch(relay.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dispatched = append(r.dispatched, time.Now())
}

func (r *times) Gap(relay.Topic, relay.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps = append(r.gaps, time.Now())
}

func (r *times) Flush() {}

func (r *times) counts() (dispatched, gaps int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.dispatched), len(r.gaps)
}

// inBubble runs a test with a bus on a Redis in memory, on synctest's clock.
func inBubble(t *testing.T, test func(*testing.T, *memoryRedis, *Bus, *times)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newMemoryRedis(t)
		b, err := New(Options{URL: "redis://in-memory:6379", Node: "n", Log: slog.New(slog.DiscardHandler), dial: r.dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		heard := new(times)
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx, heard) }()
		test(t, r, b, heard)
		cancel()
		ended := time.Now()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		if took := time.Since(ended); took > publishTimeout {
			t.Errorf("Run took %v to end", took)
		}
		// The library's goroutines may sleep a little longer.
		time.Sleep(5 * time.Second)
		synctest.Wait()
	})
}

func publish(t *testing.T, b *Bus) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	_, err := b.Publish(t.Context(), relay.Message{Topic: "client/a", Body: []byte("hello")}, relay.Retention{})
	return time.Since(began), err
}

func mustPublish(t *testing.T, b *Bus) {
	t.Helper()
	if took, err := publish(t, b); err != nil {
		t.Fatalf("Publish: %v after %v", err, took)
	}
}

func mustSubscribe(t *testing.T, b *Bus, topics ...relay.Topic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := b.Subscribe(ctx, topics...); err != nil {
		t.Fatal(err)
	}
}
