package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The tests of this file do to a real redis-server what happens to one in
// production. Times are told, not judged: clock_test.go does that. What takes
// longer than relaytest.Patience is missing.

// node is a bus that runs.
type node struct {
	*redisbus.Bus
	*relaytest.Recorder
	name string
	end  func()
}

// join makes a node and runs it until the test ends. It need not be ready yet.
func join(t *testing.T, url string) *node {
	t.Helper()
	return joinBus(t, open(t, url))
}

// joinKeeping is join with a bus on which all messages to clients are kept.
func joinKeeping(t *testing.T, url string) *node {
	t.Helper()
	return joinBus(t, openKeeping(t, url))
}

func joinBus(t *testing.T, b *redisbus.Bus) *node {
	t.Helper()
	received, end := relaytest.Run(t, b)
	return &node{Bus: b, Recorder: received, name: fmt.Sprint("node-", nodes.Load()), end: end}
}

func ready(t *testing.T, ns ...*node) {
	t.Helper()
	for _, n := range ns {
		relaytest.Eventually(t, "the node is ready", func() bool { return n.Ready() == nil })
	}
}

func (n *node) subscribe(t *testing.T, topics ...relay.Topic) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	if _, err := n.Subscribe(ctx, topics...); err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
}

// admin is a connection to the server, past the buses.
func admin(t *testing.T, r *relaytest.Redis) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// killSubscribers cuts every subscriber connection and returns their number.
func killSubscribers(t *testing.T, c *redis.Client) int {
	t.Helper()
	n, err := c.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// steady returns a function that waits until goroutines and file descriptors are
// no more than now.
func steady(t *testing.T) func() {
	t.Helper()
	const pooled = 4 // connections that the library may hold ready
	goroutines, files := runtime.NumGoroutine(), relaytest.Descriptors(t)
	return func() {
		t.Helper()
		relaytest.Eventually(t, fmt.Sprintf("goroutines are at most %d again, and file descriptors %d", goroutines, files+pooled),
			func() bool {
				return runtime.NumGoroutine() <= goroutines && relaytest.Descriptors(t) <= files+pooled
			})
	}
}

// traffic is numbered messages without end to topics.
type traffic struct {
	ledger relaytest.Ledger
	stop   func() // and wait until all is answered
}

func trafficTopic(i int) relay.Topic { return relay.Topic(fmt.Sprint("client/", i)) }

// flow has n publish to so many topics until the traffic is stopped, each topic
// by one sender.
func flow(t *testing.T, n *node, topics int) *traffic {
	return flowKept(t, n, topics, relay.Retention{})
}

// flowKept is flow with messages that are kept.
func flowKept(t *testing.T, n *node, topics int, r relay.Retention) *traffic {
	const senders = 2
	tr := &traffic{ledger: relaytest.Ledger{Window: make(chan struct{}, 2000)}}
	var sent atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for s := range senders {
		wg.Go(func() {
			for seq := 0; ; seq++ {
				for k := s; k < topics; k += senders {
					select {
					case <-stop:
						return
					case tr.ledger.Window <- struct{}{}:
					}
					sent.Add(1)
					n.Enqueue(relay.Message{Topic: trafficTopic(k), Body: strconv.AppendInt(nil, int64(seq), 10)},
						r, &tr.ledger, relaytest.Numbered(k, seq))
				}
			}
		})
	}
	tr.stop = sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
		relaytest.Eventually(t, "every message is answered", func() bool { return int64(tr.ledger.Len()) == sent.Load() })
	})
	t.Cleanup(tr.stop)
	return tr
}

// outcome is how the messages of a traffic fared.
type outcome struct {
	sent, refused int
	late          int // refused, and came nevertheless
	lost          int // accepted, and did not come, as a gap told
}

func (o outcome) String() string {
	return fmt.Sprintf("%d messages sent, %d refused, %d of them came nevertheless; %d lost in gaps that were told", o.sent, o.refused, o.late, o.lost)
}

