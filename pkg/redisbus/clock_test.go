package redisbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/pkg/relay"
)

// The tests of this file run on synctest's clock: what they say of time is exact.

// Whatever state Redis is in, a message is answered within two seconds, also one
// that comes while others wait already.
func TestAnswerWithinTwoSeconds(t *testing.T) {
	refused := errors.New("connection refused")
	for _, state := range []struct {
		name  string
		enter func(*testing.T, *memoryRedis)
	}{
		{"silent", func(_ *testing.T, r *memoryRedis) { r.freeze() }},
		{"cut off", func(_ *testing.T, r *memoryRedis) { r.silence(); r.setDialer(hang) }},
		{"cut off one way", func(_ *testing.T, r *memoryRedis) { r.silence(); r.freeze() }},
		{"refusing", func(t *testing.T, r *memoryRedis) {
			r.cut(t, true)
			r.setDialer(func(context.Context, string, string) (net.Conn, error) { return nil, refused })
		}},
		{"closing at once", func(t *testing.T, r *memoryRedis) {
			r.cut(t, true)
			r.setDialer(func(context.Context, string, string) (net.Conn, error) {
				a, b := net.Pipe()
				return a, b.Close()
			})
		}},
		{"unreachable", func(t *testing.T, r *memoryRedis) { r.cut(t, true); r.setDialer(hang) }},
		{"babbling", func(t *testing.T, r *memoryRedis) { r.cut(t, true); r.setDialer(babble) }},
	} {
		t.Run(state.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, _ *times) {
				mustSubscribe(t, b, "client/a")
				mustPublish(t, b)
				state.enter(t, r)
				var wg sync.WaitGroup
				var longest atomic.Int64
				// One every 50 ms for ten seconds, answered or not.
				for range 200 {
					wg.Go(func() {
						took, err := publish(t, b)
						if !errors.Is(err, relay.ErrUnavailable) {
							t.Errorf("error = %v, want one that is ErrUnavailable", err)
						}
						if took > 2*time.Second {
							t.Errorf("answered after %v", took)
						}
						for l := longest.Load(); int64(took) > l && !longest.CompareAndSwap(l, int64(took)); l = longest.Load() {
						}
					})
					time.Sleep(50 * time.Millisecond)
				}
				wg.Wait()
				t.Logf("the longest wait was %v", time.Duration(longest.Load()))
				if b.Ready() == nil {
					t.Error("still ready")
				}
			})
		})
	}
}

// hang is a network that loses everything.
func hang(ctx context.Context, _, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// babble is somebody on Redis's port who speaks something else, slowly and
// without end.
func babble(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	go func() {
		defer b.Close()
		for {
			if _, err := b.Write([]byte("+")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	go func() {
		var p [512]byte
		for {
			if _, err := b.Read(p[:]); err != nil {
				return
			}
		}
	}()
	return a, nil
}

// A Redis that does not answer for five seconds and then does: within two
// seconds everything is as before, and every subscribed topic is told of the gap.
func TestRecoveryFromFreeze(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		mustSubscribe(t, b, "client/a")
		mustPublish(t, b)
		r.freeze()
		time.Sleep(5 * time.Second)
		if b.Ready() == nil {
			t.Error("ready, though Redis has not answered for five seconds")
		}
		r.thaw()
		thawed := time.Now()
		for {
			if _, err := publish(t, b); err == nil {
				if n, gaps := heard.counts(); b.Ready() == nil && gaps == 1 && n >= 2 {
					break
				}
			}
			if time.Since(thawed) > 2*time.Second {
				n, gaps := heard.counts()
				t.Fatalf("not as before within 2s: ready: %v, %d messages, %d gaps", b.Ready(), n, gaps)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("recovered %v after Redis did", time.Since(thawed))
	})
}

// A connection that stands and says nothing is replaced when the canary has been
// silent for three seconds.
func TestSilentConnectionIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		mustSubscribe(t, b, "client/a")
		mustPublish(t, b)
		time.Sleep(10 * time.Second)
		if err := b.Ready(); err != nil {
			t.Fatal(err)
		}
		if n := testCounter(t, b.metrics.reconnects); n != 0 {
			t.Fatalf("%v reconnects without a cause", n)
		}
		r.silence()
		began := time.Now()
		for {
			if _, gaps := heard.counts(); gaps > 0 {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatal("not replaced")
			}
			time.Sleep(10 * time.Millisecond)
		}
		// It was heard last within the second before.
		if took := time.Since(began); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("replaced after %v", took)
		} else {
			t.Logf("replaced after %v", took)
		}
		for time.Since(began) < 10*time.Second && b.Ready() != nil {
			time.Sleep(10 * time.Millisecond)
		}
		before, _ := heard.counts()
		mustPublish(t, b)
		synctest.Wait()
		if after, gaps := heard.counts(); after != before+1 || gaps != 1 {
			t.Errorf("%d messages and %d gaps afterwards, want 1 and 1", after-before, gaps)
		}
	})
}

