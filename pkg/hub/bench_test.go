package hub

import (
	"fmt"
	"testing"
	"time"

	"parley/pkg/conn"
	"parley/pkg/relay"
)

// round is a Subscriber that tells when it has had so many messages.
type round struct {
	loop *conn.Loop
	want int
	had  int // owned by the loop
	done chan struct{}
}

func (r *round) Loop() *conn.Loop { return r.loop }

func (r *round) Deliver(*relay.Message) {
	if r.had++; r.had == r.want {
		r.had = 0
		r.done <- struct{}{}
	}
}

// rounds subscribes n of them to a topic and returns what waits until all have
// had their messages.
func (f *fixture) rounds(tb testing.TB, t relay.Topic, n, want int) (wait func()) {
	done := make(chan struct{}, n)
	for i := range n {
		f.subscribe(tb, t, &round{loop: f.loops[i%len(f.loops)], want: want, done: done})
	}
	return func() {
		f.Flush()
		for range n {
			<-done
		}
	}
}

// A dispatch allocates nothing, to one subscriber or to a thousand, delivery
// included, once the loops' queues have grown.
func TestDispatchAllocatesNothing(t *testing.T) {
	for _, subscribers := range []int{1, 1000} {
		f := newFixture(t)
		const batch = 64
		wait := f.rounds(t, "room/a", subscribers, batch)
		m := relay.Message{Topic: "room/a", From: "a", Time: time.Now(), Body: []byte("hello")}
		dispatch := func() {
			for range batch {
				f.Dispatch(m)
			}
			wait()
		}
		for range 10 { // the queues grow
			dispatch()
		}
		if n := testing.AllocsPerRun(100, dispatch); n != 0 {
			t.Errorf("%v allocations for %d messages to %d subscribers", n, batch, subscribers)
		}
		nobody := relay.Message{Topic: "room/nobody"}
		if n := testing.AllocsPerRun(100, func() { f.Dispatch(nobody) }); n != 0 {
			t.Errorf("%v allocations for a message that nobody wants", n)
		}
		f.close()
	}
}

// BenchmarkDispatch is a message's way from the bus to its subscribers, the
// writing of frames not included.
func BenchmarkDispatch(b *testing.B) {
	for _, subscribers := range []int{1, 1000} {
		b.Run(fmt.Sprint("subscribers=", subscribers), func(b *testing.B) {
			f := newFixture(b)
			const batch = 256 // as many as the bus dispatches before it flushes
			wait := f.rounds(b, "room/a", subscribers, batch)
			m := relay.Message{Topic: "room/a", From: "a", Time: time.Now(), Body: []byte("hello")}
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				f.Dispatch(m)
				if n++; n%batch == 0 {
					wait()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers), "ns/delivery")
		})
	}
}
