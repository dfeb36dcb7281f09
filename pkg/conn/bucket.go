package conn

// Bucket limits a rate: it holds up to burst tokens and gains rate of them a
// second (a token bucket). It belongs to one goroutine.
type Bucket struct {
	rate, burst float64
	tokens      float64
	last        int64 // of the last Take, ns
}

// NewBucket returns a full bucket; a rate of 0 limits nothing. It holds one token
// at least, lest a low rate let nothing through at all.
func NewBucket(rate, burst float64) Bucket {
	burst = max(burst, 1)
	return Bucket{rate: rate, burst: burst, tokens: burst}
}

// Take takes a token; false when there is none. now is in ns, and may stand
// still or go back.
func (b *Bucket) Take(now int64) bool { return b.TakeN(now, 1) }

// TakeUpTo is TakeN for what may be larger than the bucket: it takes a full bucket then.
func (b *Bucket) TakeUpTo(now int64, n int) bool { return b.TakeN(now, min(n, int(b.burst))) }

// TakeN takes n tokens, or none and returns false when there are fewer.
func (b *Bucket) TakeN(now int64, n int) bool {
	if b.rate == 0 {
		return true
	}
	if b.last != 0 && now > b.last {
		b.tokens = min(b.burst, b.tokens+float64(now-b.last)/1e9*b.rate)
	}
	b.last = now
	if b.tokens < float64(n) {
		return false
	}
	b.tokens -= float64(n)
	return true
}