// A connection is replaced too when only the canary is lost, though other
// messages come.
func TestCanaryAloneIsMissed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		mustSubscribe(t, b, "client/a")
		mustPublish(t, b)
		r.lose(b.links[0].canary)
		began := time.Now()
		for {
			if _, gaps := heard.counts(); gaps > 0 {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatal("not replaced")
			}
			mustPublish(t, b)
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < 2*time.Second || took > 4*time.Second {
			t.Errorf("replaced after %v", took)
		}
		if err := b.Ready(); err == nil {
			t.Error("ready, though the node does not hear itself")
		}
	})
}

// A Subscribe that was abandoned before Redis answered, and a later one of the
// same topic: the late answer to the first must not be taken for an answer to
// something that Redis has yet to do.
func TestLateConfirmation(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		mustSubscribe(t, b, "client/b") // the connection stands
		r.delay("SUBSCRIBE", 2*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := b.Subscribe(ctx, "client/a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("error = %v, want that of the deadline", err)
		}
		time.Sleep(1500 * time.Millisecond) // longer than an unwanted topic is held
		mustSubscribe(t, b, "client/a")
		const messages = 300
		for range messages { // for longer than any SUBSCRIBE takes
			mustPublish(t, b)
			time.Sleep(10 * time.Millisecond)
		}
		if n, _ := heard.counts(); n != messages {
			t.Errorf("%d messages came of %d published after Subscribe had returned", n, messages)
		}
	})
}

// What a node's own clients send while its subscriber connection is broken waits
// until all its topics are subscribed again: it is late, not lost.
func TestOwnMessagesWaitForTheSubscriberConnection(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		var topics []relay.Topic
		for i := range 1000 {
			topics = append(topics, relay.Topic(fmt.Sprint("client/", i)))
		}
		mustSubscribe(t, b, append(topics, "client/a")...)
		for i := range 10 {
			r.cut(t, false)
			synctest.Wait() // the node has noticed
			if b.Ready() == nil {
				t.Error("ready without a subscriber connection")
			}
			took, err := publish(t, b)
			if err != nil {
				t.Fatalf("Publish: %v after %v", err, took)
			}
			synctest.Wait()
			if n, gaps := heard.counts(); n != i+1 || gaps != (i+1)*(len(topics)+1) {
				t.Errorf("%d messages of %d came after %d gaps", n, i+1, gaps)
			}
			time.Sleep(time.Second)
		}
		if n := testCounter(t, b.metrics.reconnects); n != 10 {
			t.Errorf("%v reconnects, want 10", n)
		}
	})
}

