package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What a probe sends.
const (
	probePairs  = 100
	probeRate   = 500 // messages a second of all pairs
	probeWarmup = time.Second
	probeDrain  = 2 * time.Second
	// probeStart is what a probe may take to connect and to end, besides.
	probeStart = 20 * time.Second
)

// probed is what a probe has found.
type probed struct {
	p50, p99 time.Duration
	lost     uint64
}

// probe is a process of this program that measures what messages take between
// clients of some nodes. In this process thousands of clients at work would delay
// the measuring ones, and be taken for the nodes.
type probe struct {
	process *process
	out     string
	took    time.Duration // what it takes at most
}

// startProbe starts one that measures for so long, and returns when the measuring
// is about to begin.
func (s *stage) startProbe(ctx context.Context, name string, measured time.Duration, nodes []*node) (*probe, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.addr)
	}
	p := &probe{out: filepath.Join(s.fleet.dir, name+".json"), took: probeWarmup + measured + probeDrain + probeStart}
	p.process, err = startProcess(s.fleet.dir, name, program, []string{"direct", "--addr", strings.Join(addrs, ","),
		"--pairs", strconv.Itoa(probePairs), "--rate", strconv.Itoa(probeRate), "--warmup", probeWarmup.String(),
		"--duration", measured.String(), "--drain", probeDrain.String(), "--out", p.out}, nil)
	if err != nil {
		return nil, err
	}
	s.later(p.process.kill)
	if !sleep(ctx, probeWarmup) {
		return nil, ctx.Err()
	}
	return p, nil
}

// result waits for the end of the probe.
func (p *probe) result() (r probed, err error) {
	if !p.process.waitFor(p.took) {
		return r, fmt.Errorf("%s has not ended", p.process.name)
	}
	text, err := os.ReadFile(p.out)
	if err != nil {
		return r, fmt.Errorf("%s has measured nothing: %w", p.process.name, err)
	}
	var report struct {
		Result struct {
			Latency struct {
				P50 float64 `json:"p50_us"`
				P99 float64 `json:"p99_us"`
			} `json:"latency"`
			Messages struct {
				Lost uint64 `json:"lost_though_acknowledged"`
			} `json:"messages"`
		} `json:"result"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return r, fmt.Errorf("%s: %w", p.process.name, err)
	}
	micros := func(us float64) time.Duration { return time.Duration(us * float64(time.Microsecond)) }
	r = probed{micros(report.Result.Latency.P50), micros(report.Result.Latency.P99), report.Result.Messages.Lost}
	if r.p99 == 0 {
		return r, fmt.Errorf("%s has measured no message", p.process.name)
	}
	return r, nil
}
