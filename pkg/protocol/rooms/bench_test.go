package rooms

import (
	"fmt"
	"testing"

	"parley/pkg/conn"
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// audience is a shard with n sessions that read everything, the first of them host.
func audience(t testing.TB, n int) *shard {
	f := newFixture(t, false, Config{}, conn.Config{})
	f.room(8, 1, int32(2*n+2))
	var host *shard
	for i := range 2 * n { // connections take turns on the loops
		c := f.connect(t, 0)
		c.send("REQUEST_CONNECT RoomID:8 RoomSecret:1")
		c.wantBegin("RESPONSE_CONNECT")
		go func() {
			for {
				if _, _, err := c.Read(t.Context()); err != nil {
					return
				}
			}
		}()
		if i > 0 {
			continue
		}
		f.nodes[0].server.mu.Lock()
		for _, sh := range f.nodes[0].server.shards {
			host = sh
		}
		f.nodes[0].server.mu.Unlock()
	}
	return host
}

// wantBegin reads a message that begins like this.
func (c *client) wantBegin(begin string) {
	c.t.Helper()
	if got, closed := c.read(); len(got) < len(begin) || got[:len(begin)] != begin {
		c.t.Fatalf("got %s %v, want %s...", got, closed, begin)
	}
}

func broadcast(size int) *relay.Message {
	data := append([]byte{0x1a, byte(size)}, make([]byte, size)...)
	return &relay.Message{From: "0", Body: appendSaid(nil, &said{kind: roomspb.RelayType_BROADCAST, fence: 1, encoded: data})}
}

// onLoop runs f on the shard's loop and waits for it.
func (sh *shard) onLoop(f func()) {
	done := make(chan struct{})
	sh.loop.Do(func() { f(); close(done) })
	sh.loop.Flush()
	<-done
}

// Relaying allocates nothing. (The outputs grow to what a batch needs; that they go back
// when they are written is tested in package conn.)
func TestRelayAllocatesNothing(t *testing.T) {
	sh := audience(t, 2)
	m := broadcast(100)
	sh.onLoop(func() {
		if n := testing.AllocsPerRun(20, func() { sh.Deliver(m) }); n != 0 {
			t.Errorf("%v allocations a broadcast, want 0", n)
		}
	})
}

func BenchmarkBroadcast(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sh := audience(b, n)
			m := broadcast(100)
			b.ReportAllocs()
			for b.Loop() {
				sh.onLoop(func() {
					for range 10 {
						sh.Deliver(m)
					}
				})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(10*n*b.N), "ns/delivery")
		})
	}
}