// While Redis is away the node tries again and again, at a pace that harms
// nobody, and it is back within two seconds.
func TestPaceOfReconnecting(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, heard *times) {
		mustSubscribe(t, b, "client/a")
		mustPublish(t, b)
		r.setDialer(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") })
		r.cut(t, true)
		time.Sleep(5 * time.Second) // the pauses have their full length
		before := r.dials.Load()
		const minute = 60
		time.Sleep(minute * time.Second)
		dials := r.dials.Load() - before
		// Pauses of 0.2 to 0.6 s, and one attempt a second of the canary's.
		if dials < minute || dials > 6*minute {
			t.Errorf("%d attempts to connect in %d seconds", dials, minute)
		}
		r.setDialer(nil)
		back := time.Now()
		for {
			if _, gaps := heard.counts(); gaps > 0 && b.Ready() == nil {
				break
			}
			if time.Since(back) > 2*time.Second {
				t.Fatalf("not back within 2s: %v", b.Ready())
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// A node that ends while Redis is silent does not wait for it.
func TestEndWhileRedisIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, _ *times) {
		mustSubscribe(t, b, "client/a")
		r.freeze()
		go func() { _, _ = publish(t, b) }()
		time.Sleep(10 * time.Millisecond)
		// inBubble ends the bus and looks how long that takes.
	})
}

// A topic that nobody wants is held for a second, and given up within another.
func TestUnwantedTopicIsHeldForAWhile(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, _ *times) {
		mustSubscribe(t, b, "client/a")
		asked := r.called("SUBSCRIBE")
		b.Unsubscribe("client/a")
		time.Sleep(unsubscribeDelay - time.Millisecond)
		mustSubscribe(t, b, "client/a") // back in time: nothing is asked of Redis
		b.Unsubscribe("client/a")
		time.Sleep(unsubscribeDelay - time.Millisecond)
		if n := r.called("SUBSCRIBE") - asked; n != 0 {
			t.Errorf("%d SUBSCRIBE for a topic that was subscribed", n)
		}
		if n := r.called("UNSUBSCRIBE"); n != 0 {
			t.Errorf("%d UNSUBSCRIBE before the topic's second was over", n)
		}
		time.Sleep(time.Second)
		if n := r.called("UNSUBSCRIBE"); n != 1 {
			t.Errorf("%d UNSUBSCRIBE, want 1", n)
		}
		if n := len(b.links[0].table.topics); n != 0 {
			t.Errorf("%d topics left", n)
		}
		mustSubscribe(t, b, "client/a")
		if n := r.called("SUBSCRIBE") - asked; n != 1 {
			t.Errorf("%d SUBSCRIBE, want 1", n)
		}
	})
}

// While Redis is away clients come, wait and go, and leave nothing behind.
func TestFailedSubscribesLeaveNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, _ *times) {
		r.setDialer(hang)
		r.silence()
		time.Sleep(5 * time.Second)
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if _, err := b.Subscribe(ctx, relay.Topic(fmt.Sprint("client/", i%500))); !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("error = %v, want one that is ErrUnavailable", err)
				}
			})
		}
		wg.Wait()
		time.Sleep(2 * unsubscribeDelay)
		synctest.Wait()
		b.links[0].table.mu.Lock()
		defer b.links[0].table.mu.Unlock()
		if topics, asks, idle := len(b.links[0].table.topics), len(b.links[0].table.asks), len(b.links[0].table.idle); topics+asks+idle != 0 {
			t.Errorf("left: %d topics, %d to be asked for, %d idle", topics, asks, idle)
		}
		if n := testCounter(t, b.metrics.subscriptions); n != 0 {
			t.Errorf("the metric says %v subscriptions", n)
		}
	})
}

// How a bus tells whether it is ready.
func TestReady(t *testing.T) {
	inBubble(t, func(t *testing.T, r *memoryRedis, b *Bus, _ *times) {
		mustSubscribe(t, b, "client/a")
		synctest.Wait()
		if err := b.Ready(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if err := b.Ready(); err != nil {
			t.Error(err)
		}
		if age := b.CanaryAge(); age > canaryInterval {
			t.Errorf("the canary was heard %v ago", age)
		}
		r.freeze()
		time.Sleep(canarySilence + canaryInterval)
		if err := b.Ready(); !errors.Is(err, relay.ErrUnavailable) {
			t.Errorf("error = %v, want one that is ErrUnavailable", err)
		}
		if age := b.CanaryAge(); age < canarySilence {
			t.Errorf("the canary was heard %v ago", age)
		}
	})
}
