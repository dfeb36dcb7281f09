package load

import (
	"context"
	"fmt"
	"strings"

	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/pull"
	"parley/cmd/parley-bench/internal/wsclient"
)

// PullFleet is where the clients of the REST protocol go. Fixed before a run.
type PullFleet struct {
	Targets []wsclient.Target // at least one
	Client  *pull.Client
	// Redis tells how many connections Redis has; nil: nobody knows.
	Redis func(context.Context) (int, error)
	Probe probe.Probe

	// Progress gets a short line once a second.
	Progress func(line string)
}

// base is where the i-th node is, in turns.
func (f *PullFleet) base(i int) string { return pull.Base(f.Targets[i%len(f.Targets)]) }

// sample reads the probe, and notes what went wrong.
func sample(ctx context.Context, p *probe.Probe, notes *[]string) probe.Sample {
	s, err := p.Read(context.WithoutCancel(ctx))
	if err != nil {
		*notes = append(*notes, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return s
}

// redisConnections asks for them, nil when they are not known.
func (f *PullFleet) redisConnections(ctx context.Context, notes *[]string) *int {
	if f.Redis == nil {
		return nil
	}
	n, err := f.Redis(context.WithoutCancel(ctx))
	if err != nil {
		*notes = append(*notes, fmt.Sprintf("connections of Redis: %v", err))
		return nil
	}
	return &n
}
