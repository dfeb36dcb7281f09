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
// who is connected, and fences rise with the hosts.
type RoomView struct {
	// Fixed after NewRoomView.
	id  int32
	max int32

	Host    int32
	Fence   int64
	Seats   map[int32]string               // names, by the clients that are connected
	Ended   map[string]relay.RoomEventKind // by which event each seat was lost, by their names
	Counts  map[relay.RoomEventKind]int
	Closed  bool
	Unknown bool // events were missed, and none since has told of everybody

	next  int32           // id of the next new client
	known bool            // next is, since nothing was ever missed
	names map[string]bool // of all seats so far
}

// NewRoomView is that of one who hears of a new room from its first event on.
func NewRoomView(id, max int32) *RoomView {
	return &RoomView{id: id, max: max, Host: relay.NoHost, Seats: map[int32]string{}, Ended: map[string]relay.RoomEventKind{},
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
	switch e.Kind {
	case relay.RoomJoined:
		return v.join(e)
	case relay.RoomLeft:
		return v.leave(e)
	case relay.RoomKicked:
		if _, is := v.Seats[e.Client]; !is || e.Client == v.Host || e.Host != v.Host {
			return fmt.Errorf("host %d of %d has kicked", v.Host, v.Clients())
		}
		v.end(e.Client, e.Kind)
	case relay.RoomGranted:
		if _, is := v.Seats[e.Host]; !is || e.Client != v.Host || e.Host == v.Host {
			return fmt.Errorf("host %d of %d has granted", v.Host, v.Clients())
		}
	case relay.RoomTold:
		if !e.Full || e.Client != -1 || e.Host != v.Host {
			return fmt.Errorf("host is %d of %d", v.Host, v.Clients())
		}
	case relay.RoomClosed:
		if e.Host != relay.NoHost || e.Client != -1 {
			return errors.New("a room that is closed has a host")
		}
		v.Closed = true
		for _, client := range v.Clients() {
			v.end(client, e.Kind)
		}
	default:
		return fmt.Errorf("an event of kind %q", e.Kind)
	}
	return nil
}

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
	if e.Client < 0 || v.known && e.Client > v.next {
		return fmt.Errorf("the next client would be %d", v.next)
	}
	v.next = max(v.next, e.Client+1)
	v.names[e.Name] = true
	v.Seats[e.Client] = e.Name
	if want := v.Host; e.Host != want && (want != relay.NoHost || e.Host != e.Client) {
		return fmt.Errorf("the host was %d", want)
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
		if _, is := v.Seats[client]; !is {
			return fmt.Errorf("client %d was not connected, but %d", client, v.Clients())
		}
		v.end(client, e.Kind)
	}
	want := v.Host
	if slices.Contains(e.Gone, want) {
		want = relay.NoHost
		if left := v.Clients(); len(left) > 0 {
			want = left[0]
		}
	}
	if e.Host != want {
		return fmt.Errorf("%d are left, and the host should be %d", v.Clients(), want)
	}
	return nil
}

// check is called after an event.
func (v *RoomView) check(e *relay.RoomEvent) error {
	if _, is := v.Seats[v.Host]; is != (len(v.Seats) > 0) || !is && v.Host != relay.NoHost {
		return fmt.Errorf("host %d is none of %d", v.Host, v.Clients())
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
