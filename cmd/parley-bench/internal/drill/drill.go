// Package drill breaks a fleet under load and tells whether its promises held.
// It starts what a drill needs on free ports of loopback: Redis, nodes, a
// balancer; all as child processes that end with the drill.
package drill

import (
	"context"
	"time"
)

// Drill is one way to break a fleet.
type Drill struct {
	Name    string
	Summary string // what is done, in a line
	Passes  string // the rule by which it passes
	// Target tells that it can be played against a fleet that runs already.
	Target bool

	// What Options say when they say nothing; the quick ones are for
	// Options.Quick. A drill that goes by rounds has no duration, and the other
	// way round.
	rounds, quickRounds     int
	duration, quickDuration time.Duration
	clients                 int
	rate                    float64
	leastNodes              int // 0: one will do

	play func(context.Context, *stage) error
}

// The defaults of all drills that say nothing else.
const (
	defaultNodes   = 3
	defaultClients = 60
	defaultRate    = 500
)

// All are the drills in the order in which they are played.
var All = []*Drill{
	nodeKill, nodeDrain, rolling,
	redisFailover, redisDemote, redisStop, redisRestart, redisFlush, pubsubKill, bufferKill,
	clusterFailover, clusterReshard,
	herd, slowReaders, halfOpen,
	chatKill, hostKill, pollKill,
}

// Find returns the drill of a name, nil when there is none.
func Find(name string) *Drill {
	for _, d := range All {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// defaults fills in what the options leave open.
func (d *Drill) defaults(o Options) Options {
	pick := func(v *int, values ...int) {
		for _, w := range values {
			if *v == 0 {
				*v = w
			}
		}
	}
	quickRounds, quickDuration := 0, time.Duration(0)
	if o.Quick {
		quickRounds, quickDuration = d.quickRounds, d.quickDuration
	}
	pick(&o.Rounds, quickRounds, d.rounds, 1)
	pick(&o.Nodes, defaultNodes)
	pick(&o.Clients, d.clients, defaultClients)
	if o.Duration == 0 {
		o.Duration = quickDuration
	}
	if o.Duration == 0 {
		o.Duration = d.duration
	}
	if o.Rate == 0 {
		o.Rate = d.rate
	}
	if o.Rate == 0 {
		o.Rate = defaultRate
	}
	return o
}
