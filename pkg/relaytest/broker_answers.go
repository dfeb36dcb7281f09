package relaytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
)

// promised is how long the answer to a publish may take, and hang what a test
// calls a hang, since a busy machine is no fault.
const (
	promised = 2 * time.Second
	hang     = 5 * promised
)

// Every message is answered exactly once, in the order of its topic, while Redis
// is there and when it goes.
func testAnswers(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const topics, each = 4, 4000
	name := func(k int) relay.Topic { return relay.Topic(fmt.Sprint("room/", k)) }
	for k := range topics {
		to.subscribe(name(k))
	}
	enqueue := func(ledger *Ledger, first, n int) {
		var wg sync.WaitGroup
		for k := range topics {
			wg.Go(func() {
				for i := first; i < first+n; i++ {
					if ledger.Window != nil {
						ledger.Window <- struct{}{}
					}
					from.Enqueue(relay.Message{Topic: name(k), Body: fmt.Append(nil, i)}, relay.Retention{}, ledger, Numbered(k, i))
				}
			})
		}
		wg.Wait()
	}
	ledger := windowed()
	enqueue(ledger, 0, each)
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == topics*each })
	answered(t, ledger, topics, each)
	for k := range topics {
		to.await(name(k), each)
	}

	// The next ones go out while Redis goes away, and none waits for another.
	ledger = new(Ledger)
	var wg sync.WaitGroup
	wg.Go(func() { enqueue(ledger, 0, each) })
	Eventually(t, "messages are answered", func() bool { return ledger.Len() > 0 })
	f.Down()
	wg.Wait()
	enqueue(ledger, each, each)
	Eventually(t, "every message is answered", func() bool { return ledger.Len() == 2*topics*each })
	next := make([]int, topics)
	failed := 0
	for _, a := range ledger.Answers() {
		k, i := a.Numbers()
		if i != next[k] {
			t.Fatalf("topic %d: message %d answered, its turn was %d's", k, i, next[k])
		}
		next[k]++
		if a.Err != nil {
			failed++
			if !errors.Is(a.Err, relay.ErrUnavailable) {
				t.Fatalf("error = %v, want one that is ErrUnavailable", a.Err)
			}
		}
	}
	if failed < topics*each {
		t.Errorf("%d messages refused, but %d were sent after Redis had gone", failed, topics*each)
	}
}

// Without Redis whoever waits is told so, and in time.
func testAway(t *testing.T, f *fleet) {
	m := f.join()
	m.subscribe("client/a")
	m.publish("client/a", "there")
	f.Down()
	var longest atomic.Int64
	for range 2 { // as its connections break, and with none
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				began := time.Now()
				_, err := m.Publish(t.Context(), relay.Message{Topic: "client/a"}, relay.Retention{})
				took := time.Since(began)
				for {
					l := longest.Load()
					if int64(took) <= l || longest.CompareAndSwap(l, int64(took)) {
						break
					}
				}
				if !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("Publish: error = %v, want one that is ErrUnavailable", err)
				}
			})
		}
		wg.Wait()
	}
	took := time.Duration(longest.Load())
	t.Logf("the longest wait for an answer was %v, promised are %v", took.Round(time.Millisecond), promised)
	if took > hang {
		t.Errorf("a Publish hung for %v", took)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := m.Subscribe(ctx, "client/b"); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Subscribe: error = %v, want one of ErrUnavailable and the context's", err)
	}
	ended, cancelled := context.WithCancel(t.Context())
	cancelled()
	if _, err := m.Publish(ended, relay.Message{Topic: "client/a"}, relay.Retention{}); !errors.Is(err, relay.ErrUnavailable) {
		t.Errorf("Publish with a context that has ended: error = %v, want one that is ErrUnavailable", err)
	}
}

