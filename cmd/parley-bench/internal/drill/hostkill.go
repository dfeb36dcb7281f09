package drill

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"parley/cmd/parley-bench/internal/rooms"
	"parley/pkg/redisproc"
)

const (
	// hostBound is how long a room may be without a host after a node died.
	hostBound = 15 * time.Second
	// freezeTime is how long a node stands still, or is cut off: longer than the others
	// take until they give its places away.
	freezeTime = 12 * time.Second
	// thawBound is how long a node that stood still may take, when it goes on, until its
	// clients know that their places are lost.
	thawBound = 5 * time.Second
	// rushTime is the longest from what hosts ask for to the fault.
	rushTime = 4 * time.Millisecond
	// agreePatience is how long it may take until all are told the same of a room.
	agreePatience = 10 * time.Second
)

var hostKill = &Drill{
	Name:    "host-kill",
	Summary: "the node that most hosts of relay rooms are on is killed, frozen, drained, cut off from Redis, in turns",
	Passes: "every room has a host within 15 s, and at no moment two; what a former host says is shown to nobody after the host has moved; " +
		"all see the broadcasts of a room in one order, and whoever stays connected all of them; clients come back under their ids, " +
		"which nobody else gets; 12 rounds",
	rounds: 12, quickRounds: 4,
	clients:    24,
	rate:       200,
	leastNodes: 2,
	play:       playHostKill,
}

// hostFaults are played in turns.
var hostFaults = []struct {
	name string
	play func(*hostDrill, context.Context, *node, int) error
}{
	{"killed", (*hostDrill).kill}, {"frozen", (*hostDrill).freeze}, {"drained", (*hostDrill).drain}, {"cut off", (*hostDrill).cutOff},
}

// hostDrill is the drill that is being played.
type hostDrill struct {
	*stage
	game    *game
	proxies []*proxy // one a node
	times   drain

	moved   map[string][]time.Duration // by fault: until rooms had a new host
	kept    int                        // rooms whose host was back before it was taken for dead
	thawed  []time.Duration
	emptied map[*party]bool // rooms all of whose players were on the node
}

func playHostKill(ctx context.Context, s *stage) error {
	h := &hostDrill{stage: s, times: drain{delay: 500 * time.Millisecond, window: 2 * time.Second}, moved: map[string][]time.Duration{},
		emptied: map[*party]bool{}}
	if err := h.begin(ctx); err != nil {
		return err
	}
	playing, stop := context.WithCancel(ctx)
	s.later(func() {
		stop()
		h.game.running.Wait()
	})
	h.game.run(playing, s.opt.Rate, s.opt.Seed)
	s.reconnects = &h.game.reconnects
	s.say("connecting %d clients", len(h.game.parties)*(regulars+1))
	for i := range s.opt.Rounds {
		if err := h.round(ctx, i); err != nil {
			return fmt.Errorf("round %d: %w", i+1, err)
		}
		s.report.Rounds++
	}
	if err := h.end(ctx); err != nil {
		return err
	}
	h.game.stand()
	stop()
	h.game.running.Wait()
	h.judge()
	return nil
}

// begin starts Redis, behind a proxy for each node, the nodes, and makes the rooms.
func (h *hostDrill) begin(ctx context.Context) error {
	s := h.stage
	server, err := redisproc.Start(redisproc.Options{})
	if err != nil {
		return err
	}
	s.redis = server
	s.closeRedis(server)
	var urls []string
	for range s.opt.Nodes {
		p, err := startProxy(server.Addr())
		if err != nil {
			return err
		}
		s.later(p.close)
		h.proxies = append(h.proxies, p)
		urls = append(urls, "redis://"+p.addr())
	}
	s.say("starting %d nodes", s.opt.Nodes)
	parties := max(s.opt.Clients/regulars, 1)
	args := append(h.times.args(), "--rate", "0", "--rooms-max-clients", fmt.Sprint(parties*2*(regulars+spareSeats)))
	if s.fleet, err = startFleetOn(ctx, s.dir, s.opt.Parley, urls, args, nil); err != nil {
		return err
	}
	s.later(s.fleet.close)
	targets := s.fleet.targets()
	for i := range targets {
		targets[i].Path = rooms.Path
	}
	h.game, err = newGame(ctx, rooms.API{Target: targets[0]}, targets, parties, textSize, s.opt.Seed)
	return err
}