// check compares what came with what was sent: each message once; those that
// were accepted in order, and none of them missing unless a gap was told there or
// later.
func (tr *traffic) check(t *testing.T, to *node, topics int) (o outcome) {
	t.Helper()
	accepted := make([][]bool, topics) // by topic and number
	for _, a := range tr.ledger.Answers() {
		k, seq := a.Numbers()
		if seq != len(accepted[k]) {
			t.Fatalf("topic %d: message %d answered when %d had its turn", k, seq, len(accepted[k]))
		}
		accepted[k] = append(accepted[k], a.Err == nil)
		o.sent++
		if a.Err != nil {
			o.refused++
			if !errors.Is(a.Err, relay.ErrUnavailable) {
				t.Fatalf("error = %v, want one that is ErrUnavailable", a.Err)
			}
		}
	}
	for k, accepted := range accepted {
		came := make([]bool, len(accepted))
		next, missed, reported, gaps := 0, -1, false, 0
		for _, e := range to.Events(trafficTopic(k)) {
			if e.Gap {
				missed, reported = -1, true
				gaps++
				continue
			}
			seq, err := strconv.Atoi(string(e.Message.Body))
			if err != nil {
				continue // not of this traffic
			}
			if came[seq] {
				t.Fatalf("topic %d: message %d came twice", k, seq)
			}
			came[seq] = true
			if !accepted[seq] {
				o.late++
				continue
			}
			if seq < next {
				t.Fatalf("topic %d: message %d came when %d had its turn", k, seq, next)
			}
			for ; next < seq; next++ {
				if accepted[next] {
					o.lost++
					if !reported {
						missed = next
					}
				}
			}
			next, reported = seq+1, false
		}
		if missed >= 0 { // after a failover stragglers' messages are told some seconds later
			relaytest.Eventually(t, fmt.Sprintf("topic %d: message %d was accepted and did not come, and a gap is told", k, missed), func() bool {
				told := 0
				for _, e := range to.Events(trafficTopic(k)) {
					if e.Gap {
						told++
					}
				}
				return told > gaps
			})
		}
	}
	return o
}

// hears publishes to topics until each of them has had a message from now.
func (n *node) hears(t *testing.T, from *node, topics int) {
	t.Helper()
	for k := range topics {
		before := n.Count(trafficTopic(k))
		relaytest.Eventually(t, fmt.Sprintf("%s is heard", trafficTopic(k)), func() bool {
			_, err := from.Publish(t.Context(), relay.Message{Topic: trafficTopic(k), Body: []byte("anybody?")}, relay.Retention{})
			return err == nil && n.Count(trafficTopic(k)) > before
		})
	}
}

func subscribeTraffic(t *testing.T, n *node, topics int) {
	t.Helper()
	var all []relay.Topic
	for k := range topics {
		all = append(all, trafficTopic(k))
	}
	n.subscribe(t, all...)
}

// Subscriber connections are killed again and again under load, sometimes before
// they have subscribed to everything.
func TestSubscribersKilledUnderLoad(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	c := admin(t, r)
	from, to := join(t, r.URL()), join(t, r.URL())
	ready(t, from, to)
	const topics, kills = 50, 12
	subscribeTraffic(t, to, topics)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	steady := steady(t)
	tr := flow(t, from, topics)
	killed := 0
	var longest time.Duration
	for i := range kills {
		mark := to.Received()
		relaytest.Eventually(t, "messages come", func() bool { return to.Received() > mark+100 })
		gaps := to.Gaps()
		relaytest.Eventually(t, "there is somebody to kill", func() bool {
			n := killSubscribers(t, c)
			killed += n
			return n > 0
		})
		if i%3 != 0 {
			continue // strike again at the first messages
		}
		began := time.Now()
		relaytest.Eventually(t, "every topic is told of the gap", func() bool { return to.Gaps() >= gaps+topics })
		longest = max(longest, time.Since(began))
	}
	to.hears(t, from, topics)
	tr.stop()
	steady()
	o := tr.check(t, to, topics)
	if o.refused > 0 {
		t.Errorf("%d messages were refused, though the publishing connections stood", o.refused)
	}
	t.Logf("%d subscriber connections killed; %v; all topics back after %v at most", killed, o, longest.Round(time.Millisecond))
}

