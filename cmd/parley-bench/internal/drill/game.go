package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// game is relay rooms with their players.
type game struct {
	// Fixed after construction.
	start   time.Time
	targets []wsclient.Target // one a node
	nonce   uint32
	filler  []byte
	parties []*party

	ctx     context.Context // of run
	running sync.WaitGroup

	silent atomic.Bool  // nobody says anything
	calm   atomic.Bool  // nobody is made host or kicked by a host
	frozen atomic.Int64 // the node that stands still, -1: none

	voices     atomic.Uint64
	told       atomic.Int64 // times that a client was told that it is host
	untold     atomic.Int64 // of these, while another one could not be told otherwise
	decrees    atomic.Int64
	delivered  atomic.Int64
	heard      atomic.Int64
	reconnects hist.Histogram

	mu       sync.Mutex
	ends     map[string]int
	refusals map[string]int
	errors   map[string]int
}

const (
	// regulars are the players of a room but for its visitor.
	regulars = 4
	// spareSeats are those that a dead node's visitors still have.
	spareSeats = 5
	// A host makes a request after up to decreeEach; of kickShare of these it kicks, else
	// it makes somebody else host.
	decreeEach = 2 * time.Second
	kickShare  = 4
)

// newGame makes so many rooms; run has them played in.
func newGame(ctx context.Context, api rooms.API, targets []wsclient.Target, parties, size int, seed uint64) (*game, error) {
	g := &game{start: time.Now(), targets: targets, nonce: uint32(seed) & (1<<20 - 1), filler: texto.Filler(max(size-texto.IDLen, 0)),
		ends: map[string]int{}, refusals: map[string]int{}, errors: map[string]int{}}
	g.frozen.Store(-1)
	for i := range parties {
		room, err := api.Create(ctx, regulars+spareSeats)
		if err != nil {
			return nil, err
		}
		p := &party{game: g, number: i + 1, room: room, ids: map[int32]*player{}, highest: -1}
		for j := range regulars + 1 {
			p.players = append(p.players, &player{party: p, name: fmt.Sprintf("player %d of room %d", j+1, i+1), visitor: j == regulars,
				turn: i + j, rng: rand.New(rand.NewPCG(seed, uint64(i<<16+j)))})
		}
		g.parties = append(g.parties, p)
	}
	return g, nil
}

// run starts the players, who say rate broadcasts a second together. They go on until
// ctx ends; wait for running then.
func (g *game) run(ctx context.Context, rate float64, seed uint64) {
	g.ctx = ctx
	for _, p := range g.parties {
		for _, one := range p.players {
			g.running.Go(func() { one.run(ctx) })
		}
		g.running.Go(func() { p.talk(ctx, time.Duration(float64(len(g.parties))/rate*float64(time.Second))) })
		rng := rand.New(rand.NewPCG(seed, uint64(p.number)<<32))
		g.running.Go(func() { p.rule(ctx, rng) })
	}
}

// now is the time since the game was made, in nanoseconds.
func (g *game) now() int64 { return int64(time.Since(g.start)) }

func (g *game) count(in map[string]int, what string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in[what]++
}

func (g *game) ended(err error)         { g.count(g.ends, texto.Cause(err)) }
func (g *game) refused(why string)      { g.count(g.refusals, why) }
func (g *game) answered(e *rooms.Error) { g.count(g.errors, fmt.Sprintf("%d %s", e.Code, e.Message)) }

// talk has the host of the room, whoever that is, broadcast each interval.
func (p *party) talk(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.game.silent.Load() {
			continue
		}
		for _, one := range p.players {
			one.broadcast()
		}
	}
}

// rule has the host of the room make others host, or kick them, now and then.
func (p *party) rule(ctx context.Context, rng *rand.Rand) {
	for sleep(ctx, time.Duration(rng.Int64N(int64(decreeEach)))) {
		if !p.game.calm.Load() {
			p.decree(rng)
		}
	}
}

// decree has the host of the room make somebody else host, or kick somebody.
func (p *party) decree(rng *rand.Rand) {
	target := p.players[rng.IntN(len(p.players))].connection()
	if target == nil {
		return
	}
	flag := rooms.RequestGrant
	if rng.IntN(kickShare) == 0 {
		flag = rooms.RequestKick
	}
	for _, one := range p.players {
		one.decree(flag, target.id)
	}
}

// missing tells who has no connection, and which room has not one host.
func (g *game) missing() string {
	away, all, without := 0, 0, 0
	for _, p := range g.parties {
		for _, one := range p.players[:regulars] {
			if all++; one.connection() == nil {
				away++
			}
		}
		if len(p.hosts()) != 1 {
			without++
		}
	}
	switch {
	case away > 0:
		return fmt.Sprintf("%d of %d players have no connection", away, all)
	case without > 0:
		return fmt.Sprintf("%d of %d rooms have not one host", without, len(g.parties))
	}
	return ""
}

// stand notes whose connections stand at the end: they must have been shown all.
func (g *game) stand() {
	for _, p := range g.parties {
		for _, one := range p.players {
			if s := one.connection(); s != nil {
				p.mu.Lock()
				s.stood = s.ended == 0
				p.mu.Unlock()
			}
		}
	}
}

// agree has everybody ask who is in its room, until all are told what the players
// themselves know; it tells what they are told else.
func (g *game) agree(ctx context.Context, patience time.Duration) {
	deadline := time.Now().Add(patience)
	for _, p := range g.parties {
		for {
			for _, one := range p.players[:regulars] {
				one.list.Store(nil)
				_ = one.ask() // who has no connection gets no list
			}
			sleep(ctx, 100*time.Millisecond)
			why := p.disagree()
			if why == "" || ctx.Err() != nil {
				break
			}
			if time.Now().After(deadline) {
				p.wrong(wrongList, "%s", why)
				break
			}
		}
	}
}

// disagree tells what is wrong with the last lists.
func (p *party) disagree() string {
	hosts := p.hosts()
	if len(hosts) != 1 {
		return fmt.Sprintf("%d clients take themselves for host", len(hosts))
	}
	for _, one := range p.players[:regulars] {
		list := one.list.Load()
		if list == nil {
			return one.name + " got no list"
		}
		for _, m := range *list {
			if m.Host != (m.ID == hosts[0].sitting.id) {
				return fmt.Sprintf("%s got %v, and %d takes itself for host", one.name, *list, hosts[0].sitting.id)
			}
		}
		for _, other := range p.players[:regulars] {
			s := other.connection()
			if s == nil {
				return other.name + " has no connection"
			}
			if !slices.ContainsFunc(*list, func(m rooms.Member) bool { return m.ID == s.id }) {
				return fmt.Sprintf("%s got %v, without %d", one.name, *list, s.id)
			}
		}
	}
	return ""
}
