package relaytest

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"parley/pkg/relay"
)

// RoomView is what somebody knows of a room who hears its topic. Apply checks what
// must be true of a room at every place of that order: with clients it has one host,
// who is connected, or else the host is on the move, which who was host before is there
// to end; and fences rise with the hosts.
type RoomView struct {
	// Fixed after NewRoomView.
	id  int32
	max int32

	Host    int32
	Fence   int64
	Seats   map[int32]string               // names, by the clients that are connected
	Ended   map[string]relay.RoomEventKind // by which event each seat was lost, by their names
	Retaken map[string]bool                // seats whose clients had another one right after
	Counts  map[relay.RoomEventKind]int
	Closed  bool
	Unknown bool // events were missed, and none since has told of everybody

	granter int32 // who was host, while the host is on the move; else relay.NoHost
	strange bool  // the host is on the move, and nobody has heard who was it

	next  int32           // id of the next new client
	known bool            // next is, since nothing was ever missed
	names map[string]bool // of all seats so far
	last  relay.Seat      // who left with the event before, if one did
}

// NewRoomView is that of one who hears of a new room from its first event on.
func NewRoomView(id, max int32) *RoomView {
	return &RoomView{id: id, max: max, Host: relay.NoHost, granter: relay.NoHost, Seats: map[int32]string{}, Ended: map[string]relay.RoomEventKind{}, Retaken: map[string]bool{},
		Counts: map[relay.RoomEventKind]int{}, known: true, names: map[string]bool{}}
}

// ReplayRoom has a view hear what a receiver was given for the topic of a new room.
func ReplayRoom(id, max int32, heard []Event) (*RoomView, error) {
	v := NewRoomView(id, max)
	for i, h := range heard {
		if h.Gap {
			v.Miss()
			continue
		}
		e, ok := relay.RoomEventOf(&h.Message)
		if !ok {
			if h.Message.From == "" {
				return v, fmt.Errorf("message %d, %q, has no sender and is no event", i, h.Message.Body)
			}
			continue
		}
		if err := v.Apply(&e); err != nil {
			return v, fmt.Errorf("message %d, %q: %w; it was heard after %s", i, h.Message.Body, err, lastHeard(heard[:i]))
		}
	}
	return v, nil
}

// lastHeard shows the last of what was heard.
func lastHeard(heard []Event) string {
	const some = 12
	text := ""
	for _, h := range heard[max(0, len(heard)-some):] {
		if h.Gap {
			text += "\n\ta gap"
		} else {
			text += fmt.Sprintf("\n\t%v %s", h.Message.ID, h.Message.Body)
		}
	}
	return text
}

// Miss tells the view that events may be missing here.
func (v *RoomView) Miss() { v.Unknown, v.known = true, false }

// Whole tells that the view has missed nothing since the room was made.
func (v *RoomView) Whole() bool { return v.known }

// Moving tells that the host is on the move: there are clients, and none of them is it.
func (v *RoomView) Moving() bool { return v.granter != relay.NoHost || v.strange }

// Clients are the ids of those who are connected, in ascending order.
func (v *RoomView) Clients() []int32 { return slices.Sorted(maps.Keys(v.Seats)) }

// Has tells whether a seat is one of the room.
func (v *RoomView) Has(s relay.Seat) bool {
	name, ok := v.Seats[s.Client]
	return ok && name == s.Name
}

// Apply follows an event, and returns what is wrong with it.
func (v *RoomView) Apply(e *relay.RoomEvent) error {
	if v.Closed {
		return errors.New("the room was closed before")
	}
	if v.Unknown {
		if !e.Full && e.Kind != relay.RoomClosed {
			return nil
		}
		return v.restore(e)
	}
	v.Counts[e.Kind]++
	host := v.Host
	if err := v.follow(e); err != nil {
		return err
	}
	switch {
	case e.Kind == relay.RoomClosed: // its hosts are no more
	case e.Host == host && e.Fence != v.Fence:
		return fmt.Errorf("the host is %d as before, but the fence is %d after %d", host, e.Fence, v.Fence)
	case e.Host != host && e.Fence <= v.Fence:
		return fmt.Errorf("the host is %d after %d, but the fence is %d after %d", e.Host, host, e.Fence, v.Fence)
	}
	v.Host, v.Fence = e.Host, e.Fence
	return v.check(e)
}

// follow moves seats as an event tells, and checks it against the host before it.
func (v *RoomView) follow(e *relay.RoomEvent) error {
	if e.Kind != relay.RoomJoined && e.Name != "" {
		return fmt.Errorf("nobody has joined, and there is a seat %q", e.Name)
	}
	if e.Kind != relay.RoomLeft && e.Kind != relay.RoomClosed && len(e.Gone) > 0 {
		return fmt.Errorf("nobody has left, and %d are gone", e.Gone)
	}
	last := v.last
	v.last = relay.Seat{}
	switch e.Kind {
	case relay.RoomJoined:
		if last.Name != "" && last.Client == e.Client {
			v.Retaken[last.Name] = true
		}
		return v.join(e)
	case relay.RoomLeft:
		return v.leave(e)
	case relay.RoomKicked:
		if _, is := v.Seats[e.Client]; !is || v.Moving() || e.Client == v.Host || e.Host != v.Host {
			return fmt.Errorf("host %d of %d has kicked", v.Host, v.Clients())
		}
		v.end(e.Client, e.Kind)
	case relay.RoomMoving:
		if v.Moving() || e.Client != v.Host || e.Host != relay.NoHost || len(v.Seats) < 2 {
			return fmt.Errorf("host %d of %d has granted", v.Host, v.Clients())
		}
		v.granter = e.Client
	case relay.RoomGranted:
		if _, is := v.Seats[e.Host]; !is || !v.Moving() || !v.strange && e.Client != v.granter {
			return fmt.Errorf("host %d of %d was granted by %d", v.Host, v.Clients(), v.granter)
		}
		v.granter, v.strange = relay.NoHost, false
	case relay.RoomTold:
		if !e.Full || e.Client != -1 || e.Host != v.Host {
			return fmt.Errorf("host is %d of %d", v.Host, v.Clients())
		}
	case relay.RoomClosed:
		if e.Host != relay.NoHost || e.Client != -1 {
			return errors.New("a room that is closed has a host")
		}
		v.Closed, v.granter, v.strange = true, relay.NoHost, false
		for _, client := range v.Clients() {
			v.end(client, e.Kind)
		}
	default:
		return fmt.Errorf("an event of kind %q", e.Kind)
	}
	return nil
}

