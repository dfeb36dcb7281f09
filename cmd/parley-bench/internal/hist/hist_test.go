package hist

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestEveryBucketHoldsWhatItSays(t *testing.T) {
	var before time.Duration = -1
	for i := range buckets - 1 {
		last := highest(i)
		if last <= before {
			t.Fatalf("bucket %d ends at %d, the one before at %d", i, last, before)
		}
		for _, d := range []time.Duration{before + 1, last} {
			if got := index(d); got != i {
				t.Fatalf("index(%d) = %d, want %d", d, got, i)
			}
		}
		if width := last - before; i >= perOctave && float64(width) > float64(last)/perOctave+1 {
			t.Fatalf("bucket %d is %d wide and ends at %d: the error is too big", i, width, last)
		}
		before = last
	}
	if got := index(math.MaxInt64); got != buckets-1 {
		t.Fatalf("the longest duration falls into bucket %d, want the last, %d", got, buckets-1)
	}
}

func TestQuantilesAgreeWithSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	all := make([]time.Duration, 20000)
	for i := range all {
		all[i] = time.Duration(math.Exp(rng.NormFloat64()*2 + 12))
		h.Record(all[i])
	}
	slices.Sort(all)
	var s Snapshot
	s.Add(&h)
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		exact := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
		got := s.Quantile(q)
		if got < exact || float64(got) > float64(exact)*(1+1.0/perOctave)+1 {
			t.Errorf("quantile %v = %v, exactly %v", q, got, exact)
		}
	}
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	if want := sum / time.Duration(len(all)); s.Mean() != want {
		t.Errorf("mean %v, want %v", s.Mean(), want)
	}
	if want := all[len(all)-1]; s.Max != want {
		t.Errorf("max %v, want %v", s.Max, want)
	}
}

func TestEmptyAndExtremeValues(t *testing.T) {
	var s Snapshot
	if s.Quantile(0.5) != 0 || s.Mean() != 0 {
		t.Error("an empty snapshot has quantiles")
	}
	var h Histogram
	h.Record(-time.Second)
	h.Record(300 * time.Hour)
	s.Add(&h)
	if got := s.Quantile(0.5); got != 0 {
		t.Errorf("a negative duration counts as %v, want 0", got)
	}
	if got := s.Quantile(1); got != 300*time.Hour {
		t.Errorf("the longest is %v, want it exact", got)
	}
}

func TestSinceCountsTheIntervalOnly(t *testing.T) {
	var h Histogram
	h.Record(time.Second)
	var first, second Snapshot
	first.Add(&h)
	h.Record(time.Millisecond)
	h.Record(time.Millisecond)
	second.Add(&h)
	d := second.Since(first)
	if d.Count != 2 || d.Mean() != time.Millisecond {
		t.Errorf("count %d, mean %v; want 2 of 1ms", d.Count, d.Mean())
	}
	if got := d.Quantile(1); got > 1010*time.Microsecond {
		t.Errorf("the interval's greatest is %v: it holds what came before", got)
	}
	if since := first.Since(Snapshot{}); since.Count != 1 {
		t.Errorf("since nothing: %d, want 1", since.Count)
	}
}

func TestRecordFromManyGoroutines(t *testing.T) {
	var h Histogram
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.Record(time.Duration(g*1000 + i))
			}
		})
	}
	wg.Wait()
	var s Snapshot
	s.Add(&h)
	if s.Count != 8000 || s.Max != 7999 {
		t.Errorf("count %d, max %d; want 8000, 7999", s.Count, s.Max)
	}
	if n := testing.AllocsPerRun(100, func() { h.Record(time.Millisecond) }); n != 0 {
		t.Errorf("recording allocates %v times", n)
	}
}
