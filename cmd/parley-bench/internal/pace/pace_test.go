package pace

import (
	"slices"
	"testing"
	"time"
)

func TestDueKeepsTheRateForHours(t *testing.T) {
	for _, rate := range []float64{0.5, 3, 333.3, 10000, 1e6} {
		s := Schedule{Rate: rate, Streams: 1}
		for _, after := range []time.Duration{time.Second, time.Minute, 10 * time.Hour} {
			n := uint64(rate * after.Seconds())
			got := s.Due(n)
			if diff := (got - time.Duration(float64(n)/rate*1e9)).Abs(); diff > time.Microsecond {
				t.Errorf("rate %v: message %d is due at %v, %v off", rate, n, got, diff)
			}
			if got > after || s.Due(n+1) <= got {
				t.Errorf("rate %v: message %d at %v, the next at %v", rate, n, got, s.Due(n+1))
			}
		}
	}
}

func TestLanesTogetherAreTheSchedule(t *testing.T) {
	type event struct {
		due    time.Duration
		stream int
	}
	for _, c := range []struct{ streams, lanes int }{{1, 1}, {7, 1}, {7, 2}, {10, 4}, {4, 4}} {
		s := Schedule{Rate: 1000, Streams: c.streams}
		const until = time.Second
		var all []event
		owner := map[int]int{}
		for lane := range c.lanes {
			l := s.Lane(lane, c.lanes)
			last := time.Duration(-1)
			for {
				stream, due := l.Next()
				if due < last {
					t.Fatalf("%+v: lane %d goes back from %v to %v", c, lane, last, due)
				}
				if last = due; due >= until {
					break
				}
				if o, ok := owner[stream]; ok && o != lane {
					t.Fatalf("%+v: stream %d belongs to lanes %d and %d", c, stream, o, lane)
				}
				owner[stream] = lane
				all = append(all, event{due, stream})
			}
		}
		slices.SortFunc(all, func(a, b event) int { return int(a.due - b.due) })
		if len(all) != 1000 {
			t.Fatalf("%+v: %d messages in a second, want 1000", c, len(all))
		}
		for n, e := range all {
			if e.due != s.Due(uint64(n)) || e.stream != n%c.streams {
				t.Fatalf("%+v: message %d is %+v, want stream %d at %v", c, n, e, n%c.streams, s.Due(uint64(n)))
			}
		}
	}
}
