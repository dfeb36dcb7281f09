package conn

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	const start = int64(1_700_000_000_000_000_000)
	second := int64(time.Second)
	b := NewBucket(50, 200)
	takeAll := func(now int64) (n int) {
		for b.Take(now) {
			n++
		}
		return n
	}
	for _, step := range []struct {
		at   int64
		want int
	}{
		{start, 200}, // full
		{start, 0},
		{start + second/51, 0}, // not a whole token yet
		{start + second/50, 1}, // the parts add up
		{start + second/50 + second, 50},
		{start + 3*second, 99},
		{start + 100*second, 200}, // not more than it holds
		{start + 99*second, 0},    // the clock may go back
		{start + 99*second, 0},
	} {
		if got := takeAll(step.at); got != step.want {
			t.Errorf("after %v: %d tokens, want %d", time.Duration(step.at-start), got, step.want)
		}
	}
}

func TestBucketWithoutRate(t *testing.T) {
	b := NewBucket(0, 0)
	for range 1000 {
		if !b.Take(1) {
			t.Fatal("a rate of 0 must limit nothing")
		}
	}
}

// However low the rate, a message comes through now and then.
func TestBucketHoldsOneToken(t *testing.T) {
	b := NewBucket(0.1, 0.4)
	now := int64(1)
	for range 3 {
		if !b.Take(now) {
			t.Error("no token after ten seconds")
		}
		if b.Take(now + int64(9*time.Second)) {
			t.Error("a token after nine seconds")
		}
		now += int64(10 * time.Second)
	}
}

// What is larger than the bucket takes a full one.
func TestBucketTakesUpToItsSize(t *testing.T) {
	b := NewBucket(1, 4.5)
	now := int64(1)
	for range 3 {
		if !b.TakeUpTo(now, 100) {
			t.Error("a full bucket refuses what is larger than it")
		}
		if b.TakeUpTo(now+int64(3*time.Second), 100) {
			t.Error("one that is not full takes what is larger")
		}
		now += int64(10 * time.Second)
	}
}
