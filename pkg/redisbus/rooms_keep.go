package redisbus

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"parley/pkg/relay"
)

const (
	// roomsBatch is the most scripts in one pipeline: the embedded Redis compiles each of
	// them anew, and its answers have to come in time.
	roomsBatch = 32
	// roomsGoodbye is how long a node that ends tries to give its seats up.
	roomsGoodbye = 2 * time.Second
	// roomsAgainMin and roomsAgainMax bound the pause after Redis has failed.
	roomsAgainMin = 50 * time.Millisecond
	roomsAgainMax = time.Second
	// roomsAlarms is how often the lease is looked at between two looks of the others for
	// dead nodes. It is reaped one look after it has expired, or later.
	roomsAlarms = 8
)

// Run gives up seats that are left, removes rooms that were not confirmed, and looks after
// this node's seats, those of dead nodes and rooms whose time is over, until ctx ends. Then it gives up all seats of the node,
// within two seconds, and returns nil; Join and Rejoin are relay.ErrClosed from then
// on. The bus and the fleet must run for longer. Call it once.
func (r *Rooms) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { r.watchLease(ctx) })
	wg.Go(func() { r.giveBack(ctx) })
	wg.Go(func() { r.tend(ctx) })
	wg.Wait()
	r.end(context.WithoutCancel(ctx))
	return nil
}

// watchLease gives up all seats as soon as others may take this node for dead, so that
// no client here still believes to be host when another one is.
func (r *Rooms) watchLease(ctx context.Context) {
	tick := time.NewTicker(r.fleet.times.look / roomsAlarms)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if r.fleet.inDoubt() {
			r.giveUpAll("the node may be taken for dead")
		}
	}
}

// lost is for Fleet.OnLost: others have given the seats up, or will.
func (r *Rooms) lost(claims []relay.Claim) {
	if slices.ContainsFunc(claims, func(c relay.Claim) bool { return c.Kind() == roomsClaim }) {
		r.giveUpAll("the node was taken for dead")
	}
}

// giveUpAll gives up all seats. Redis is told, should it still have them, after those
// who use them.
func (r *Rooms) giveUpAll(why string) {
	r.mu.Lock()
	places := slices.Collect(maps.Keys(r.seats))
	if len(places) > 0 || r.claimed {
		r.losses++
	}
	r.claimed = false
	r.mu.Unlock()
	if len(places) == 0 {
		return
	}
	r.log.Warn("all seats of this node in rooms are given up", "seats", len(places), "because", why)
	for _, lost := range r.onLost {
		lost()
	}
	r.mu.Lock()
	for _, p := range places {
		if _, has := r.seats[p]; has {
			delete(r.seats, p)
			r.leaving[p] = struct{}{}
		}
	}
	r.mu.Unlock()
	r.poke()
}

func (r *Rooms) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// giveBack tells Redis of seats that are left, until ctx ends.
func (r *Rooms) giveBack(ctx context.Context) {
	pause, failed := roomsAgainMin, false
	for {
		more, err := r.leaveSome(ctx)
		if err == nil {
			err = r.unmake(ctx, false)
		}
		if err == nil {
			if failed {
				r.log.Info("redis knows again who has left rooms")
			}
			if pause, failed = roomsAgainMin, false; more {
				continue
			}
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		if !failed && ctx.Err() == nil {
			r.log.Warn("redis is not told who has left rooms, trying again", "error", err)
		}
		failed = true
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, roomsAgainMax)
	}
}

// leaveSome gives up the seats in as many rooms as fit into one pipeline, and tells
// whether there are more. All those of a room go in one step, so that none of them is
// made host for a moment.
func (r *Rooms) leaveSome(ctx context.Context) (more bool, err error) {
	r.mu.Lock()
	names := map[int32][]string{}
	for p := range r.leaving {
		names[p.room] = append(names[p.room], p.name)
	}
	r.mu.Unlock()
	var rooms []int32
	seats := 0
	for room := range names {
		if len(rooms) == roomsBatch || seats >= roomsPage {
			break
		}
		rooms, seats = append(rooms, room), seats+len(names[room])
	}
	if len(rooms) == 0 {
		return false, nil
	}
	args := func(i int) []any {
		all := []any{r.node}
		for _, name := range names[rooms[i]] {
			all = append(all, name)
		}
		return all
	}
	err = r.doAll(ctx, roomLeave, rooms, args, func(i int, _ []string, _ error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, name := range names[rooms[i]] {
			delete(r.leaving, place{rooms[i], name})
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.leaving) > 0, err
}

// end gives up all seats, and the claim when there are none left.
func (r *Rooms) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roomsGoodbye)
	defer cancel()
	r.mu.Lock()
	r.ended = true
	r.losses++
	for p := range r.seats {
		r.leaving[p] = struct{}{}
	}
	clear(r.seats)
	r.mu.Unlock()
	for {
		_, err := r.leaveSome(ctx)
		if err == nil {
			err = r.unmake(ctx, false)
		}
		r.mu.Lock()
		done, claimed := len(r.leaving) == 0 && r.asking == 0, r.claimed
		r.mu.Unlock()
		if done {
			if claimed {
				err = r.fleet.Release(ctx, claimOfRooms(r.node), r.node)
			}
			if err == nil {
				return
			}
		}
		if done && err != nil || !sleep(ctx, retryMin) {
			r.log.Debug("this node's seats in rooms are left for the others to give up", "error", err)
			return
		}
	}
}

// reap gives up all seats of a node that is no more, in one room after the other. It
// may be called again, and by several at once.
func (r *Rooms) reap(ctx context.Context, node string) error {
	for {
		page, err := r.seatsOf(ctx, node, "", roomsPage)
		if err != nil || len(page) == 0 {
			return err
		}
		var rooms []int32
		for _, s := range page {
			if !slices.Contains(rooms, s.room) {
				rooms = append(rooms, s.room)
			}
		}
		for batch := range slices.Chunk(rooms, roomsBatch) {
			err := r.doAll(ctx, roomReap, batch, func(int) []any { return []any{node} },
				func(_ int, reply []string, err error) {
					if err == nil && len(reply) == 1 {
						seats, _ := strconv.Atoi(reply[0])
						r.metrics.reaped.Add(float64(seats))
					}
				})
			if err != nil {
				return err
			}
		}
	}
}
