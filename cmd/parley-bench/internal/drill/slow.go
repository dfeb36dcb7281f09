package drill

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// What the slow-readers drill does, and what it is held to.
const (
	slowShare   = 100 // one of so many clients reads nothing
	slowSlowing = 1.2 // the others' p99, as times of what it is without slow readers
	// What a slow reader is sent: enough to pass a node's default cap of 1 MiB,
	// and what the sockets hold, within a phase.
	slowText   = 16 << 10
	slowPerSec = 30
	// slowBuffer is a slow reader's receive buffer: a large one would hide that
	// nothing is read, and one below the size of a packet slow down all reading.
	slowBuffer = 256 << 10
	// slowPatience is how long after a phase a slow reader may still be open.
	slowPatience = 20 * time.Second
	reasonSlow   = `reason="slow_reader"`
)

var slowReaders = &Drill{
	Name:    "slow-readers",
	Summary: "1% of 2,000 clients stop reading while they are written to",
	Passes:  "they are closed at the cap, each once; the others' p99 is at most 1.2 times that without slow readers",
	rounds:  5, quickRounds: 1,
	duration: 10 * time.Second, quickDuration: 5 * time.Second,
	clients: 2000,
	rate:    1000,
	play:    playSlowReaders,
}

func playSlowReaders(ctx context.Context, s *stage) error {
	if err := s.onOneRedis(ctx, false); err != nil {
		return err
	}
	slow := max(s.opt.Clients/slowShare, 1)
	c, err := s.gather(ctx, crowd.Config{Clients: s.opt.Clients - slow})
	if err != nil {
		return err
	}
	readers := newSlowReaders(ctx, s.targets(), slow)
	s.later(readers.close)
	var without, with phases
	err = s.rounds(ctx, "", s.opt.Rounds, func(int) error {
		s.say("all read")
		if err := s.until(ctx, readers.missing); err != nil {
			return err
		}
		before, err := s.fleet.sum(ctx, "parley_disconnects_total", reasonSlow)
		if err != nil {
			return err
		}
		c.Measure(without.begin())
		if !sleep(ctx, s.opt.Duration) {
			return ctx.Err()
		}
		s.say("%d clients read nothing", slow)
		c.Measure(with.begin())
		readers.stop()
		if !sleep(ctx, s.opt.Duration) {
			return ctx.Err()
		}
		c.Measure(nil)
		closed, from := 0.0, time.Now()
		for {
			after, err := s.fleet.sum(ctx, "parley_disconnects_total", reasonSlow)
			if err != nil {
				return err
			}
			if closed = after - before; closed >= float64(slow) || time.Since(from) > slowPatience {
				break
			}
			if !sleep(ctx, 100*time.Millisecond) {
				return ctx.Err()
			}
		}
		s.report.check(closed == float64(slow), "slow readers closed at the cap", fmt.Sprint(closed), fmt.Sprint(slow))
		readers.resume()
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.finish(ctx); err != nil {
		return err
	}
	s.report.ratio("the others' p99", without.quantile(0.99), with.quantile(0.99), slowSlowing)
	s.report.tell("the others' p99 in each round", "%s; before %s", with.each(0.99), without.each(0.99))
	s.report.tell("the others' p50", "%s, before it %s", round(with.quantile(0.5)), round(without.quantile(0.5)))
	ended := 0
	for _, n := range c.Events().Ended {
		ended += n
	}
	s.report.check(ended == 0, "others that lost their connection", fmt.Sprint(ended), "0")
	return nil
}

// slowReaderSet is clients that can be told to read nothing, each with one that
// writes to it. What they are sent is in no ledger.
type slowReaderSet struct {
	stopAll context.CancelFunc
	wg      sync.WaitGroup
	readers []*slowReader
}

// slowReader is one of them.
type slowReader struct {
	address atomic.Pointer[string] // nil while it has no connection

	mu      sync.Mutex
	read    chan struct{}  // closed: it reads
	session *texto.Session // nil while it has no connection
}

// newSlowReaders starts n of them, which read.
func newSlowReaders(ctx context.Context, targets []wsclient.Target, n int) *slowReaderSet {
	ctx, stop := context.WithCancel(ctx)
	set := &slowReaderSet{stopAll: stop}
	for i := range n {
		r := &slowReader{read: make(chan struct{})}
		close(r.read)
		set.readers = append(set.readers, r)
		set.wg.Go(func() {
			for ctx.Err() == nil {
				r.connection(ctx, targets[i%len(targets)])
				sleep(ctx, 100*time.Millisecond)
			}
		})
		set.wg.Go(func() {
			for ctx.Err() == nil {
				r.write(ctx, targets[(i+1)%len(targets)])
				sleep(ctx, 100*time.Millisecond)
			}
		})
	}
	return set
}

func (s *slowReaderSet) close() {
	s.stopAll()
	s.wg.Wait()
}

// missing says which are not connected, "" when all are.
func (s *slowReaderSet) missing() string {
	n := 0
	for _, r := range s.readers {
		if r.address.Load() == nil {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d readers have no connection", n)
}

// stop has all read nothing until resume, which has them come back with a
// connection of their own.
func (s *slowReaderSet) stop() {
	for _, r := range s.readers {
		r.mu.Lock()
		r.read = make(chan struct{})
		r.mu.Unlock()
	}
}

func (s *slowReaderSet) resume() {
	for _, r := range s.readers {
		r.mu.Lock()
		close(r.read)
		if r.session != nil {
			r.session.CloseNow()
		}
		r.address.Store(nil)
		r.mu.Unlock()
	}
}

// connection holds one connection until it ends.
func (r *slowReader) connection(ctx context.Context, t wsclient.Target) {
	session, _, err := texto.Open(ctx, &wsclient.Dialer{Timeout: 10 * time.Second}, t, nil)
	if err != nil {
		return
	}
	defer session.CloseNow()
	defer context.AfterFunc(ctx, session.CloseNow)()
	_ = session.SetReadBuffer(slowBuffer) // a larger one makes it less slow
	r.hold(session)
	defer r.hold(nil)
	for {
		r.mu.Lock()
		read := r.read
		r.mu.Unlock()
		select {
		case <-read:
		case <-ctx.Done():
			return
		}
		if _, _, err := session.ReadMessage(); err != nil {
			return
		}
	}
}

// hold notes the reader's connection, nil for none.
func (r *slowReader) hold(session *texto.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session = session; session == nil {
		r.address.Store(nil)
		return
	}
	r.address.Store(&session.ClientID)
}

// write sends to the reader until the writer's connection ends.
func (r *slowReader) write(ctx context.Context, t wsclient.Target) {
	session, _, err := texto.Open(ctx, &wsclient.Dialer{Timeout: 10 * time.Second}, t, nil)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer session.CloseNow()
	defer context.AfterFunc(ctx, session.CloseNow)()
	wg.Go(func() { // what it is answered has no interest
		for {
			if _, _, err := session.ReadMessage(); err != nil {
				return
			}
		}
	})
	tick := time.NewTicker(time.Second / slowPerSec)
	defer tick.Stop()
	filler := texto.Filler(slowText - texto.IDLen)
	var send *texto.Send
	to := ""
	for seq := uint64(1); ; seq++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		address := r.address.Load()
		if address == nil {
			continue
		}
		if to != *address {
			to = *address
			send = session.NewSend(to, filler)
		}
		_ = session.SetWriteDeadline(time.Now().Add(2 * time.Second)) // fails on a dead socket only
		if err := session.WriteFrame(send.Stamp(texto.ID{Seq: seq})); err != nil {
			return
		}
	}
}
