package drill

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/wsclient"
)

const (
	// chatRoomLength is what nodes keep of a room in Redis: little, so that they
	// archive all the time.
	chatRoomLength = 50
	chatRoom       = "drill"
	chatAccounts   = 4
	// archivePatience is how long nothing may be archived after a node was killed that
	// did it: until its claim is released, and what waits meanwhile is moved.
	archivePatience = 30 * time.Second
	// chatKillSpread: a node is killed at a random moment within this time after the
	// archive was seen to grow, and started again after up to as long.
	chatKillSpread = time.Second
	// quietTime is how long nothing comes to anybody before all has come.
	quietTime = 2 * time.Second

	archivedMetric = "parley_archived_messages_total"
)

var chatKill = &Drill{
	Name:    "chat-kill",
	Summary: "SIGKILL for one node, while a room is written to and its messages are moved to the database, again and again",
	Passes: "the history, paged through on each node, has every message that anybody saw, once and in the order in which all saw it; " +
		"everybody has got every message, once; nobody was told of a gap; 10 rounds",
	rounds: 10, quickRounds: 2,
	clients:    12,
	rate:       300,
	leastNodes: 2,
	play:       playChatKill,
}

func playChatKill(ctx context.Context, s *stage) error {
	err := s.onOneRedis(ctx, false, "--database-url", "sqlite:"+filepath.Join(s.dir, "chat.db"),
		"--chat-rooms", chatRoom+"=Drill", "--chat-room-length", fmt.Sprint(chatRoomLength), "--rate", "0")
	if err != nil {
		return err
	}
	var cookies []string
	targets := s.fleet.targets()
	for i := range targets {
		targets[i].Path = chat.Path
	}
	for i := range chatAccounts {
		cookie, err := chat.SignUp(ctx, targets[i%len(targets)], nil)
		if err != nil {
			return err
		}
		cookies = append(cookies, cookie)
	}
	c := newChatter(chatRoom, targets, cookies, s.ledger, s.opt.Clients, textSize, uint32(s.opt.Seed)&(1<<20-1))
	s.room, s.reconnects = c.account, &c.reconnects
	running, stop := context.WithCancel(ctx)
	s.later(func() {
		stop()
		c.running.Wait()
	})
	c.run(running, s.opt.Rate)
	s.say("connecting %d clients", len(c.talkers))
	if err := s.until(ctx, c.missing); err != nil {
		return err
	}
	c.began.Store(true)
	for i := range s.opt.Rounds {
		s.say("round %d of %d", i+1, s.opt.Rounds)
		if err := s.chatKillRound(ctx, c); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		s.report.Rounds++
	}
	if err := s.archives(ctx); err != nil {
		return err
	}
	c.ended.Store(true)
	s.say("waiting for what is on its way")
	if err := s.quiet(ctx, c); err != nil {
		return err
	}
	return s.judgeChat(ctx, c, targets)
}

// missing tells who has no connection.
func (c *chatter) missing() string {
	if n := len(c.talkers) - c.connected(); n > 0 {
		return fmt.Sprintf("%d of %d clients have no connection", n, len(c.talkers))
	}
	return ""
}

// chatKillRound kills a node at some moment while messages are being moved: every other
// time on average the one that has moved most since it started.
func (s *stage) chatKillRound(ctx context.Context, c *chatter) error {
	if err := s.archives(ctx); err != nil {
		return err
	}
	victim := s.fleet.nodes[s.rng.IntN(len(s.fleet.nodes))]
	if s.rng.IntN(2) == 0 {
		most := 0.0
		for _, n := range s.fleet.nodes {
			m, err := n.metrics(ctx)
			if err != nil {
				return err
			}
			if v := m.sum(archivedMetric); v > most {
				victim, most = n, v
			}
		}
	}
	if !sleep(ctx, time.Duration(s.rng.Int64N(int64(chatKillSpread)))) {
		return ctx.Err()
	}
	victim.process.kill()
	if !sleep(ctx, time.Duration(s.rng.Int64N(int64(chatKillSpread)))) {
		return ctx.Err()
	}
	if err := victim.start(ctx); err != nil {
		return err
	}
	return s.until(ctx, c.missing)
}

// archives waits until messages are moved into the archive.
func (s *stage) archives(ctx context.Context) error {
	deadline := time.Now().Add(archivePatience)
	before := -1.0
	for {
		now, err := s.fleet.sum(ctx, archivedMetric)
		if err != nil {
			return err
		}
		if before >= 0 && now > before {
			return nil
		}
		before = now
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing was archived for %v", archivePatience)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// quiet waits until nothing comes to anybody any more.
func (s *stage) quiet(ctx context.Context, c *chatter) error {
	last, since := c.account.Delivered(), time.Now()
	return s.until(ctx, func() string {
		now := c.account.Delivered()
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < quietTime {
			return "messages are still coming"
		}
		return c.missing()
	})
}

// judgeChat pages through the room on each node and checks what everybody got.
func (s *stage) judgeChat(ctx context.Context, c *chatter, targets []wsclient.Target) error {
	s.say("paging through the history")
	r := s.report
	for i, n := range s.fleet.nodes {
		if !n.process.running() {
			r.check(false, n.name, fmt.Sprintf("ended by itself with %d", n.process.code), "running to the end")
			continue
		}
		messages, pages, err := c.history(ctx, "the history on "+n.name, targets[i], func(from int, seq uint64) {
			if i == 0 {
				c.talkers[from].stream.Deliver(seq)
			}
		})
		if err != nil {
			return fmt.Errorf("the history on %s: %w", n.name, err)
		}
		r.tell("history on "+n.name, "%d messages, %d pages", messages, pages)
		r.check(messages > 2*chatRoomLength, "messages in the history of "+n.name, fmt.Sprint(messages), "more than Redis keeps")
	}
	t, kept := c.account.Totals(), s.ledger.Totals()
	r.Clients.Recovered, r.Clients.NotRecovered = uint64(c.back.Load()), uint64(c.gaps.Load())
	r.check(t.CameBack > 0, "messages that came back to who sent them", fmt.Sprint(t.CameBack), "some")
	r.none("of these not in the history", kept.Lost)
	r.none("lost to somebody, or not in the history of a node", t.Lost)
	r.none("delivered twice, or twice in the history of a node", t.Duplicates)
	r.none("out of the order of who sent them", t.Reordered)
	r.none("out of the room's order", t.Misplaced)
	r.none("clients and histories with another order than the others", uint64(t.Differing))
	r.none("that nobody sent", t.Foreign)
	r.none("times that a client was told of a gap", uint64(c.gaps.Load()))
	r.check(c.back.Load() > 0, "times that a client came back and got what it had missed", fmt.Sprint(c.back.Load()), "some")
	r.tell("error answers", "%d", c.errors.Load())
	return nil
}