// round has everybody play for a while, and then something happen to the node that most
// hosts are on.
func (h *hostDrill) round(ctx context.Context, i int) error {
	s, fault := h.stage, hostFaults[i%len(hostFaults)]
	s.say("round %d of %d", i+1, s.opt.Rounds)
	if err := s.until(ctx, h.game.missing); err != nil {
		return err
	}
	if !sleep(ctx, roundPause+time.Duration(s.rng.Int64N(int64(roundPause)))) {
		return ctx.Err()
	}
	victim := h.mostHosts()
	s.say("round %d of %d: %s is %s", i+1, s.opt.Rounds, s.fleet.nodes[victim].name, fault.name)
	if err := fault.play(h, ctx, s.fleet.nodes[victim], victim); err != nil {
		return fmt.Errorf("%s is %s: %w", s.fleet.nodes[victim].name, fault.name, err)
	}
	if err := s.until(ctx, h.game.missing); err != nil {
		return fmt.Errorf("after %s was %s: %w", s.fleet.nodes[victim].name, fault.name, err)
	}
	h.game.calm.Store(true)
	defer h.game.calm.Store(false)
	// What hosts have asked for takes effect first.
	if !sleep(ctx, playerPause) {
		return ctx.Err()
	}
	h.game.agree(ctx, agreePatience)
	return ctx.Err()
}

// mostHosts is the node on which the most clients take themselves for host.
func (h *hostDrill) mostHosts() int {
	count := make([]int, len(h.game.targets))
	for _, p := range h.game.parties {
		for _, b := range p.hosts() {
			count[b.sitting.node]++
		}
	}
	most := 0
	for i, n := range count {
		if n > count[most] {
			most = i
		}
	}
	return most
}

// hosted are the rooms whose host is on a node, and in which somebody is elsewhere.
func (h *hostDrill) hosted(node int) (hit []*party) {
	for _, p := range h.game.parties {
		if !slices.ContainsFunc(p.hosts(), func(b *belief) bool { return b.sitting.node == node }) {
			continue
		}
		if slices.ContainsFunc(p.players[:regulars], func(one *player) bool {
			s := one.connection()
			return s != nil && s.node != node
		}) {
			hit = append(hit, p)
		} else {
			h.emptied[p] = true
		}
	}
	return hit
}

