package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"parley/pkg/relay"
)

// roomsClaim is the kind of the claim by which the others know that a node has seats.
const roomsClaim = "rooms"

var (
	errSeatName = errors.New("want 1 to 64 visible ASCII characters, and no lone hyphen")
	// errSeatInUse means that a seat of that name is taken, or being given up.
	errSeatInUse = errors.New("the node has used the seat's name")
	// errBacklog means that too much waits to be undone.
	errBacklog = errors.New("redis does not answer, and what was asked for last is not undone yet")
	errGivenUp = errors.New("all seats of the node were given up meanwhile")
)

// place tells a seat of this node from all others.
type place struct {
	room int32
	name string
}

// seat is one of this node's.
type seat struct {
	client   int32
	taken    bool   // else Redis is being asked for it
	granted  string // the fence of its last grant; "" when none was confirmed
	assigned string // that of the last one that it has ended
}

// Join implements relay.Seats. A seat's name may be used again once Redis has heard of
// its Leave; before it is relay.ErrUnavailable.
func (r *Rooms) Join(ctx context.Context, room, secret int32, name string, clientSecret int32, all bool) (relay.Seat, error) {
	return r.sit(ctx, roomJoin, room, secret, name, -1, clientSecret, all)
}

// Rejoin implements relay.Seats. A client that left so long ago that 1024 others of the
// room have left since, and as many as it is for, is relay.ErrNoClient. Whether another
// node hears Redis is looked at for more than half a second, as long as it does not. Names
// are those of Join.
func (r *Rooms) Rejoin(ctx context.Context, room, secret int32, name string, client, clientSecret int32, all bool) (relay.Seat, error) {
	return r.sit(ctx, roomRejoin, room, secret, name, client, clientSecret, all)
}

// flag is how a script is told a yes or no.
func flag(yes bool) string {
	if yes {
		return "1"
	}
	return "0"
}

// sit asks for a seat.
func (r *Rooms) sit(ctx context.Context, a roomAct, room, secret int32, name string, client, clientSecret int32, all bool) (relay.Seat, error) {
	if !validSeatName(name) {
		return relay.Seat{}, fmt.Errorf("name of a seat %.80q: %w", name, errSeatName)
	}
	ctx, cancel := context.WithTimeout(ctx, roomsTimeout)
	defer cancel()
	p := place{room, name}
	losses, err := r.ask(p)
	if err != nil {
		return relay.Seat{}, err
	}
	if err := r.claim(ctx, losses); err != nil {
		return relay.Seat{}, r.answered(p, losses, -1, false, err)
	}
	call := fmt.Sprint(r.node, ":", r.calls.Add(1))
	args := []any{r.node, name, secret, clientSecret, flag(all), call, client, ""}
	reply, err := r.do(ctx, a, room, args...)
	if errors.Is(err, relay.ErrConnected) && len(reply) == 1 {
		if node, _, _ := strings.Cut(reply[0], " "); r.deaf(ctx, node) {
			r.log.Info("a client comes back whose node does not hear redis", "node", node, "room", room)
			args[len(args)-1] = reply[0] // that very seat, and no other that it may have by now
			reply, err = r.do(ctx, a, room, args...)
		}
	}
	if err == nil {
		client, err = parseClient(reply)
	}
	unknown := errors.Is(err, relay.ErrUnavailable) || errors.Is(err, errRooms)
	if err := r.answered(p, losses, client, unknown, err); err != nil {
		return relay.Seat{}, err
	}
	return relay.Seat{Room: room, Client: client, Name: name}, nil
}

// parseClient reads the answer to who asks for a seat.
func parseClient(reply []string) (int32, error) {
	if len(reply) != 1 {
		return -1, errRooms
	}
	client, err := strconv.ParseInt(reply[0], 10, 32)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", errRooms, err)
	}
	return int32(client), nil
}