// idLeap is how far ids leap at least where Redis may have lost the last ones.
const idLeap = 1000

func (v *RoomView) join(e *relay.RoomEvent) error {
	if _, is := v.Seats[e.Client]; is {
		return fmt.Errorf("client %d is connected already", e.Client)
	}
	if len(v.Seats) >= int(v.max) {
		return fmt.Errorf("more than %d are connected", v.max)
	}
	if e.Name == "" || v.names[e.Name] {
		return errors.New("the seat has no name of its own")
	}
	if leaps := e.Client >= v.next+idLeap; e.Client < 0 || v.known && e.Client > v.next && !leaps {
		return fmt.Errorf("the next client would be %d", v.next)
	}
	v.next = max(v.next, e.Client+1)
	v.names[e.Name] = true
	v.Seats[e.Client] = e.Name
	want := v.Host
	if len(v.Seats) == 1 {
		want = e.Client
	}
	if e.Host != want {
		return fmt.Errorf("the host was %d", v.Host)
	}
	return nil
}

func (v *RoomView) end(client int32, by relay.RoomEventKind) {
	v.Ended[v.Seats[client]] = by
	delete(v.Seats, client)
}

func (v *RoomView) leave(e *relay.RoomEvent) error {
	if len(e.Gone) == 0 || e.Client != -1 || !ascending(e.Gone) {
		return errors.New("it does not tell who has left")
	}
	for _, client := range e.Gone {
		name, is := v.Seats[client]
		if !is {
			return fmt.Errorf("client %d was not connected, but %d", client, v.Clients())
		}
		if len(e.Gone) == 1 {
			v.last = relay.Seat{Room: v.id, Client: client, Name: name}
		}
		v.end(client, e.Kind)
	}
	want := v.Host
	if v.Moving() && len(v.Seats) > 0 {
		if !slices.Contains(e.Gone, v.granter) && (!v.strange || e.Host == relay.NoHost) {
			return v.remains(e, relay.NoHost)
		}
		v.granter, v.strange = relay.NoHost, false
		if _, is := v.Seats[e.Host]; is {
			return nil // to whom it was granted, or the first one
		}
		return v.remains(e, v.Clients()[0])
	}
	if v.Moving() || slices.Contains(e.Gone, want) {
		v.granter, v.strange = relay.NoHost, false
		want = relay.NoHost
		if left := v.Clients(); len(left) > 0 {
			want = left[0]
		}
	}
	return v.remains(e, want)
}

// remains checks who is host after somebody has left.
func (v *RoomView) remains(e *relay.RoomEvent, host int32) error {
	if e.Host != host {
		return fmt.Errorf("%d are left, and the host should be %d", v.Clients(), host)
	}
	return nil
}

// check is called after an event.
func (v *RoomView) check(e *relay.RoomEvent) error {
	if _, is := v.Seats[v.Host]; is != (len(v.Seats) > 0 && !v.Moving()) || !is && v.Host != relay.NoHost {
		return fmt.Errorf("host %d is none of %d", v.Host, v.Clients())
	}
	if _, is := v.Seats[v.granter]; !is && v.granter != relay.NoHost {
		return fmt.Errorf("client %d, who has granted, is none of %d", v.granter, v.Clients())
	}
	if !e.Full {
		if len(e.All) > 0 {
			return errors.New("it lists some, but not all")
		}
		return nil
	}
	var all []relay.Seat
	for _, client := range v.Clients() {
		all = append(all, relay.Seat{Room: v.id, Client: client, Name: v.Seats[client]})
	}
	if !slices.Equal(e.All, all) {
		return fmt.Errorf("it lists %v, want %v", e.All, all)
	}
	return nil
}

// restore takes over what an event tells of everybody.
func (v *RoomView) restore(e *relay.RoomEvent) error {
	v.Unknown = false
	v.Host, v.Fence, v.Closed = e.Host, e.Fence, e.Kind == relay.RoomClosed
	clear(v.Seats)
	for _, s := range e.All {
		v.Seats[s.Client] = s.Name
		v.names[s.Name] = true
		v.next = max(v.next, s.Client+1)
	}
	if len(v.Seats) > int(v.max) || v.Closed && len(v.Seats) > 0 {
		return fmt.Errorf("too many are connected: %d", v.Clients())
	}
	v.granter, v.strange = relay.NoHost, e.Host == relay.NoHost && len(v.Seats) > 0
	if v.Closed {
		return nil
	}
	return v.check(e)
}

func ascending(ids []int32) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i] <= ids[i-1] {
			return false
		}
	}
	return true
}
