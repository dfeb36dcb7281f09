package redisbus

import (
	"context"

	"parley/pkg/relay"
)

// Kick implements relay.Seats. Who is kicked can come back with Rejoin. After
// relay.ErrUnavailable it may have happened.
func (r *Rooms) Kick(ctx context.Context, host relay.Seat, target int32) error {
	_, err := r.do(ctx, roomKick, host.Room, r.node, host.Name, host.Client, target)
	return err
}

// Grant implements relay.Seats. After relay.ErrUnavailable it may have happened.
func (r *Rooms) Grant(ctx context.Context, host relay.Seat, target int32) error {
	reply, err := r.do(ctx, roomGrant, host.Room, r.node, host.Name, host.Client, target)
	if err == nil && len(reply) == 1 {
		r.noteSeat(host, func(s *seat) { s.granted = reply[0] })
	}
	return err
}

// noteSeat changes what is known of a seat of this node.
func (r *Rooms) noteSeat(of relay.Seat, change func(s *seat)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := place{of.Room, of.Name}
	if s, has := r.seats[p]; has {
		change(&s)
		r.seats[p] = s
	}
}

// Assign implements relay.Seats. It may be called again, also when it is not known
// whether it has happened, and by a seat that has granted nothing.
func (r *Rooms) Assign(ctx context.Context, s relay.Seat) error {
	_, err := r.do(ctx, roomAssign, s.Room, r.node, s.Name, s.Client)
	if err == nil {
		r.noteSeat(s, func(s *seat) { s.assigned = s.granted })
	}
	return err
}

// assignAgain ends those moves of hosts that this node has ended already: Redis may have
// lost that, but not that they had begun, and then nobody would end them.
func (r *Rooms) assignAgain(ctx context.Context) error {
	var seats []relay.Seat
	var fences []string
	r.mu.Lock()
	for p, s := range r.seats {
		if s.assigned != "" {
			seats = append(seats, relay.Seat{Room: p.room, Client: s.client, Name: p.name})
			fences = append(fences, s.assigned)
		}
	}
	r.mu.Unlock()
	for from := 0; from < len(seats); from += roomsBatch {
		batch := seats[from:min(from+roomsBatch, len(seats))]
		rooms := make([]int32, len(batch))
		for i, s := range batch {
			rooms[i] = s.Room
		}
		err := r.doAll(ctx, roomAssign, rooms, func(i int) []any { return []any{r.node, batch[i].Name, batch[i].Client, fences[from+i]} },
			func(int, []string, error) {}) // who has no seat has no move to end
		if err != nil {
			return err
		}
	}
	return nil
}
