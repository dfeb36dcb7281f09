package relay

import (
	"context"
	"strconv"
)

// Roster knows who is present at topics, anywhere in the fleet. A member is present
// as long as one node has entered it; when a node dies, the others take its members
// back within 15 s.
type Roster interface {
	// Enter notes that this node has the member. Nothing happens when it has it
	// already. It returns at once: as soon as Redis answers, everybody who subscribes
	// to the topic hears of it if no other node had it (see Change). Enter and Leave of
	// one member take effect in their order, those that undo each other perhaps not at
	// all. At most 512 bytes.
	Enter(t Topic, member string)
	// Leave notes that this node does not have the member any more.
	Leave(t Topic, member string)
	// Members returns who is present, in no order, and the number of the last change:
	// what is heard with that number or a lower one, has been taken into account.
	// Errors wrap ErrUnavailable.
	Members(ctx context.Context, t Topic) (members []string, last uint64, err error)
}

// Change is a member that came or went. Changes of a topic are numbered, and heard in
// the order of their numbers by those who subscribe to it; they are not kept. When a
// number is not the one after the last, changes were missed: ask for the Members anew,
// as after a Gap. It is the body of a Message whose From is the member.
type Change struct {
	Number  uint64
	Present bool
}

// ChangeOf reads the change that a message tells of; false for any other message.
func ChangeOf(m *Message) (c Change, ok bool) {
	if len(m.Body) < 2 || m.Body[0] != '+' && m.Body[0] != '-' {
		return c, false
	}
	n, err := strconv.ParseUint(string(m.Body[1:]), 10, 64)
	return Change{Number: n, Present: m.Body[0] == '+'}, err == nil
}
