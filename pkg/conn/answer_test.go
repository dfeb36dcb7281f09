package conn

import (
	"bytes"
	"testing"
	"testing/synctest"
)

// What a client has asked for may exceed the bound of its queue; what others send
// to it meanwhile may not, and once it has taken all the bound is what it was.
func TestAnswersDoNotCountAsSlowness(t *testing.T) {
	const limit = 1000
	for name, test := range map[string]struct {
		others []int // bytes queued beside the answer, frames' headers included
		slow   bool
	}{
		"up to the bound": {[]int{limit - 200, 200}, false},
		"beyond it":       {[]int{limit - 200, 201}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, Config{MaxQueueBytes: limit}, funcs{})
				p := f.pipe(t)
				c := <-f.opened
				answer := bytes.Repeat([]byte("a"), 10*limit)
				c.Do(func() { c.QueueAnswer(AppendFrame(nil, OpText, answer)) })
				for _, n := range test.others {
					c.Do(func() { c.Queue(AppendFrame(nil, OpText, make([]byte, n-4))) }) // 4: the header
				}
				c.Flush()
				synctest.Wait()
				if got := p.read(); !bytes.Equal(got.payload, answer) {
					t.Fatalf("got %v, want the answer", got)
				}
				if test.slow {
					p.wantClose(CodeTryLater, "slow reader")
					_ = p.nc.Close()
					f.wantEnded(ReasonSlow)
					return
				}
				for range test.others {
					p.read()
				}
				synctest.Wait()
				c.Do(func() {
					if c.asked != 0 {
						t.Errorf("%d bytes still count as asked for when all was taken", c.asked)
					}
				})
				c.Flush()
				synctest.Wait()
				_ = p.nc.Close()
				f.wantEnded(ReasonNetwork)
			})
		})
	}
}
