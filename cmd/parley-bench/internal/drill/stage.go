package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/host"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
	"parley/pkg/redisproc"
)

// Options are the settings of a drill. Zero means the drill's own default.
type Options struct {
	Parley   string // the node's program; needed without Targets
	Nodes    int
	Clients  int
	Rate     float64 // messages a second
	Rounds   int
	Duration time.Duration
	Seed     uint64
	Quick    bool // fewer rounds, shorter times
	Keep     bool // leave the logs also when all is well

	// Targets are a fleet that runs already. Nothing is started or ended then:
	// KillCmd is run by a shell once a round, and HealCmd at its end.
	Targets          []wsclient.Target
	KillCmd, HealCmd string

	Progress func(string) // nil: none
}

// stage is a drill that is being played: what it needs, and its report.
type stage struct {
	opt    Options
	drill  *Drill
	report *Report
	rng    *rand.Rand
	dir    string
	start  time.Time

	ledger *ledger.Ledger
	room   *ledger.Room // of drills of a chat room
	// reconnects are those of clients that are in no crowd; nil: none.
	reconnects *hist.Histogram
	fleet      *fleet            // nil with Options.Targets
	redis      *redisproc.Server // of drills with one Redis
	crowd      *crowd.Crowd      // the one that faults are measured by
	crowds     []*crowd.Crowd    // all that are there
	retired    []*crowd.Crowd    // those that were, and are closed
	closers    []func()
	said       string // last
}

// textSize is the length of an ordinary message.
const textSize = 128

// openConcurrency bounds the connections that are opened at once at the start.
const openConcurrency = 64

// Play plays a drill until its end or that of ctx, and ends all that it has
// started.
func (d *Drill) Play(ctx context.Context, opt Options) *Report {
	s := &stage{opt: d.defaults(opt), drill: d, start: time.Now(), ledger: ledger.New()}
	s.rng = rand.New(rand.NewPCG(s.opt.Seed, 1))
	s.report = &Report{Drill: d.Name, Passes: d.Passes, Seed: s.opt.Seed, Quick: s.opt.Quick, ledger: s.ledger,
		Failures: []string{}, Checks: []Check{}}
	if err := s.play(ctx); err != nil {
		if ctx.Err() != nil {
			s.report.Interrupted = true
			err = errors.New("interrupted before its end")
		}
		s.report.Failures = append(s.report.Failures, err.Error())
	}
	s.sumUp()
	return s.report
}

func (s *stage) play(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "parley-drill-"+s.drill.Name+"-"); err != nil {
		return err
	}
	defer s.endAll()
	if s.opt.Targets != nil && !s.drill.Target {
		return fmt.Errorf("%s needs a fleet of its own: play it without --target", s.drill.Name)
	}
	if s.opt.Targets == nil && s.opt.Nodes < s.drill.leastNodes {
		return fmt.Errorf("%s needs %d nodes at least, for clients to go to: --nodes %[2]d", s.drill.Name, s.drill.leastNodes)
	}
	return s.drill.play(ctx, s)
}

// sumUp fills in the report after the end.
func (s *stage) sumUp() {
	r := s.report
	r.Seconds = time.Since(s.start).Seconds()
	r.Messages = s.ledger.Totals()
	r.room = s.room
	r.Findings, r.Found = r.broken()
	r.Back, r.AllBack = timesOf(r.back), timesOf(r.allBack)
	var reconnects, answers []*hist.Histogram
	for _, c := range slices.Concat(s.retired, s.crowds) {
		r.Clients.Add(c.Events())
		reconnects, answers = append(reconnects, &c.Reconnects), append(answers, &c.Answers)
	}
	if s.reconnects != nil {
		reconnects = append(reconnects, s.reconnects)
	}
	r.Reconnect, r.Answer = timesIn(reconnects...), timesIn(answers...)
	r.OK = len(r.Failures) == 0
	if s.dir == "" {
		return
	}
	if !r.OK || s.opt.Keep {
		r.Logs = s.dir
		return
	}
	_ = os.RemoveAll(s.dir) // what is left of it is the system's to clear
}