// awaitHosts waits until rooms have a host that a node other than the one that the fault
// hit has told so, and notes how long that took.
func (h *hostDrill) awaitHosts(ctx context.Context, fault string, hit []*party, from int64, victim int) error {
	err := h.until(ctx, func() string {
		for _, p := range hit {
			if p.hostSince(from, victim) == nil {
				return fmt.Sprintf("room %d has no other host", p.number)
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	longest := time.Duration(0)
	for _, p := range hit {
		took := time.Duration(p.hostSince(from, victim).from - from)
		h.moved[fault] = append(h.moved[fault], took)
		h.report.back = append(h.report.back, took)
		longest = max(longest, took)
	}
	if len(hit) > 0 {
		h.report.allBack = append(h.report.allBack, longest)
	}
	return nil
}

// rush has all hosts ask for something, which is under way when the fault comes, and
// returns the moment before.
func (h *hostDrill) rush(ctx context.Context) (from int64) {
	from = h.game.now()
	for _, p := range h.game.parties {
		p.decree(h.rng)
	}
	sleep(ctx, time.Duration(h.rng.Int64N(int64(rushTime))))
	return from
}

// kill ends the node by SIGKILL, and starts it again when its clients are back
// elsewhere.
func (h *hostDrill) kill(ctx context.Context, n *node, victim int) error {
	hit, from := h.hosted(victim), h.rush(ctx)
	n.process.kill()
	if err := h.awaitHosts(ctx, "killed", hit, from, victim); err != nil {
		return err
	}
	if err := h.until(ctx, h.game.missing); err != nil {
		return err
	}
	return n.start(ctx)
}

// drain ends the node by SIGTERM.
func (h *hostDrill) drain(ctx context.Context, n *node, victim int) error {
	from := h.rush(ctx)
	if err := h.drainOne(ctx, n, h.times); err != nil {
		return err
	}
	for _, p := range h.game.parties {
		h.moved["drained"] = append(h.moved["drained"], p.interregna(from, victim)...)
	}
	return n.start(ctx)
}

// interregna are the times from the end of each connection of a host to a node, since a
// moment, until there was another host.
func (p *party) interregna(from int64, node int) (all []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.beliefs {
		if b.sitting.node != node || b.to < from || b.to != b.sitting.ended || b.sitting.player.visitor || i+1 == len(p.beliefs) {
			continue
		}
		all = append(all, max(time.Duration(p.beliefs[i+1].from-b.to), 0))
	}
	return all
}

// hostless is the longest time between the first belief of a host in the room and the
// last one in which there was none.
func (p *party) hostless() (longest time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := int64(0)
	for i, b := range p.beliefs {
		if i > 0 && b.from > until {
			longest = max(longest, time.Duration(b.from-until))
		}
		until = max(until, b.to)
	}
	return longest
}

// freeze has the node stand still by SIGSTOP for so long that it is taken for dead, and
// go on.
func (h *hostDrill) freeze(ctx context.Context, n *node, victim int) error {
	hit, from := h.hosted(victim), h.rush(ctx)
	h.game.frozen.Store(int64(victim))
	n.process.signal(syscall.SIGSTOP)
	var there []*sitting
	for _, p := range h.game.parties {
		p.mu.Lock()
		for _, s := range p.seated {
			if s.node == victim && s.ended == 0 {
				s.frozen = true
				there = append(there, s)
			}
		}
		p.mu.Unlock()
	}
	slept := sleep(ctx, freezeTime)
	n.process.signal(syscall.SIGCONT)
	thaw := h.game.now()
	h.game.frozen.Store(-1)
	if !slept {
		return ctx.Err()
	}
	hit = slices.DeleteFunc(hit, func(p *party) bool {
		is := p.hostSince(from, victim) == nil
		if is {
			h.kept++
		}
		return is
	})
	if err := h.awaitHosts(ctx, "frozen", hit, from, victim); err != nil {
		return err
	}
	// Those of rooms that have another host know it soon, and those whose places were
	// given away have their connections closed.
	err := h.until(ctx, func() string {
		n := 0
		for _, p := range hit {
			n += max(len(p.hosts())-1, 0)
		}
		if n > 0 {
			return fmt.Sprintf("%d clients take themselves for host though another one is", n)
		}
		return ""
	})
	if err != nil {
		return err
	}
	h.thawed = append(h.thawed, time.Duration(h.game.now()-thaw))
	for _, s := range there {
		p := s.player.party
		p.mu.Lock()
		s.frozen = false
		p.mu.Unlock()
	}
	return nil
}

// cutOff has nothing come through between the node and Redis for so long that it is
// taken for dead.
func (h *hostDrill) cutOff(ctx context.Context, _ *node, victim int) error {
	hit, from := h.hosted(victim), h.rush(ctx)
	h.proxies[victim].setCut(true)
	defer h.proxies[victim].setCut(false)
	if !sleep(ctx, freezeTime) {
		return ctx.Err()
	}
	return h.awaitHosts(ctx, "cut off", hit, from, victim)
}

// end waits until all that was said has come.
func (h *hostDrill) end(ctx context.Context) error {
	h.say("waiting for what is on its way")
	if err := h.until(ctx, h.game.missing); err != nil {
		return err
	}
	h.game.silent.Store(true)
	h.game.calm.Store(true)
	last, since := int64(-1), time.Now()
	return h.until(ctx, func() string {
		if now := h.game.delivered.Load() + h.game.heard.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < quietTime {
			return "messages are still coming"
		}
		return h.game.missing()
	})
}
