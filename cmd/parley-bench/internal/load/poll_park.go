package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/wsclient"
)

// ParkWait is what parked polls ask for: the most that a node waits.
const ParkWait = 120 * time.Second

// poolSlack is by how many connections a node's pools to Redis may grow under load,
// however many clients there are.
const poolSlack = 64

// Park has polls wait on the first node, each on a connection of its own, and tells what
// each costs.
type Park struct {
	PullFleet
	Polls       int
	Users       []pull.User // take turns
	Concurrency int         // polls that are being sent at once
	Timeout     time.Duration
	// Waiting tells how many polls wait on the node; nil: nobody knows.
	Waiting func(context.Context) (int, error)
	Settle  time.Duration // between the last poll and the first look
	Hold    time.Duration // how long they wait then; less than ParkWait in all
	TLS     *tls.Config
}

// ParkResult is what a Park run measured. Memory and goroutines are the increase over
// what the node had before, for each poll.
type ParkResult struct {
	Asked   int     `json:"polls_asked"`
	Users   int     `json:"users"`
	Parked  int     `json:"polls"`
	Parking float64 `json:"parking_seconds"`
	PerSec  float64 `json:"parked_per_second"`
	Seconds float64 `json:"held_seconds"`

	Failed   map[string]int `json:"polls_failed,omitempty"`
	Example  string         `json:"first_failure,omitempty"`
	Answered int            `json:"polls_answered"` // while held, though nothing came
	Answers  map[string]int `json:"answers,omitempty"`

	MemoryJustParked *float64 `json:"server_bytes_per_poll_just_parked,omitempty"`
	Memory           *float64 `json:"server_bytes_per_poll,omitempty"` // at the end
	RedisMemory      *float64 `json:"redis_bytes_per_poll,omitempty"`
	Goroutines       *float64 `json:"server_goroutines_per_poll,omitempty"`
	ServerCores      *float64 `json:"server_cores,omitempty"` // while held
	ServerRSS        *int64   `json:"server_rss_bytes,omitempty"`
	RedisBefore      *int     `json:"redis_connections_before,omitempty"`
	RedisAfter       *int     `json:"redis_connections,omitempty"` // while they are parked
	Notes            []string `json:"notes,omitempty"`
}

// Failures says in words what broke, nothing when all is well.
func (r *ParkResult) Failures() (failures []string) {
	if len(r.Failed) > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d polls could not be sent: %s", r.Asked-r.Parked, r.Asked, Counted(r.Failed)))
	}
	if r.Answered > 0 {
		failures = append(failures, fmt.Sprintf("%d of %d polls were answered though nothing had come: %s", r.Answered, r.Parked, Counted(r.Answers)))
	}
	if r.RedisBefore != nil && r.RedisAfter != nil && *r.RedisAfter > *r.RedisBefore+poolSlack {
		failures = append(failures, fmt.Sprintf("redis has %d connections with %d polls, and had %d before", *r.RedisAfter, r.Parked, *r.RedisBefore))
	}
	return failures
}

// lot are the polls of a run.
type lot struct {
	*Park
	target   wsclient.Target
	parked   atomic.Int64
	answered atomic.Int64
	leaving  atomic.Bool
	failed   causes
	readers  sync.WaitGroup

	mu      sync.Mutex
	conns   []net.Conn
	answers map[string]int // first lines
}

// Run sends the polls, holds them and ends them. An error means that nothing was measured.
func (d *Park) Run(ctx context.Context) (*ParkResult, error) {
	before, known := host.Files()
	if err := host.RaiseFiles(uint64(d.Polls + spareFiles)); err != nil {
		return nil, err
	}
	if err := host.CheckPorts(d.Polls, 1, 1); err != nil {
		return nil, err
	}
	r := &ParkResult{Asked: d.Polls, Users: len(d.Users), Notes: serverFiles(d.Probe, d.Polls)}
	if after, err := host.Files(); known == nil && err == nil && after != before {
		r.Notes = append(r.Notes, fmt.Sprintf("this process may open %d files now (RLIMIT_NOFILE); it was %d", after, before))
	}
	l := &lot{Park: d, target: d.Targets[0], answers: map[string]int{}}
	r.RedisBefore = d.redisConnections(ctx, &r.Notes)
	empty := sample(ctx, &d.Probe, &r.Notes)
	start := time.Now()
	stop := each(func() {
		n := l.parked.Load()
		d.Progress(fmt.Sprintf("parking %d/%d  %s/s", n, d.Polls, Short(float64(n)/time.Since(start).Seconds())))
	})
	openAll(ctx, d.Concurrency, d.Polls, func(i int) (net.Conn, error) { return l.send(ctx, d.Users[i%len(d.Users)]) },
		func(_ int, c net.Conn, _ time.Duration, err error) bool {
			if err == nil {
				l.hold(c)
			} else if ctx.Err() == nil {
				l.failed.add(err)
			}
			return true
		})
	l.await(ctx, r)
	stop()
	r.Parking, r.Parked = time.Since(start).Seconds(), int(l.parked.Load())
	r.PerSec = float64(r.Parked) / r.Parking
	r.Failed, _ = l.failed.all()
	r.Example = l.failed.example()
	if r.Parked > 0 {
		d.look(ctx, l, r, empty)
	}
	r.Answered, r.Answers = int(l.answered.Load()), l.lines()
	l.leave()
	if r.Parked == 0 {
		return nil, fmt.Errorf("none of %d polls could be sent: %s", d.Polls, r.Example)
	}
	return r, nil
}