// findingsShown bounds the findings in a report; the ledger has all.
const findingsShown = 10

// later has something done at the end of the drill; the last first.
func (s *stage) later(f func()) { s.closers = append(s.closers, f) }

// endAll ends all that was started, the last first.
func (s *stage) endAll() {
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		s.closers[last]()
		s.closers = s.closers[:last]
	}
}

// keepLog leaves what a program has said among the logs.
func (s *stage) keepLog(name, text string) {
	f, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(text) // it only explains
}

// fleetOf starts nodes over a Redis with settings beyond the defaults, and a
// balancer if asked. With a target it starts nothing.
func (s *stage) fleetOf(ctx context.Context, redisURL string, behindNginx bool, env []string, args ...string) error {
	if s.opt.Targets != nil {
		return nil
	}
	s.say("starting %d nodes", s.opt.Nodes)
	f, err := startFleet(ctx, s.dir, s.opt.Parley, redisURL, s.opt.Nodes, args, env)
	if err != nil {
		return err
	}
	s.fleet = f
	s.later(f.close)
	if behindNginx {
		if f.balancer, err = startBalancer(ctx, s.dir, f.addrs()); err != nil {
			return err
		}
	}
	return nil
}

// targets are where clients connect to.
func (s *stage) targets() []wsclient.Target {
	if s.opt.Targets != nil {
		return s.opt.Targets
	}
	return s.fleet.targets()
}

// spareFiles is what a drill needs besides its connections.
const spareFiles = 100

// gather connects a crowd; the first one is that of the stage. Zero fields of
// cfg are those of the stage.
func (s *stage) gather(ctx context.Context, cfg crowd.Config) (*crowd.Crowd, error) {
	if cfg.Clients == 0 {
		cfg.Clients = s.opt.Clients
	}
	if cfg.Rate == 0 {
		cfg.Rate = s.opt.Rate
	}
	if cfg.Targets == nil {
		cfg.Targets = s.targets()
	}
	if cfg.Size == 0 {
		cfg.Size = textSize
	}
	cfg.Size = max(cfg.Size, texto.IDLen)
	cfg.Seed, cfg.Ledger, cfg.Concurrency = s.opt.Seed, s.ledger, openConcurrency
	for _, other := range slices.Concat(s.retired, s.crowds) {
		cfg.Nonce += uint32(len(other.Clients()))
	}
	if err := host.RaiseFiles(uint64(int(cfg.Nonce) + cfg.Clients + spareFiles)); err != nil {
		return nil, err
	}
	s.say("connecting %d clients", cfg.Clients)
	c := crowd.New(cfg)
	s.crowds = append(s.crowds, c)
	if s.crowd == nil {
		s.crowd = c
	}
	s.later(c.Close)
	return c, c.Start(ctx)
}

// retire has a crowd settle and ends its connections. What it has seen stays in
// the report.
func (s *stage) retire(ctx context.Context, c *crowd.Crowd) error {
	if !c.Settle(ctx, settlePatience) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fmt.Errorf("%d of %d clients have no connection at the end", len(c.Clients())-c.Connected(), len(c.Clients()))
	}
	c.Close()
	s.crowds = slices.DeleteFunc(s.crowds, func(other *crowd.Crowd) bool { return other == c })
	s.retired = append(s.retired, c)
	if s.crowd == c {
		s.crowd = nil
	}
	return nil
}

// say shows what is going on, unless it was said just before.
func (s *stage) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text != s.said && s.opt.Progress != nil {
		s.said = text
		s.opt.Progress(fmt.Sprintf("%s, %s: %s", s.drill.Name, time.Since(s.start).Round(time.Second), text))
	}
}

