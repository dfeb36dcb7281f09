package hub

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"parley/pkg/conn"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// Every subscriber of a topic gets its messages, once, and nobody else does.
func TestDispatch(t *testing.T) {
	f := newFixture(t)
	f.bus.place = relay.Position{Epoch: 5, ID: relay.ID{Millis: 7, Seq: 1}}
	var a, both, none []*listener
	for _, loop := range f.loops {
		for range 3 {
			x, y, z := &listener{loop: loop}, &listener{loop: loop}, &listener{loop: loop}
			f.subscribe(t, "room/a", x)
			f.subscribe(t, "room/a", y)
			f.subscribe(t, "room/b", y)
			a, both, none = append(a, x), append(both, y), append(none, z)
		}
	}
	f.send("room/a", "a1")
	f.send("room/b", "b1")
	f.send("room/nobody", "c1")
	f.send("room/a", "a2")
	f.settle()
	for _, c := range []struct {
		name      string
		listeners []*listener
		want      []string
	}{{"a", a, []string{"a1", "a2"}}, {"both", both, []string{"a1", "b1", "a2"}}, {"none", none, nil}} {
		for i, l := range c.listeners {
			if got := l.bodies(); !slices.Equal(got, c.want) {
				t.Errorf("listener %d of %s got %q, want %q", i, c.name, got, c.want)
			}
		}
	}
	if n := f.Len(); n != 2 {
		t.Errorf("%d topics, want 2", n)
	}
}

// One flush has everything go out that was dispatched, to every loop.
func TestFlush(t *testing.T) {
	f := newFixture(t)
	var listeners []*listener
	for _, loop := range f.loops {
		l := &listener{loop: loop}
		f.subscribe(t, "room/a", l)
		listeners = append(listeners, l)
	}
	const n = 1000
	for i := range n {
		f.send("room/a", strconv.Itoa(i))
	}
	f.Flush()
	for _, l := range listeners {
		relaytest.Eventually(t, "every message comes", func() bool { return len(l.bodies()) == n })
	}
}

// Messages keep their order on every loop, however they are flushed.
func TestOrder(t *testing.T) {
	f := newFixture(t)
	var listeners []*listener
	for i := range 16 {
		l := &listener{loop: f.loops[i%len(f.loops)]}
		listeners = append(listeners, l)
		f.subscribe(t, "room/a", l)
		f.subscribe(t, "room/b", l)
	}
	var want []string
	for i := range 10_000 {
		topic := relay.Topic("room/a")
		if i%3 == 0 {
			topic = "room/b"
		}
		want = append(want, strconv.Itoa(i))
		f.send(topic, want[i])
		if i%7 == 0 {
			f.Flush()
		}
	}
	f.settle()
	for i, l := range listeners {
		if got := l.bodies(); !slices.Equal(got, want) {
			t.Errorf("listener %d got %d messages, or out of order", i, len(got))
		}
	}
}

// Each Unsubscribe takes back one Subscribe, of the topic and of the bus.
func TestUnsubscribe(t *testing.T) {
	f := newFixture(t)
	const topic = relay.Topic("room/a")
	var all []*listener
	for i := range 9 {
		l := &listener{loop: f.loops[i%len(f.loops)]}
		all = append(all, l)
		f.subscribe(t, topic, l)
	}
	if n := f.bus.count(topic); n != len(all) {
		t.Errorf("%d subscriptions on the bus, want %d", n, len(all))
	}
	// From the middle, the front and the back.
	var left []*listener
	for i, l := range all {
		if i == 1 || i == 5 {
			left = append(left, l)
			continue
		}
		f.Unsubscribe(topic, l)
	}
	f.send(topic, "to those who are left")
	f.settle()
	for i, l := range all {
		if got, want := len(l.bodies()) == 1, slices.Contains(left, l); got != want {
			t.Errorf("listener %d: got a message: %v, is subscribed: %v", i, got, want)
		}
	}
	if n := f.bus.count(topic); n != len(left) {
		t.Errorf("%d subscriptions on the bus, want %d", n, len(left))
	}
	for _, l := range left {
		f.Unsubscribe(topic, l)
	}
	f.send(topic, "to nobody")
	f.settle()
	for _, l := range left {
		if got := len(l.bodies()); got != 1 {
			t.Errorf("%d messages, want 1", got)
		}
	}
	if f.Len() != 0 || f.bus.count(topic) != 0 {
		t.Errorf("left: %d topics, %d subscriptions on the bus", f.Len(), f.bus.count(topic))
	}
}

