package account

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/pkg/relay"
)

// gated is a pool whose computations wait for one who opens.
func gated() (p *pool, running *atomic.Int32, open func()) {
	p = realPool()
	running = new(atomic.Int32)
	gate := make(chan struct{})
	p.key = func(_, _ []byte, _, _, _, length int) ([]byte, error) {
		running.Add(1)
		defer running.Add(-1)
		<-gate
		return make([]byte, length), nil
	}
	return p, running, sync.OnceFunc(func() { close(gate) })
}

// As many are computed at once as there are workers, as many more wait as there is
// room, and who comes then is told at once.
func TestPoolBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, running, open := gated()
		defer open()
		workers := max(1, runtime.GOMAXPROCS(0)/2)
		var done, failed atomic.Int32
		var wg sync.WaitGroup
		for range workers + maxWaiting {
			wg.Go(func() {
				if _, err := p.make(t.Context(), "x", nil); err != nil {
					failed.Add(1)
				}
				done.Add(1)
			})
		}
		synctest.Wait()
		if got := int(running.Load()); got != workers || p.waiting() != maxWaiting || done.Load() != 0 {
			t.Errorf("%d are computed and %d wait, %d are done; want %d and %d", got, p.waiting(), done.Load(), workers, maxWaiting)
		}
		if _, err := p.make(t.Context(), "x", nil); !errors.Is(err, ErrBusy) {
			t.Errorf("one too many: error = %v, want %v", err, ErrBusy)
		}
		open()
		wg.Wait()
		if failed.Load() != 0 || p.waiting() != 0 {
			t.Errorf("%d have failed, %d wait", failed.Load(), p.waiting())
		}
		if _, err := p.make(t.Context(), "x", nil); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
	})
}

// Who waits gives up when nobody wants the answer any more, and after a while.
func TestPoolGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, running, open := gated()
		var wg sync.WaitGroup
		for range cap(p.workers) {
			wg.Go(func() { _, _ = p.make(t.Context(), "x", nil) })
		}
		synctest.Wait()
		busy := running.Load()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := p.make(ctx, "x", nil); !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: error = %v, want %v", time.Since(began), err, relay.ErrUnavailable)
		}
		began = time.Now()
		if _, err := p.make(t.Context(), "x", nil); !errors.Is(err, ErrBusy) || time.Since(began) != patience {
			t.Errorf("after %v: error = %v, want %v after %v", time.Since(began), err, ErrBusy, patience)
		}
		if p.waiting() != 0 || running.Load() != busy {
			t.Errorf("%d wait, %d are computed", p.waiting(), running.Load())
		}
		open()
		wg.Wait()
		if _, err := p.make(ctx, "x", nil); !errors.Is(err, relay.ErrUnavailable) || running.Load() != 0 {
			t.Errorf("nobody wants it: error = %v", err)
		}
	})
}

// Whoever finds out while it waits that there is no use in it computes nothing.
func TestPoolAsksFirst(t *testing.T) {
	p := newPool(prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x"}))
	computed := 0
	p.key = func(_, _ []byte, _, _, _, length int) ([]byte, error) {
		computed++
		return make([]byte, length), nil
	}
	if _, err := p.make(t.Context(), "x", func() error { return relay.ErrEmailTaken }); !errors.Is(err, relay.ErrEmailTaken) || computed != 0 {
		t.Errorf("error = %v, %d passwords computed", err, computed)
	}
	if _, err := p.make(t.Context(), "x", func() error { return nil }); err != nil || computed != 1 {
		t.Errorf("error = %v, %d passwords computed", err, computed)
	}
}

// Whoever signs in waits for one or two who sign up, not for all.
func TestPoolLetsSignInsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x"}))
		p.workers, p.makers = make(chan struct{}, 1), make(chan struct{}, 1)
		p.key = func(_, _ []byte, _, _, _, length int) ([]byte, error) {
			time.Sleep(time.Second)
			return make([]byte, length), nil
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := p.make(t.Context(), "x", nil); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		if _, err := p.fits(t.Context(), "x", decoy); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
		wg.Wait()
	})
}
