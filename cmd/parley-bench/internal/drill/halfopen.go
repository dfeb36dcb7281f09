package drill

import (
	"context"
	"fmt"
	"time"

	"parley/cmd/parley-bench/internal/crowd"
	"parley/cmd/parley-bench/internal/wsclient"
)

// What the half-open drill is held to.
const (
	halfOpenPeers = 500
	halfOpenBound = 35 * time.Second // until the last is gone, with a node's default pings
	// halfOpenWatch is how long is watched in all. It is more than the bound, so
	// that the report says how long it took, and that nobody was counted twice.
	halfOpenWatch = 45 * time.Second
	// reasonPing is the label of the metric for peers that do not answer.
	reasonPing = `reason="ping_timeout"`
)

var halfOpen = &Drill{
	Name:    "half-open",
	Summary: "500 peers upgrade, and then neither read nor answer",
	Passes:  "they are gone within 35 s, each once, and nobody else is",
	rounds:  1, quickRounds: 1,
	play: playHalfOpen,
}

func playHalfOpen(ctx context.Context, s *stage) error {
	if err := s.onOneRedis(ctx, false); err != nil {
		return err
	}
	if _, err := s.gather(ctx, crowd.Config{}); err != nil {
		return err
	}
	err := s.rounds(ctx, "", s.opt.Rounds, func(int) error { return s.halfOpenRound(ctx) })
	if err != nil {
		return err
	}
	return s.finish(ctx)
}

func (s *stage) halfOpenRound(ctx context.Context) error {
	const disconnects = "parley_disconnects_total"
	count := func() (all, silent float64, err error) {
		if all, err = s.fleet.sum(ctx, disconnects); err != nil {
			return 0, 0, err
		}
		silent, err = s.fleet.sum(ctx, disconnects, reasonPing)
		return all, silent, err
	}
	allBefore, silentBefore, err := count()
	if err != nil {
		return err
	}
	dialer := wsclient.Dialer{Timeout: 10 * time.Second}
	peers := make([]*wsclient.Conn, 0, halfOpenPeers)
	defer func() {
		for _, p := range peers {
			p.CloseNow()
		}
	}()
	targets := s.targets()
	for i := range halfOpenPeers {
		p, _, err := dialer.Dial(ctx, targets[i%len(targets)], nil)
		if err != nil {
			return fmt.Errorf("peer %d: %w", i+1, err)
		}
		peers = append(peers, p)
	}
	opened := time.Now()
	var gone time.Duration
	var all, silent float64
	for time.Since(opened) < halfOpenWatch {
		if !sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
		if all, silent, err = count(); err != nil {
			return err
		}
		s.say("%.0f of %d silent peers are gone", silent-silentBefore, halfOpenPeers)
		if silent-silentBefore >= halfOpenPeers && gone == 0 {
			gone = time.Since(opened)
		}
	}
	if gone == 0 {
		s.report.check(false, "silent peers gone", fmt.Sprintf("%.0f within %v", silent-silentBefore, halfOpenWatch), fmt.Sprint(halfOpenPeers))
		return nil
	}
	s.report.within("the last silent peer gone", gone, halfOpenBound)
	s.report.check(silent-silentBefore == halfOpenPeers, "disconnects counted as ping_timeout", fmt.Sprint(silent-silentBefore), fmt.Sprint(halfOpenPeers))
	s.report.check(all-allBefore == halfOpenPeers, "disconnects counted in all", fmt.Sprint(all-allBefore), fmt.Sprint(halfOpenPeers))
	return nil
}