// A Subscribe that fails leaves nothing behind, and nobody else worse off.
func TestFailedSubscribe(t *testing.T) {
	f := newFixture(t)
	first, second := &listener{loop: f.loops[0]}, &listener{loop: f.loops[0]}
	f.subscribe(t, "room/a", first)
	failure := fmt.Errorf("%w: for the test", relay.ErrUnavailable)
	f.bus.fail(failure)
	for _, topic := range []relay.Topic{"room/a", "room/b"} {
		if place, err := f.Subscribe(t.Context(), topic, second); !errors.Is(err, failure) || place != (relay.Position{}) {
			t.Errorf("Subscribe(%s) = %v, %v, want the bus's error", topic, place, err)
		}
		f.send(topic, "hello")
	}
	f.settle()
	if got := first.bodies(); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("the first subscriber got %q", got)
	}
	if got := second.bodies(); got != nil {
		t.Errorf("the one who failed got %q", got)
	}
	if n := f.Len(); n != 1 {
		t.Errorf("%d topics, want 1", n)
	}
}

// numbers is a Subscriber that keeps numbers; they are owned by its loop, and to
// be read when that has ended.
type numbers struct {
	listener
	from, upTo int64 // what it must get: from < number <= upTo
	never      int64 // what it must not get: number > never
	seen       []int64
}

func (n *numbers) Deliver(m *relay.Message) {
	i, err := strconv.ParseInt(string(m.Body), 10, 64)
	if err != nil {
		panic(err)
	}
	n.seen = append(n.seen, i)
}

// Subscribers come and go while messages are dispatched: each gets all that was
// dispatched between the return of its Subscribe and its Unsubscribe, in order,
// once, and nothing that was dispatched after that had returned.
func TestSubscribersRaceWithDispatch(t *testing.T) {
	f := newFixture(t)
	const topic = relay.Topic("room/a")
	const workers, rounds = 4, 500
	var started, finished atomic.Int64
	stop := make(chan struct{})
	var dispatcher sync.WaitGroup
	dispatcher.Go(func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			started.Store(i)
			f.send(topic, strconv.FormatInt(i, 10))
			finished.Store(i)
			if i%16 == 0 {
				f.settle() // lets nobody fall behind
			}
		}
	})
	stays := &numbers{listener: listener{loop: f.loops[0]}}
	f.subscribe(t, topic, stays)
	stays.from = started.Load()
	all := make([][]*numbers, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				n := &numbers{listener: listener{loop: f.loops[(w+i)%len(f.loops)]}}
				f.subscribe(t, topic, n)
				n.from = started.Load()
				for range i % 4 { // for some messages, or none
					for seen := finished.Load(); finished.Load() == seen; {
						runtime.Gosched()
					}
				}
				n.upTo = finished.Load()
				f.Unsubscribe(topic, n)
				n.never = started.Load()
				all[w] = append(all[w], n)
			}
		})
	}
	wg.Wait()
	close(stop)
	dispatcher.Wait()
	stays.upTo = finished.Load()
	stays.never = stays.upTo
	f.settle()
	f.close()
	complete := 0
	for _, n := range slices.Concat(append(all, []*numbers{stays})...) {
		at := int64(0)
		for k, i := range n.seen {
			if k > 0 && i != at+1 {
				t.Fatalf("message %d came after message %d", i, at)
			}
			at = i
		}
		if n.upTo > n.from {
			complete++
			if len(n.seen) == 0 || n.seen[0] > n.from+1 || at < n.upTo {
				t.Fatalf("subscribed from %d to %d, got %v", n.from, n.upTo, n.seen)
			}
		}
		if at > n.never {
			t.Fatalf("message %d came, dispatched after Unsubscribe, when %d was", at, n.never)
		}
	}
	if f.bus.count(topic) != 1 || f.Len() != 1 {
		t.Errorf("left: %d topics, %d subscriptions on the bus; want the one that stays", f.Len(), f.bus.count(topic))
	}
	t.Logf("%d messages; %d of %d subscriptions had some to get", finished.Load(), complete, workers*rounds+1)
}

// When the group has closed nothing is delivered any more, though the bus goes
// on for a moment.
func TestNothingAfterClose(t *testing.T) {
	f := newFixture(t)
	var delivered atomic.Int64
	for _, loop := range f.loops {
		f.subscribe(t, "room/a", &counter{loop: loop, n: &delivered})
	}
	stop := make(chan struct{})
	var bus sync.WaitGroup
	dispatched := make(chan struct{}, 1)
	bus.Go(func() {
		for {
			f.send("room/a", "hello")
			f.Flush()
			select {
			case dispatched <- struct{}{}:
			case <-stop:
				return
			}
		}
	})
	for range 100 {
		<-dispatched
	}
	f.settle()
	before := delivered.Load()
	f.close()
	after := delivered.Load()
	for range 100 { // the bus is at it still, and does not hang
		<-dispatched
	}
	close(stop)
	bus.Wait()
	if before == 0 {
		t.Error("nothing was delivered before the close")
	}
	if got := delivered.Load(); got != after {
		t.Errorf("%d messages delivered after the close", got-after)
	}
}

// counter is a Subscriber that counts.
type counter struct {
	loop *conn.Loop
	n    *atomic.Int64
}

func (c *counter) Loop() *conn.Loop       { return c.loop }
func (c *counter) Deliver(*relay.Message) { c.n.Add(1) }