// await waits until the node has all polls that were sent.
func (l *lot) await(ctx context.Context, r *ParkResult) {
	if l.Waiting == nil {
		return
	}
	deadline := time.Now().Add(l.Timeout)
	for {
		n, err := l.Waiting(ctx)
		missing := int(l.parked.Load()) - int(l.answered.Load()) - n
		switch {
		case err == nil && missing <= 0, ctx.Err() != nil:
			return
		case time.Now().After(deadline):
			r.Notes = append(r.Notes, fmt.Sprintf("%d polls do not wait on the node after %s: %v", missing, l.Timeout, err))
			return
		}
		watch(ctx, time.Now().Add(10*time.Millisecond), nil, func() {})
	}
}

// look measures while the polls are parked.
func (d *Park) look(ctx context.Context, l *lot, r *ParkResult, empty probe.Sample) {
	from := time.Now()
	line := func() {
		d.Progress(fmt.Sprintf("%s/%s %d polls are parked, %d were answered", time.Since(from).Round(time.Second),
			(d.Settle + d.Hold).Round(time.Second), l.parked.Load()-l.answered.Load(), l.answered.Load()))
	}
	complete := watch(ctx, from.Add(d.Settle), nil, line)
	parked := sample(ctx, &d.Probe, &r.Notes)
	if complete {
		watch(ctx, parked.At.Add(d.Hold), nil, line)
	} else {
		r.Notes = append(r.Notes, "ended before the polls were held")
	}
	after := sample(ctx, &d.Probe, &r.Notes)
	r.RedisAfter = d.redisConnections(ctx, &r.Notes)
	r.Seconds = after.At.Sub(parked.At).Seconds()
	per := func(a, b *int64) *float64 {
		if a == nil || b == nil {
			return nil
		}
		return new(float64(*b-*a) / float64(r.Parked))
	}
	r.MemoryJustParked, r.Memory = per(empty.ServerRSS, parked.ServerRSS), per(empty.ServerRSS, after.ServerRSS)
	r.RedisMemory, r.Goroutines = per(empty.RedisRSS, after.RedisRSS), per(empty.Goroutines, after.Goroutines)
	cost := costOf(parked, after, 0)
	r.ServerCores, r.ServerRSS = cost.ServerCores, cost.ServerRSS
}

// send connects and sends a poll.
func (l *lot) send(ctx context.Context, u pull.User) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.target.Addr)
	if err != nil {
		return nil, err
	}
	if l.target.Secure {
		config := l.TLS.Clone()
		if config == nil {
			config = new(tls.Config)
		}
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(l.target.Addr)
		}
		secure := tls.Client(c, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = c.Close() // the handshake's error is the one that tells
			return nil, err
		}
		c = secure
	}
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", pull.PollPath(ParkWait, 0, ""), l.target.Host, u.Token)
	if _, err := c.Write([]byte(request)); err != nil {
		_ = c.Close() // the first error is the one that tells
		return nil, err
	}
	return c, nil
}

// hold waits for a poll's answer, which is not to come.
func (l *lot) hold(c net.Conn) {
	l.parked.Add(1)
	l.mu.Lock()
	l.conns = append(l.conns, c)
	l.mu.Unlock()
	l.readers.Go(func() {
		const line = 128 // the first line is all that is looked at
		text, err := bufio.NewReaderSize(c, line).ReadString('\n')
		if l.leaving.Load() {
			return
		}
		l.answered.Add(1)
		text = strings.TrimSpace(text)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			text = pull.Cause(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers[text]++
	})
}

func (l *lot) lines() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]int{}
	for line, n := range l.answers {
		all[line] = n
	}
	return all
}

// leave ends all polls and waits for their readers.
func (l *lot) leave() {
	l.leaving.Store(true)
	for _, c := range l.conns {
		_ = c.Close() // whoever reads from it learns
	}
	l.readers.Wait()
}
