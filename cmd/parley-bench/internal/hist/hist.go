// Package hist counts durations in log-linear buckets, after the idea of
// Gil Tene's HdrHistogram: every power of two is cut into the same number of
// equal buckets, so the relative error is the same for microseconds and for
// minutes, and recording is one increment.
package hist

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// perOctave buckets cut each power of two: a relative error below 1/128.
	perOctaveBits = 7
	perOctave     = 1 << perOctaveBits
	// octaves above the exact range; the last bucket ends near 73 minutes.
	octaves = 34
	buckets = perOctave * (octaves + 1)
)

// Histogram counts durations. The zero value is ready. Any number of
// goroutines may record and take snapshots at once; nothing blocks and nothing
// is allocated by recording.
type Histogram struct {
	counts [buckets]atomic.Uint64
	sum    atomic.Int64
	max    atomic.Int64
}

// Record counts d. Less than zero counts as zero; what is longer than the last
// bucket is counted there, and Max is exact all the same.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[index(d)].Add(1)
	h.sum.Add(int64(d))
	for m := h.max.Load(); int64(d) > m && !h.max.CompareAndSwap(m, int64(d)); {
		m = h.max.Load()
	}
}

// index returns the bucket of d, which is not negative.
func index(d time.Duration) int {
	v := uint64(d)
	if v < perOctave {
		return int(v)
	}
	e := bits.Len64(v) - perOctaveBits - 1
	return min(perOctave*e+int(v>>e), buckets-1)
}

// highest returns the longest duration that bucket i counts.
func highest(i int) time.Duration {
	if i < 2*perOctave {
		return time.Duration(i)
	}
	e := i/perOctave - 1
	mantissa := i - perOctave*e
	return time.Duration((mantissa+1)<<e - 1)
}

// Snapshot is a histogram's content at one moment. The zero value is empty.
// One goroutine owns it.
type Snapshot struct {
	Count  uint64
	Sum    time.Duration
	Max    time.Duration
	counts []uint64
}

// Add adds what h has counted so far. Recording may go on meanwhile; what is
// recorded during the call is in or out, bucket by bucket.
func (s *Snapshot) Add(h *Histogram) {
	if s.counts == nil {
		s.counts = make([]uint64, buckets)
	}
	for i := range h.counts {
		n := h.counts[i].Load()
		s.counts[i] += n
		s.Count += n
	}
	s.Sum += time.Duration(h.sum.Load())
	s.Max = max(s.Max, time.Duration(h.max.Load()))
}

// Since returns what s counts and the earlier snapshot of the same histograms
// does not. Its Max is that of the whole time: a histogram does not know when
// the longest came.
func (s Snapshot) Since(earlier Snapshot) Snapshot {
	d := Snapshot{
		Count:  s.Count - earlier.Count,
		Sum:    s.Sum - earlier.Sum,
		Max:    s.Max,
		counts: append([]uint64(nil), s.counts...),
	}
	for i, n := range earlier.counts {
		d.counts[i] -= n
	}
	return d
}

// Quantile returns the duration that the share q (0 to 1) of all does not
// exceed, at most 1/128 too long, and 0 when nothing was counted.
func (s Snapshot) Quantile(q float64) time.Duration {
	if s.Count == 0 {
		return 0
	}
	rank := uint64(math.Ceil(min(max(q, 0), 1) * float64(s.Count)))
	rank = max(rank, 1)
	var seen uint64
	for i, n := range s.counts {
		if seen += n; seen >= rank && n > 0 {
			if i == buckets-1 {
				return s.Max
			}
			return min(highest(i), s.Max)
		}
	}
	return s.Max
}

// Mean returns the average, exactly, and 0 when nothing was counted.
func (s Snapshot) Mean() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return s.Sum / time.Duration(s.Count)
}
