package drill

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"parley/cmd/parley-bench/internal/pull"
)

const (
	pollSenders = 4
	// pollWait is what polls ask for, and pollSlack what an answer may take besides until
	// the client goes elsewhere.
	pollWait, pollSlack = 3 * time.Second, 2 * time.Second
	// pollMost is how many notifications a poll takes.
	pollMost = 20
	// pollFreeze is how long a node stands still: until all its clients have given up.
	pollFreeze = pollWait + pollSlack + 2*time.Second
	// cutTime is for how long the nodes' subscriber connections are cut each cutStep.
	cutTime, cutStep = 2 * time.Second, 200 * time.Millisecond
	// noticeBound is how long it may take after a fault until each client has pulled a
	// message that was sent after it: those that wait on a node that stands still have to
	// give that up first.
	noticeBound = 15 * time.Second
)

var pollKill = &Drill{
	Name:    "poll-kill",
	Summary: "clients that poll and pull over REST, another node each time, while one is killed, frozen, drained, or all are cut off from what Redis publishes, in turns",
	Passes: "each message that was acknowledged is pulled, once and in the order of who sent it; its receiver was notified after it was sent, " +
		"or told of a gap; nobody who names the last notification gets one again; all clients are served within 15 s of a fault; 12 rounds",
	rounds: 12, quickRounds: 4,
	clients:    12,
	rate:       100,
	leastNodes: 2,
	play:       playPollKill,
}

// pollFaults are played in turns.
var pollFaults = []struct {
	name string
	play func(*pollDrill, context.Context, *node) error
}{
	{"killed", (*pollDrill).kill}, {"frozen", (*pollDrill).freeze}, {"drained", (*pollDrill).drain}, {"deaf, with all others", (*pollDrill).cut},
}

// pollDrill is the drill that is being played.
type pollDrill struct {
	*stage
	crowd *pull.Crowd
	times drain

	silent  atomic.Bool // nobody writes any more
	writing sync.WaitGroup
	longest map[string]time.Duration // by fault: until all were served
}

func playPollKill(ctx context.Context, s *stage) error {
	d := &pollDrill{stage: s, times: drain{delay: 500 * time.Millisecond, window: 2 * time.Second}, longest: map[string]time.Duration{}}
	err := s.onOneRedis(ctx, false, append(d.times.args(), "--database-url", "sqlite:"+filepath.Join(s.dir, "polls.db"), "--rate", "0")...)
	if err != nil {
		return err
	}
	client := pull.NewClient(nil, s.opt.Clients+pollSenders)
	s.later(client.Close)
	var bases []string
	for _, addr := range s.fleet.addrs() {
		bases = append(bases, "http://"+addr)
	}
	var users []pull.User
	for i := range s.opt.Clients + pollSenders {
		s.say("signing up %d users", s.opt.Clients+pollSenders)
		u, err := client.SignUp(ctx, bases[i%len(bases)])
		if err != nil {
			return err
		}
		users = append(users, u)
	}
	d.crowd = pull.NewCrowd(pull.Config{Client: client, Nodes: bases, Senders: users[:pollSenders], Receivers: users[pollSenders:],
		Ledger: s.ledger, Nonce: uint32(s.opt.Seed) & (1<<20 - 1), Size: textSize, Wait: pollWait, Slack: pollSlack, Most: pollMost})
	going, stop := context.WithCancel(ctx)
	s.later(func() {
		stop()
		d.writing.Wait()
		d.crowd.Join()
	})
	d.crowd.Listen(going)
	for i := range pollSenders {
		d.writing.Go(func() { d.write(going, i) })
	}
	for i := range s.opt.Rounds {
		if err := d.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		s.report.Rounds++
	}
	d.silent.Store(true)
	d.writing.Wait()
	s.say("waiting for what is on its way")
	settled := time.Now().Add(settlePatience)
	for !d.crowd.Settled() && time.Now().Before(settled) {
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	stop()
	d.crowd.Join()
	d.judge()
	return ctx.Err()
}

// write has a sender write at its part of the rate, to one receiver after the other.
func (d *pollDrill) write(ctx context.Context, sender int) {
	tick := time.NewTicker(time.Duration(pollSenders / d.opt.Rate * float64(time.Second)))
	defer tick.Stop()
	for to := sender; !d.silent.Load(); to++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.crowd.Write(ctx, sender, to%d.opt.Clients) // what fails is in the ledger
	}
}

