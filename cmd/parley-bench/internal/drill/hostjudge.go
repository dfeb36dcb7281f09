package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
)

// judge checks what the players have seen.
func (h *hostDrill) judge() {
	r := h.report
	all := wrongs{}
	longest := time.Duration(0)
	overlap, byEnd, pairs := time.Duration(0), 0, 0
	for _, p := range h.game.parties {
		p.judge()
		if !h.emptied[p] {
			longest = max(longest, p.hostless())
		}
		for what, n := range p.wrongs.count {
			all.add(what, n, p.wrongs.first[what])
		}
		for _, pair := range p.overlaps {
			pairs++
			overlap = max(overlap, time.Duration(min(pair[0].to, pair[1].to)-pair[1].from))
			if !pair[0].told {
				byEnd++
			}
		}
		p.enter(h.ledger)
	}
	for _, n := range h.fleet.nodes {
		if !n.process.running() {
			r.check(false, n.name, fmt.Sprintf("ended by itself with %d", n.process.code), "running to the end")
		}
	}
	for _, fault := range hostFaults {
		if times := timesOf(h.moved[fault.name]); times != nil {
			r.within("longest without a host, node "+fault.name, time.Duration(times.Max*float64(time.Millisecond)), hostBound)
			r.tell("  rooms, median", "%d, %s", times.Count, round(time.Duration(times.P50*float64(time.Millisecond))))
		}
	}
	for _, took := range h.thawed {
		r.within("clients of a node that goes on know that they are not host", took, thawBound)
	}
	r.check(len(r.back) > 0, "rooms that a fault took the host from", fmt.Sprint(len(r.back)), "some")
	r.within("longest without anybody who takes itself for host", longest, hostBound)
	r.tell("rooms all of whose players were on the node", "%d, which are not among these", len(h.emptied))
	r.tell("rooms whose host was back before it was taken for dead", "%d", h.kept)
	for _, what := range allWrongs {
		got := fmt.Sprint(all.count[what])
		if first := all.first[what]; first != "" {
			got += "; " + first
		}
		r.check(all.count[what] == 0, what, got, "0")
	}
	if pairs > 0 {
		r.tell("  two hosts at one moment", "at the longest for %s; %d times until the former one was told, %d times until its connection ended",
			round(overlap), pairs-byEnd, byEnd)
	}
	r.check(h.game.delivered.Load() > 0, "broadcasts shown", fmt.Sprint(h.game.delivered.Load()), "some")
	r.check(h.game.heard.Load() > 0, "answers that came to hosts", fmt.Sprint(h.game.heard.Load()), "some")
	r.tell("times that a client was told that it is host", "%d, of which %d while a frozen node could not tell another one", h.game.told.Load(), h.game.untold.Load())
	r.tell("requests of hosts to make others host, or to kick", "%d", h.game.decrees.Load())
	h.game.mu.Lock()
	defer h.game.mu.Unlock()
	r.Clients.Ended, r.Clients.Refused = h.game.ends, h.game.refusals
	for _, text := range sortedCounts(h.game.errors) {
		r.tell("error answers", "%s", text)
	}
}

// enter has the ledger of the report hold what was broadcast: what came to anybody counts
// as acknowledged and delivered.
func (p *party) enter(l *ledger.Ledger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.voices {
		if !v.host {
			continue
		}
		stream := l.Open(fmt.Sprintf("room %d host %d", p.number, v.sitting.id), "the room")
		for _, reached := range v.reached {
			if seq := stream.Send(); reached {
				stream.Acknowledge(seq)
				stream.Deliver(seq)
			}
		}
	}
}

// sortedCounts writes counts, the most frequent first.
func sortedCounts(count map[string]int) (all []string) {
	for what, n := range count {
		all = append(all, fmt.Sprintf("%d: %s", n, what))
	}
	slices.SortFunc(all, func(a, b string) int {
		x, _, _ := strings.Cut(a, ":")
		y, _, _ := strings.Cut(b, ":")
		if len(x) != len(y) {
			return len(y) - len(x)
		}
		return strings.Compare(y, x)
	})
	return all
}