func validSeatName(name string) bool {
	if name == "" || name == "-" || len(name) > maxSeatName {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}

// ask notes that Redis is being asked for a seat, until answered. losses are the times
// that all seats were given up before.
func (r *Rooms) ask(p place) (losses uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, has := r.seats[p]
	_, leaves := r.leaving[p]
	switch {
	case r.ended:
		return 0, relay.ErrClosed
	case len(r.leaving) >= maxLeaving:
		return 0, fmt.Errorf("%w: %w", relay.ErrOverloaded, errBacklog)
	case has || leaves:
		return 0, fmt.Errorf("%w: %w", relay.ErrUnavailable, errSeatInUse)
	}
	r.seats[p] = seat{client: -1}
	r.asking++
	return r.losses, nil
}

// answered notes how it ended, and returns the error to tell. With unknown set it is
// not known that the seat was not taken.
func (r *Rooms) answered(p place, losses uint64, client int32, unknown bool, err error) error {
	r.mu.Lock()
	r.asking--
	switch lost := r.losses != losses; {
	case err == nil && !lost:
		r.seats[p] = seat{client: client, taken: true}
		r.mu.Unlock()
		return nil
	case err == nil:
		err = fmt.Errorf("%w: %w", relay.ErrUnavailable, errGivenUp)
		fallthrough
	case unknown:
		delete(r.seats, p)
		// Also when it was given up with all others: it may have been taken after that.
		r.leaving[p] = struct{}{}
	default:
		delete(r.seats, p)
	}
	r.mu.Unlock()
	r.poke()
	return err
}

// claim has the others know that this node may have seats. It tries for as long as ctx
// allows.
func (r *Rooms) claim(ctx context.Context, losses uint64) error {
	for {
		err := r.fleet.Ready()
		if err == nil {
			err = r.claimOnce(ctx, losses)
		}
		if err == nil || errors.Is(err, relay.ErrClosed) || errors.Is(err, errGivenUp) || !sleep(ctx, retryMax) {
			return err
		}
	}
}

func (r *Rooms) claimOnce(ctx context.Context, losses uint64) error {
	r.mu.Lock()
	claimed, lost := r.claimed, r.losses != losses
	r.mu.Unlock()
	if !claimed && !lost {
		got, err := r.fleet.Claim(ctx, claimOfRooms(r.node), r.node)
		if err != nil {
			return err
		}
		if !got {
			return fmt.Errorf("%w: the seats that this node had are being given up", relay.ErrUnavailable)
		}
		r.mu.Lock()
		lost = r.losses != losses // and the claim with them, perhaps
		r.claimed = r.claimed || !lost
		r.mu.Unlock()
	}
	if lost {
		return fmt.Errorf("%w: %w", relay.ErrUnavailable, errGivenUp)
	}
	return nil
}

// claimOfRooms is the name of a node's claim, whose holder is the node.
func claimOfRooms(node string) string { return roomsClaim + "/" + node }

// Leave implements relay.Seats. The node has to have the seat, by Join or Rejoin.
func (r *Rooms) Leave(s relay.Seat) {
	p := place{s.Room, s.Name}
	r.mu.Lock()
	_, has := r.seats[p]
	if has {
		delete(r.seats, p)
		r.leaving[p] = struct{}{}
	}
	r.mu.Unlock()
	if has {
		r.poke()
	}
}

// Connected implements relay.Seats.
func (r *Rooms) Connected(ctx context.Context, room int32) (clients []int32, host int32, err error) {
	reply, err := r.do(ctx, roomConnected, room)
	if err != nil {
		return nil, relay.NoHost, err
	}
	numbers := make([]int32, len(reply))
	for i, text := range reply {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, relay.NoHost, fmt.Errorf("%w: %w", errRooms, err)
		}
		numbers[i] = int32(n)
	}
	if len(numbers) == 0 {
		return nil, relay.NoHost, errRooms
	}
	slices.Sort(numbers[1:])
	return numbers[1:], numbers[0], nil
}

// Tell implements relay.Seats.
func (r *Rooms) Tell(ctx context.Context, room int32) error {
	_, err := r.do(ctx, roomTell, room)
	return err
}
