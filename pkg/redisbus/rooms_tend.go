package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

const (
	// roomsPage is how many seats are read at once.
	roomsPage = 500
	// roomsSweep is how many rooms whose time is over are asked for at once.
	roomsSweep = 512
)

// tend looks after rooms and seats until ctx ends, as often as the fleet looks for dead
// nodes.
func (r *Rooms) tend(ctx context.Context) {
	tick := time.NewTicker(r.fleet.times.look)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := errors.Join(r.compare(ctx), r.lookForDead(ctx), r.unmake(ctx, true), r.sweep(ctx))
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			r.log.Warn("rooms could not be looked after, trying again", "error", err)
		}
		failed = err != nil
	}
}

// sweep removes all rooms whose time is over.
func (r *Rooms) sweep(ctx context.Context) error {
	for {
		reply, err := r.do(ctx, roomsOver, 0, roomsSweep)
		if err != nil {
			return err
		}
		var rooms []int32
		for _, text := range reply {
			id, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return fmt.Errorf("%w: %w", errRooms, err)
			}
			rooms = append(rooms, int32(id))
		}
		for batch := range slices.Chunk(rooms, roomsBatch) {
			err := r.doAll(ctx, roomExpire, batch, func(int) []any { return nil }, func(int, []string, error) {})
			if err != nil {
				return err
			}
		}
		if len(rooms) < roomsSweep {
			return nil
		}
	}
}

// entry is a seat as Redis has it.
type entry struct {
	place
	text string // "node room seat client"
}

// seatsRange is where the seats of a node are among all.
func seatsRange(node string) (from, to string) { return "[" + node + " ", "(" + node + "!" }

// seatsOf returns the first n seats of a node behind an entry, in their order.
func (r *Rooms) seatsOf(ctx context.Context, node, after string, n int) ([]entry, error) {
	from, to := seatsRange(node)
	if after != "" {
		from = "(" + after
	}
	cmd := redis.NewStringSliceCmd(ctx, "zrangebylex", r.link.keys.rooms(seatsKind), from, to, "limit", 0, n)
	if err := r.store.ask(ctx, []redis.Cmder{cmd}, question{repeats: true}); err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(cmd.Val()))
	for _, text := range cmd.Val() {
		fields := strings.Split(text, " ")
		if len(fields) != 4 {
			return nil, fmt.Errorf("%w: a seat %.200q", errRooms, text)
		}
		room, err := strconv.ParseInt(fields[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errRooms, err)
		}
		entries = append(entries, entry{place{int32(room), fields[2]}, text})
	}
	return entries, nil
}

// compare finds out whether Redis has as many seats of this node as it should. Should
// it not at two looks, or should it perhaps have lost some, they are audited. What Redis
// may have lost of moves of hosts is done again.
func (r *Rooms) compare(ctx context.Context) error {
	least, most := r.counts()
	from, to := seatsRange(r.node)
	cmd := redis.NewIntCmd(ctx, "zlexcount", r.link.keys.rooms(seatsKind), from, to)
	if err := r.store.ask(ctx, []redis.Cmder{cmd}, question{repeats: true}); err != nil {
		return err
	}
	l, m := r.counts()
	least, most = min(least, l), max(most, m)
	differs := cmd.Val() < least || cmd.Val() > most
	due := differs && r.differed
	r.differed = differs
	if under := r.link.regime(); due || under != r.audited || len(r.missed) > 0 {
		if err := r.audit(ctx); err != nil {
			return err
		}
		if under != r.audited {
			if err := r.assignAgain(ctx); err != nil {
				return err
			}
		}
		r.audited = under
	}
	return nil
}

// counts are how many seats Redis should have at least, and may have.
func (r *Rooms) counts() (least, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.seats {
		if s.taken {
			least++
		}
	}
	return least, int64(len(r.seats) + len(r.leaving))
}

// audit compares this node's seats with those that Redis has under its name. What
// nobody here has is given up. Of what Redis does not have, twice in a row, those who
// hear the room are told, and close the connections: who was kicked just now has been
// told already.
func (r *Rooms) audit(ctx context.Context) error {
	before := map[place]bool{}
	r.mu.Lock()
	for p, s := range r.seats {
		before[p] = s.taken
	}
	r.mu.Unlock()
	has, after := map[place]bool{}, ""
	for {
		page, err := r.seatsOf(ctx, r.node, after, roomsPage)
		if err != nil {
			return err
		}
		for _, s := range page {
			has[s.place], after = true, s.text
		}
		if len(page) < roomsPage {
			break
		}
	}
	missing, missed, strays := map[int32]bool{}, map[place]bool{}, 0
	r.mu.Lock()
	for p := range has {
		_, ours := r.seats[p]
		_, leaves := r.leaving[p]
		if !ours && !leaves {
			r.leaving[p] = struct{}{} // at worst it was given up since it was read
			strays++
		}
	}
	for p := range before {
		if before[p] && r.seats[p].taken && !has[p] {
			missed[p] = true
			if r.missed[p] {
				missing[p.room] = true
			}
		}
	}
	r.mu.Unlock()
	r.missed = missed
	if strays > 0 {
		r.log.Info("redis had seats in rooms that nobody has here", "seats", strays)
		r.poke()
	}
	var errs []error
	for room := range missing {
		r.log.Warn("redis has lost a seat of this node", "room", room)
		switch err := r.Tell(ctx, room); {
		case errors.Is(err, relay.ErrNoRoom):
			for _, gone := range r.onGone {
				gone(room)
			}
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lookForDead gives up the seats of nodes that have none of their claims for as long as
// a lease lasts, since Redis has lost it: who lives claims again before.
func (r *Rooms) lookForDead(ctx context.Context) error {
	if r.fleet.Ready() != nil {
		return nil // who is cut off does not judge others
	}
	nodes, err := r.do(ctx, roomNodes, 0)
	if err != nil {
		return err
	}
	still := map[string]time.Time{}
	for _, node := range nodes {
		if node == r.node {
			continue
		}
		c, err := r.fleet.Holder(ctx, claimOfRooms(node))
		if err != nil {
			return err
		}
		since, doubted := r.doubtful[node]
		switch {
		case c != relay.Claim{}:
		case !doubted:
			still[node] = time.Now()
		case time.Since(since) < r.fleet.times.life:
			still[node] = since
		default:
			r.log.Warn("giving up seats in rooms of a node that nobody knows", "of", node)
			if err := r.reap(ctx, node); err != nil {
				return err
			}
		}
	}
	r.doubtful = still
	return nil
}