// rounds plays so many rounds, each from a moment at which all clients are
// connected and traffic flows.
func (s *stage) rounds(ctx context.Context, what string, n int, round func(i int) error) error {
	for i := range n {
		s.say("%sround %d of %d", what, i+1, n)
		if err := s.whole(ctx); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		if !sleep(ctx, roundPause+time.Duration(s.rng.Int64N(int64(roundPause)))) {
			return ctx.Err()
		}
		if err := round(i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		s.report.Rounds++
	}
	return nil
}

const (
	// roundPause is the least time of undisturbed traffic between two faults;
	// up to as much again is added by chance.
	roundPause = 1500 * time.Millisecond
	// backPatience is how long a drill waits for all to be back. It is far more
	// than any rule allows: so a report says how long it took.
	backPatience = time.Minute
)

// whole waits until all clients are connected.
func (s *stage) whole(ctx context.Context) error {
	return s.until(ctx, func() string {
		for _, c := range s.crowds {
			if n := c.Connected(); n < len(c.Clients()) {
				return fmt.Sprintf("%d of %d clients have no connection", len(c.Clients())-n, len(c.Clients()))
			}
		}
		return ""
	})
}

// until waits until missing returns "", or tells what was missing to the end.
func (s *stage) until(ctx context.Context, missing func() string) error {
	deadline := time.Now().Add(backPatience)
	for {
		what := missing()
		if what == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %s", backPatience, what)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// back waits until the service is back after a fault that began at the given
// moment, and notes how long that took.
func (s *stage) back(ctx context.Context, w *crowd.Watch, from time.Time) error {
	timer := time.NewTimer(backPatience)
	defer timer.Stop()
	select {
	case <-w.Done():
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	if d, ok := w.First(from); ok {
		s.report.back = append(s.report.back, d)
	}
	d, ok := w.All(from)
	if !ok && w.Left() == 0 {
		return errors.New("the fault concerned no client")
	}
	if !ok {
		return fmt.Errorf("the service was not back within %v for %d clients", backPatience, w.Left())
	}
	s.report.allBack = append(s.report.allBack, d)
	return nil
}

// settlePatience is how long what is on its way may take at the end of a drill.
const settlePatience = 40 * time.Second

// finish ends the traffic and checks what every drill promises.
func (s *stage) finish(ctx context.Context) error {
	s.say("waiting for what is on its way")
	for _, c := range s.crowds {
		c.Quiet(true)
	}
	for _, c := range s.crowds {
		if !c.Settle(ctx, settlePatience) && ctx.Err() == nil {
			return fmt.Errorf("%d of %d clients have no connection at the end", len(c.Clients())-c.Connected(), len(c.Clients()))
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t := s.ledger.Totals()
	r := s.report
	if s.fleet != nil {
		for _, n := range s.fleet.nodes {
			if !n.process.running() {
				r.check(false, n.name, fmt.Sprintf("ended by itself with %d", n.process.code), "running to the end")
			}
		}
	}
	r.check(t.Delivered > 0, "messages delivered", fmt.Sprint(t.Delivered), "some")
	r.none("lost silently", t.Lost)
	r.none(`lost though told "recovered"`, t.FalselyRecovered)
	r.none("delivered twice", t.Duplicated)
	r.none("out of order", t.Reordered)
	r.none("that nobody sent", t.Foreign)
	return nil
}

// noneLost checks that every acknowledged message was delivered: to be told of a
// gap is not enough.
func (s *stage) noneLost() {
	t := s.ledger.Totals()
	s.report.none("acknowledged and not delivered, told or not", t.Lost+t.Told)
}

// killOther runs the command that breaks a fleet that is not ours; healOther the
// one that mends it, if there is one.
func (s *stage) killOther(ctx context.Context) error {
	return s.shell(ctx, "--kill-cmd", s.opt.KillCmd)
}
func (s *stage) healOther(ctx context.Context) error {
	return s.shell(ctx, "--heal-cmd", s.opt.HealCmd)
}

func (s *stage) shell(ctx context.Context, setting, command string) error {
	if command == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", setting, err, strings.TrimSpace(lastLines(string(out), 5)))
	}
	return nil
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool { return crowd.Sleep(ctx, d) }