// There is a bound to what waits for Redis. Beyond it a message is refused at
// once, and nothing else is: what was taken before is answered, and what comes
// later is taken.
func testOverload(t *testing.T, f *fleet) {
	b := f.Open(t)
	const enough = 1 << 22 // no node should hold so many
	ledger := new(Ledger)
	accepted := 0
	for ; ledger.Len() == 0; accepted++ { // the broker does not run: everything waits
		if accepted == enough {
			t.Fatalf("%d messages wait, and there is no end", accepted)
		}
		b.Enqueue(relay.Message{Topic: "room/full"}, relay.Retention{}, ledger, Numbered(0, accepted))
	}
	accepted--
	refused := ledger.Answers()[0]
	if _, i := refused.Numbers(); i != accepted {
		t.Fatalf("message %d was refused when message %d was one too many", i, accepted)
	}
	if !errors.Is(refused.Err, relay.ErrOverloaded) || !errors.Is(refused.Err, relay.ErrUnavailable) {
		t.Fatalf("error = %v, want one that is ErrOverloaded and ErrUnavailable", refused.Err)
	}
	t.Logf("the bound is %d messages", accepted)
	b.Enqueue(relay.Message{Topic: "room/full"}, relay.Retention{}, ledger, Numbered(0, accepted))
	if ledger.Len() != 2 {
		t.Error("after one refusal another message was taken, and nothing had gone out")
	}

	m := f.run(b)
	Eventually(t, "what was taken is answered", func() bool { return ledger.Len() == accepted+2 })
	for i, a := range ledger.Answers()[2:] {
		if _, n := a.Numbers(); n != i {
			t.Fatalf("message %d answered, its turn was %d's", n, i)
		}
		if a.Err != nil && !errors.Is(a.Err, relay.ErrUnavailable) {
			t.Fatalf("error = %v, want none or one that is ErrUnavailable", a.Err)
		}
	}
	m.publish("room/full", "there is room again")
}

// When its context ends, Run returns, and whoever waits is told.
func testEnd(t *testing.T, f *fleet) {
	m := f.join()
	m.subscribe("client/a")
	end(t, m)
}

// The same while Redis is away.
func testEndWithoutRedis(t *testing.T, f *fleet) {
	m := f.join()
	m.subscribe("client/a")
	f.Down()
	end(t, m)
}

func end(t *testing.T, m *member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	ledger := &Ledger{Window: make(chan struct{}, 10_000)}
	var sent atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case ledger.Window <- struct{}{}:
				}
				sent.Add(1)
				m.Enqueue(relay.Message{Topic: "client/a"}, relay.Retention{}, ledger, Numbered(k, i))
			}
		})
	}
	waiting := make(chan error, 1)
	wg.Go(func() {
		for i := 0; ; i++ {
			if _, err := m.Subscribe(ctx, relay.Topic(fmt.Sprint("client/b", i))); err != nil {
				waiting <- err
				return
			}
		}
	})
	Eventually(t, "messages are answered", func() bool { return ledger.Len() > 1000 })
	m.end()
	if err := <-waiting; !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Subscribe: error = %v, want one that is ErrClosed", err)
	}
	close(stop)
	wg.Wait()
	if got, want := int64(ledger.Len()), sent.Load(); got != want {
		t.Errorf("%d of %d messages answered at the end", got, want)
	}
	seen := map[relay.Token]bool{}
	for _, a := range ledger.Answers() {
		if seen[a.Token] {
			k, i := a.Numbers()
			t.Fatalf("message %d of sender %d was answered twice", i, k)
		}
		seen[a.Token] = true
		if a.Err != nil && !errors.Is(a.Err, relay.ErrClosed) && !errors.Is(a.Err, relay.ErrUnavailable) {
			t.Fatalf("error = %v, want none, or one that is ErrClosed or ErrUnavailable", a.Err)
		}
	}

	late := new(Ledger)
	m.Enqueue(relay.Message{Topic: "client/a"}, relay.Retention{}, late, relay.Token{})
	if got := late.Answers(); len(got) != 1 || !errors.Is(got[0].Err, relay.ErrClosed) {
		t.Errorf("Enqueue after the end: answers = %v, want ErrClosed at once", got)
	}
	if _, err := m.Publish(ctx, relay.Message{Topic: "client/a"}, relay.Retention{}); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Publish after the end: error = %v, want one that is ErrClosed", err)
	}
	if _, err := m.Subscribe(ctx, "client/c"); !errors.Is(err, relay.ErrClosed) {
		t.Errorf("Subscribe after the end: error = %v, want one that is ErrClosed", err)
	}
	m.Unsubscribe("client/a")
}