// round has something happen to a node, and waits until all clients are served.
func (d *pollDrill) round(ctx context.Context, i int) error {
	s, fault := d.stage, pollFaults[i%len(pollFaults)]
	if !sleep(ctx, roundPause+time.Duration(s.rng.Int64N(int64(roundPause)))) {
		return ctx.Err()
	}
	victim := s.fleet.nodes[s.rng.IntN(len(s.fleet.nodes))]
	s.say("round %d of %d: %s is %s", i+1, s.opt.Rounds, victim.name, fault.name)
	d.crowd.Watch()
	if err := fault.play(d, ctx, victim); err != nil {
		return fmt.Errorf("%s is %s: %w", victim.name, fault.name, err)
	}
	err := s.until(ctx, func() string {
		if _, _, left := d.crowd.Watched(); left > 0 {
			return fmt.Sprintf("%d of %d clients have pulled nothing that was sent after the fault", left, s.opt.Clients)
		}
		return ""
	})
	if err != nil {
		return fmt.Errorf("after %s was %s: %w", victim.name, fault.name, err)
	}
	first, last, _ := d.crowd.Watched()
	s.report.back, s.report.allBack = append(s.report.back, first), append(s.report.allBack, last)
	d.longest[fault.name] = max(d.longest[fault.name], last)
	return nil
}

// kill ends the node by SIGKILL, and starts it again a moment later.
func (d *pollDrill) kill(ctx context.Context, n *node) error {
	n.process.kill()
	if !sleep(ctx, time.Duration(d.rng.Int64N(int64(2*time.Second)))) {
		return ctx.Err()
	}
	return n.start(ctx)
}

// freeze has the node stand still by SIGSTOP until its clients have given up, and go on:
// what they had asked for is there still.
func (d *pollDrill) freeze(ctx context.Context, n *node) error {
	n.process.signal(syscall.SIGSTOP)
	slept := sleep(ctx, pollFreeze)
	n.process.signal(syscall.SIGCONT)
	if !slept {
		return ctx.Err()
	}
	return nil
}

// drain ends the node by SIGTERM.
func (d *pollDrill) drain(ctx context.Context, n *node) error {
	if err := d.drainOne(ctx, n, d.times); err != nil {
		return err
	}
	return n.start(ctx)
}

// cut ends all connections on which Redis publishes, again and again.
func (d *pollDrill) cut(ctx context.Context, _ *node) error {
	for from := time.Now(); time.Since(from) < cutTime; {
		if err := d.redis.Client().ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
			return err
		}
		if !sleep(ctx, cutStep) {
			return ctx.Err()
		}
	}
	return nil
}

// judge checks what the clients have got.
func (d *pollDrill) judge() {
	r, t, n := d.report, d.ledger.Totals(), d.crowd.Notices()
	for _, node := range d.fleet.nodes {
		if !node.process.running() {
			r.check(false, node.name, fmt.Sprintf("ended by itself with %d", node.process.code), "running to the end")
		}
	}
	r.check(t.Delivered > 0, "messages pulled", fmt.Sprint(t.Delivered), "some")
	r.none("acknowledged and never pulled", t.Lost)
	r.none("pulled twice", t.Duplicated)
	r.none("out of the order of who sent them", t.Reordered)
	r.none("that nobody sent", t.Foreign)
	r.none("acknowledged, and the receiver neither notified nor told of a gap", n.Missed)
	r.none("notifications that came again to who had named them", n.RepeatedNamed)
	for _, fault := range pollFaults {
		if took, played := d.longest[fault.name]; played {
			r.within("all clients served after a node was "+fault.name, took, noticeBound)
		}
	}
	r.tell("notifications", "%d, of %d polls", n.Came, n.Polls)
	r.tell("  that came again to who had not named them", "%d", n.Repeated-n.RepeatedNamed)
	r.tell("  without a message of their own", "%d", n.Surplus)
	r.tell("gaps told, and messages with no notification but that", "%d, %d", n.Gaps, n.Told)
	r.tell("messages found in the pages, after a pull had failed, and pulled again", "%d", t.SentAgain)
	r.tell("messages taken after their sender had given up", "%d", d.crowd.Late.Load())
	for _, text := range sortedCounts(d.crowd.Failures()) {
		r.tell("requests that failed", "%s", text)
	}
}