// Redis is stopped for five seconds under load: each message is answered in
// time, and everything goes on by itself.
func TestRedisStopped(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	from, to := join(t, r.URL()), join(t, r.URL())
	ready(t, from, to)
	const topics = 20
	subscribeTraffic(t, to, topics)
	to.hears(t, from, topics)
	steady := steady(t)

	r.Stop(t)
	stopped := time.NewTimer(5 * time.Second)
	defer stopped.Stop()
	var longest atomic.Int64
	var publishers sync.WaitGroup
	stop := make(chan struct{})
	var refused atomic.Int64
	for range 8 {
		publishers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				_, err := from.Publish(t.Context(), relay.Message{Topic: trafficTopic(0), Body: []byte("anybody?")}, relay.Retention{})
				took := int64(time.Since(began))
				for l := longest.Load(); took > l && !longest.CompareAndSwap(l, took); l = longest.Load() {
				}
				switch {
				case errors.Is(err, relay.ErrUnavailable):
					refused.Add(1)
				case err != nil:
					t.Errorf("error = %v, want one that is ErrUnavailable", err)
				}
			}
		})
	}
	relaytest.Eventually(t, "the nodes are not ready", func() bool { return from.Ready() != nil && to.Ready() != nil })
	<-stopped.C
	gaps := to.Gaps()
	r.Cont(t)
	back := time.Now()
	relaytest.Eventually(t, "every topic is told of the gap", func() bool { return to.Gaps() >= gaps+topics })
	restored := time.Since(back)
	ready(t, from, to)
	whole := time.Since(back)
	close(stop)
	publishers.Wait()
	to.hears(t, from, topics)
	if refused.Load() == 0 {
		t.Error("no message was refused in five seconds without Redis")
	}
	wait := time.Duration(longest.Load())
	t.Logf("the longest wait for an answer was %v; topics restored %v, nodes ready %v after SIGCONT",
		wait.Round(time.Millisecond), restored.Round(time.Millisecond), whole.Round(time.Millisecond))
	if wait > relaytest.Patience/3 {
		t.Errorf("a Publish hung for %v", wait)
	}
	steady()
}

// Redis is killed under load and started anew on the same port, twice.
func TestRedisRestarted(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	from, to := join(t, r.URL()), join(t, r.URL())
	ready(t, from, to)
	const topics = 20
	subscribeTraffic(t, to, topics)
	to.hears(t, from, topics)
	steady := steady(t)
	tr := flow(t, from, topics)
	for range 2 {
		mark := to.Received()
		relaytest.Eventually(t, "messages come", func() bool { return to.Received() > mark+100 })
		gaps := to.Gaps()
		r.Kill()
		relaytest.Eventually(t, "the nodes are not ready", func() bool { return from.Ready() != nil && to.Ready() != nil })
		r.Restart(t)
		back := time.Now()
		relaytest.Eventually(t, "every topic is told of the gap", func() bool { return to.Gaps() == gaps+topics })
		restored := time.Since(back)
		ready(t, from, to)
		to.hears(t, from, topics)
		t.Logf("topics restored %v, all well %v after Redis", restored.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	}
	tr.stop()
	steady()
	t.Log(tr.check(t, to, topics))
}

// Redis stalls, too short a time for the subscriber connections to be given up,
// long enough for messages to be refused.
func TestRedisStalls(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	from, to := join(t, r.URL()), join(t, r.URL())
	ready(t, from, to)
	const topics = 20
	subscribeTraffic(t, to, topics)
	tr := flow(t, from, topics)
	refused := func() bool {
		answers := tr.ledger.Answers()
		return len(answers) > 0 && answers[len(answers)-1].Err != nil
	}
	for range 2 {
		mark := to.Received()
		relaytest.Eventually(t, "messages come", func() bool { return to.Received() > mark+100 })
		r.Stop(t)
		relaytest.Eventually(t, "messages are refused", refused)
		r.Cont(t)
		relaytest.Eventually(t, "messages are accepted", func() bool { return !refused() })
	}
	to.hears(t, from, topics)
	tr.stop()
	t.Log(tr.check(t, to, topics))
}

// A node that starts before its Redis waits for it.
func TestRedisComesLater(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	r.Kill()
	n := join(t, r.URL())
	subscribed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
		defer cancel()
		_, err := n.Subscribe(ctx, trafficTopic(0))
		subscribed <- err
	}()
	if _, err := n.Publish(t.Context(), relay.Message{Topic: trafficTopic(0)}, relay.Retention{}); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Publish: error = %v, want one that is ErrUnavailable", err)
	}
	if err := n.Ready(); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Ready: error = %v, want one that is ErrUnavailable", err)
	}
	select {
	case err := <-subscribed:
		t.Fatalf("Subscribe returned %v without Redis", err)
	default:
	}
	r.Restart(t)
	began := time.Now()
	if err := <-subscribed; err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	ready(t, n)
	t.Logf("ready %v after Redis", time.Since(began).Round(time.Millisecond))
	n.hears(t, n, 1)
	if n.Gaps() != 0 {
		t.Errorf("%d gaps in topics that were never subscribed before", n.Gaps())
	}
}
