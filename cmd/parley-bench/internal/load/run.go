package load

import (
	"context"
	"runtime"
	"sync"
	"time"

	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/pace"
	"parley/cmd/parley-bench/internal/wsclient"
)

// follow calls send for what one lane of a schedule says, when it is due, until
// over tells of a time that nothing is due any more. Times are nanoseconds on the
// clock now, on which the schedule began at begin. It keeps its thread, whose sleep
// is exact.
func follow(lane *pace.Lane, begin int64, now func() int64, over func(due int64) bool, send func(stream int, due int64)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nap = 50 * time.Millisecond // an end of the run is seen that soon
	for {
		stream, after := lane.Next()
		due := begin + int64(after)
		for {
			if over(due) {
				return
			}
			wait := time.Duration(due - now())
			if wait <= 0 {
				break
			}
			host.Sleep(min(wait, nap))
		}
		send(stream, due)
	}
}

// drain waits until what was due is sent and every message is settled, then for
// linger; in all no longer than most, and no longer than ctx, unless that has ended
// the run already.
func drain(ctx context.Context, most, linger time.Duration, sent <-chan struct{}, settled func() bool, progress func()) {
	if ctx.Err() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	done := make(chan struct{})
	var poller sync.WaitGroup
	poller.Go(func() {
		select {
		case <-sent:
		case <-ctx.Done():
			return
		}
		poll := time.NewTicker(10 * time.Millisecond)
		defer poll.Stop()
		for !settled() {
			select {
			case <-poll.C:
			case <-ctx.Done():
				return
			}
		}
		close(done)
	})
	deadline, _ := ctx.Deadline()
	watch(ctx, deadline, done, progress)
	select {
	case <-done:
		watch(ctx, time.Now().Add(linger), nil, progress)
	default:
	}
	cancel()
	poller.Wait()
}

// leaveTimeout bounds the closing handshakes at the end of a run.
const leaveTimeout = 5 * time.Second

// leave closes connections in good order, and returns when those who read from them
// have ended: what a server had passed on by then is still counted. Whoever sends
// leaves before those who listen. What a socket still blocks ends with it.
func leave[T any](readers *sync.WaitGroup, all []T, conn func(T) *wsclient.Conn) {
	deadline := time.Now().Add(leaveTimeout)
	for _, one := range all {
		_ = conn(one).SetDeadline(deadline)
	}
	for _, one := range all {
		_ = conn(one).StartClose(wsclient.CloseNormal, "")
	}
	readers.Wait()
}
