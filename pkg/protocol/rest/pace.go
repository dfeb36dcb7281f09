package rest

import (
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// What a request costs of what a user may do in a second: ten times the rate of messages.
const (
	costMessage = 10 // signing up too
	costSearch  = 5
	costOther   = 1
	// costTold is that of each user who is told of something: a command to Redis.
	costTold = 1
	// searchedAtCost is how many bytes of a text are searched for at a cost of 1, besides
	// that of the request.
	searchedAtCost = 4
	// paceFactor is how many times the rate of messages requests of cost 1 may come.
	paceFactor = 10
	// burstSeconds is how many seconds' worth may come at once.
	burstSeconds = 4
)

// pacer bounds how much each user, and each address that nobody has signed in from, may
// ask of this node: by the generic cell rate algorithm (ITU-T I.371), which remembers one
// moment of each, and nothing of those who are far from their limit.
type pacer struct {
	// Fixed.
	unit  time.Duration // what a cost of 1 takes; 0: no limit
	burst time.Duration

	mu  sync.Mutex
	due map[string]time.Time // when all that was asked for would have been due
}

func newPacer(rate float64) *pacer {
	p := &pacer{due: map[string]time.Time{}, burst: burstSeconds * time.Second}
	if rate > 0 {
		p.unit = max(1, time.Duration(float64(time.Second)/(rate*paceFactor)))
	}
	p.burst = max(p.burst, costMessage*p.unit)
	return p
}

// take counts a request. If there is no room it counts nothing and returns how long it
// takes until there is.
func (p *pacer) take(who string, cost int, now time.Time) (wait time.Duration) {
	if p.unit == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.due[who]
	if due.Before(now) {
		due = now
	}
	due = due.Add(time.Duration(cost) * p.unit)
	if wait := due.Sub(now) - p.burst; wait > 0 {
		return wait
	}
	p.due[who] = due
	return 0
}

// charge counts what a request that was let through has cost besides: those after it wait
// the longer.
func (p *pacer) charge(who string, cost int, now time.Time) {
	if p.unit == 0 || cost <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.due[who]
	if due.Before(now) {
		due = now
	}
	p.due[who] = due.Add(time.Duration(cost) * p.unit)
}

// tidy forgets those who have all their room again.
func (p *pacer) tidy(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for who, due := range p.due {
		if due.Before(now) {
			delete(p.due, who)
		}
	}
}

const (
	// maxReads is how many requests for messages may be answered on a node at the same time,
	// and maxUserReads how many of one user: what each has read is in memory until its
	// client has taken it, or twenty seconds have passed.
	maxReads     = 128
	maxUserReads = 4
)

// readers counts the requests for messages that are being answered.
type readers struct {
	mu    sync.Mutex
	total int
	by    map[int64]int // users
}

// enter counts one more; the error tells why not. Each success needs one leave.
func (r *readers) enter(user int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.by[user] >= maxUserReads:
		return tooMany("too many requests for messages at once: read the answers", time.Second)
	case r.total >= maxReads:
		return unavailable("too many requests for messages at once: try again", retryAway)
	}
	r.total++
	r.by[user]++
	return nil
}

func (r *readers) leave(user int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.by[user]--; r.by[user] == 0 {
		delete(r.by, user)
	}
}

func paceOfUser(id int64) string { return "u" + strconv.FormatInt(id, 10) }

// paceOfAddress counts an IPv6 /64 network as one, which a single host has to itself.
func paceOfAddress(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if net, err := a.Prefix(64); err == nil {
			return net.String()
		}
	}
	return a.String()
}
