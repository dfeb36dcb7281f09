package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

// errRooms means that a script about rooms answered what it should not.
var errRooms = errors.New("redis answers a question about rooms with something else")

// errRoomIDs means that all ids that were made up for a room are taken.
var errRoomIDs = errors.New("no free id for a room was found")

// roomAnswers are the refusals of the scripts.
var roomAnswers = map[string]error{
	"no room":    relay.ErrNoRoom,
	"rooms full": relay.ErrRoomsFull,
	"taken":      errRoomIDs,
	"full":       relay.ErrRoomFull,
	"no client":  relay.ErrNoClient,
	"connected":  relay.ErrConnected,
	"no seat":    relay.ErrNoSeat,
	"not host":   relay.ErrNotHost,
	"in use":     fmt.Errorf("%w: %w", relay.ErrUnavailable, errSeatInUse),
}

// roomAct is something that a script can do. Its name is that in the script and in
// metrics.
type roomAct struct {
	name    string
	in      bool // it happens in one room
	keys    int  // how many of roomKeys it needs
	changes bool // it is a transition
	// It counts once replicas have it. What takes seats away does not wait for them: a
	// master that has lost it has these seats again, and they are found out again.
	lasts   bool
	repeats bool // it may be tried again when the answer was lost
}

// What the scripts can do.
var (
	roomCreate = roomAct{name: "create", keys: 3, changes: true, lasts: true, repeats: true}
	roomRead   = roomAct{name: "room", keys: 2, repeats: true}
	roomList   = roomAct{name: "list", keys: 2, repeats: true}
	roomTotals = roomAct{name: "totals", keys: 3, repeats: true}
	roomsOver  = roomAct{name: "over", keys: 2, repeats: true}
	roomNodes  = roomAct{name: "nodes", keys: 3, repeats: true}
	roomUnmake = roomAct{name: "unmake", keys: 2, repeats: true}

	roomJoin      = roomAct{name: "join", in: true, keys: 8, changes: true, lasts: true, repeats: true}
	roomRejoin    = roomAct{name: "rejoin", in: true, keys: 8, changes: true, lasts: true, repeats: true}
	roomLeave     = roomAct{name: "leave", in: true, keys: 8, changes: true, repeats: true}
	roomReap      = roomAct{name: "reap", in: true, keys: 8, changes: true, repeats: true}
	roomKick      = roomAct{name: "kick", in: true, keys: 8, changes: true, lasts: true}
	roomGrant     = roomAct{name: "grant", in: true, keys: 8, changes: true, lasts: true}
	roomAssign    = roomAct{name: "assign", in: true, keys: 8, changes: true, lasts: true, repeats: true}
	roomClose     = roomAct{name: "close", in: true, keys: 8, changes: true, lasts: true, repeats: true}
	roomExpire    = roomAct{name: "expire", in: true, keys: 8, changes: true, repeats: true}
	roomTell      = roomAct{name: "tell", in: true, keys: 8, changes: true, repeats: true}
	roomConnected = roomAct{name: "connected", in: true, keys: 4, repeats: true}
)

func (a roomAct) question() question { return question{repeats: a.repeats, lasts: a.lasts} }

// scriptCmd runs a script by its hash, and by its source once Redis has said that it
// does not know it.
type scriptCmd struct {
	*redis.Cmd
	source string
}

// SetErr is called with nil before each attempt.
func (c *scriptCmd) SetErr(err error) {
	if err == nil && c.Err() != nil && noScript(c.Err()) {
		args := c.Args()
		args[0], args[1] = "eval", c.source
	}
	c.Cmd.SetErr(err)
}

// command has a script do something, in a room if it is about one.
func (r *Rooms) command(ctx context.Context, a roomAct, room int32, args ...any) *scriptCmd {
	s := roomsManageScript
	switch {
	case a.in && r.link.sharded:
		s = roomsSeatsShardedScript
	case a.in:
		s = roomsSeatsScript
	}
	t := relay.RoomTopic(room)
	all := make([]any, 0, 3+a.keys+9+len(args))
	all = append(all, "evalsha", s.hash, a.keys)
	for _, key := range r.link.keys.roomKeys(room)[:a.keys] {
		all = append(all, key)
	}
	all = append(all, a.name, room, r.link.keys.channel(t), appendStamp(nil, &relay.Message{Time: time.Now()}),
		r.kept.length, r.kept.age, r.kept.headLife, r.options.TTL.Milliseconds(), roomMemory)
	return &scriptCmd{redis.NewCmd(ctx, append(all, args...)...), s.source}
}

// result is what the script of a command answers beside that it is done, or refused.
// Errors are refusals, or wrap errRooms.
func (c *scriptCmd) result() ([]string, error) {
	list, err := c.Slice()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRooms, err)
	}
	reply := texts(list)
	switch {
	case len(reply) == 0:
		return nil, errRooms
	case reply[0] == "ok":
		return reply[1:], nil
	case roomAnswers[reply[0]] != nil:
		return reply[1:], roomAnswers[reply[0]]
	}
	return nil, fmt.Errorf("%w: %.64q", errRooms, reply[0])
}

// do asks Redis to do something. It answers within two seconds. Errors are refusals of
// the script, after which nothing has happened and with which it may tell something, or
// wrap relay.ErrUnavailable.
func (r *Rooms) do(ctx context.Context, a roomAct, room int32, args ...any) ([]string, error) {
	cmd := r.command(ctx, a, room, args...)
	if err := r.store.ask(ctx, []redis.Cmder{cmd}, a.question()); err != nil {
		return nil, err
	}
	reply, err := cmd.result()
	if err == nil && a.changes {
		r.metrics.transitions.WithLabelValues(a.name).Inc()
	}
	return reply, err
}

// doAll has something done in several rooms, in one pipeline; args are those for each.
// It calls done for each room of which there is an answer, with what do returns.
func (r *Rooms) doAll(ctx context.Context, a roomAct, rooms []int32, args func(i int) []any, done func(i int, reply []string, err error)) error {
	cmds := make([]redis.Cmder, len(rooms))
	for i, room := range rooms {
		cmds[i] = r.command(ctx, a, room, args(i)...)
	}
	asked := r.store.ask(ctx, cmds, a.question())
	for i, cmd := range cmds {
		if _, ok := cmd.(*scriptCmd).Val().([]any); !ok || cmd.Err() != nil {
			continue
		}
		reply, err := cmd.(*scriptCmd).result()
		if err == nil && !slices.Equal(reply, []string{"0"}) { // seats, of which there were none
			r.metrics.transitions.WithLabelValues(a.name).Inc()
		}
		done(i, reply, err)
	}
	return asked
}
