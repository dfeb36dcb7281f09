package load

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/probe"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// Rooms makes relay rooms, whose clients are spread over all targets, and has the host
// of each broadcast. Everybody else in its room gets each message: each of these
// deliveries is in the ledger.
type Rooms struct {
	Fleet
	Probe probe.Probe

	Token   string // of the HTTP API; "": none
	Rooms   int    // at least 1
	Clients int    // in each room, its host too; at least 2
	Traffic
}

// MaxRooms is how many rooms a run may have: a message says which one it is of in the
// upper bits of its sequence number.
const MaxRooms = MaxPublishers

// RelayTotals counts the messages of all rooms, and where it says so their deliveries: a
// message that comes to three clients is three of these.
type RelayTotals struct {
	Rooms   int    `json:"rooms"`
	Clients int    `json:"clients"`
	Sent    uint64 `json:"sent"`
	Reached uint64 `json:"reached_somebody"`
	// Refused counts error answers. Vanished came to nobody, and no error explains it.
	Refused   uint64            `json:"refused"`
	RefusedBy map[string]uint64 `json:"refused_by_code,omitempty"`
	Vanished  uint64            `json:"vanished"`

	Delivered uint64 `json:"deliveries"`
	// Lost are deliveries of messages that came to some of a room and not to all.
	Lost uint64 `json:"lost_deliveries"`
	// Duplicates are deliveries after the first, Reordered those after one of a later
	// message.
	Duplicates uint64 `json:"duplicate_deliveries"`
	Reordered  uint64 `json:"reordered_deliveries"`
	Foreign    uint64 `json:"foreign"`
}

// Kept tells whether everybody got each message once and in order, and nothing that
// nobody sent.
func (t RelayTotals) Kept() bool {
	return t.Lost == 0 && t.Vanished == 0 && t.Duplicates == 0 && t.Reordered == 0 && t.Foreign == 0
}

// Codes returns the codes of RefusedBy in alphabetical order.
func (t RelayTotals) Codes() []string { return slices.Sorted(maps.Keys(t.RefusedBy)) }

// RoomsResult is what a Rooms run measured. Latencies are of the messages that were due
// in the measured time, deliveries those that arrived in it; the ledger covers the whole
// run, warm-up included.
type RoomsResult struct {
	Throughput

	Messages   RelayTotals      `json:"messages"`
	Findings   []ledger.Finding `json:"findings"` // the first
	FoundInAll int              `json:"findings_in_all"`

	ledgers ledgers
}

// Ledger passes all findings to yield until that returns false.
func (r *RoomsResult) Ledger(yield func(ledger.Finding) bool) { r.ledgers.findings(yield) }

// Failures says in words what broke, nothing when all is well.
func (r *RoomsResult) Failures() (failures []string) {
	m := r.Messages
	for _, f := range []struct {
		n    uint64
		what string
	}{
		{m.Lost, "deliveries lost"},
		{m.Vanished, "messages that came to nobody, and no error explains it"},
		{m.Duplicates, "deliveries duplicated"},
		{m.Reordered, "deliveries out of their host's order"},
		{m.Foreign, "foreign: no message sent explains them"},
	} {
		if f.n > 0 {
			failures = append(failures, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}
	return append(failures, r.failures()...)
}

// ledgers are those of the rooms, one each.
type ledgers []*ledger.Room

func (all ledgers) Sent() (n uint64) {
	for _, l := range all {
		n += l.Sent()
	}
	return n
}

func (all ledgers) Delivered() (n uint64) {
	for _, l := range all {
		n += l.Delivered()
	}
	return n
}

func (all ledgers) Settled() bool {
	return !slices.ContainsFunc(all, func(l *ledger.Room) bool { return !l.Settled() })
}

func (all ledgers) totals() RelayTotals {
	t := RelayTotals{Rooms: len(all), RefusedBy: map[string]uint64{}}
	for _, l := range all {
		room, reached := l.Totals(), l.Reached()
		t.Clients += room.Members + 1
		t.Sent += room.Sent
		t.Reached += reached
		t.Refused += room.Refused
		for code, n := range room.RefusedBy {
			t.RefusedBy[code] += n
		}
		if explained := reached + room.Refused; room.Sent > explained {
			t.Vanished += room.Sent - explained
		}
		t.Delivered += room.Delivered
		t.Lost += room.Lost
		t.Duplicates += room.Duplicates
		t.Reordered += room.Reordered
		t.Foreign += room.Foreign
	}
	return t
}

func (all ledgers) findings(yield func(ledger.Finding) bool) {
	for _, l := range all {
		for f := range l.Findings {
			// There is one publisher in a room: its places say the same as its numbers.
			if f.Kind != ledger.Misplaced && !yield(f) {
				return
			}
		}
	}
}

// relays is a run of Rooms.
type relays struct {
	*Rooms
	broadcast
	api    rooms.API
	nonce  uint32
	filler []byte
	rooms  []*relayRoom
}

// relayRoom is one room of the run.
type relayRoom struct {
	// Fixed after construction.
	rooms.Room
	run       *relays
	number    int
	ledger    *ledger.Room
	host      *relayClient
	publisher *publisher
	listeners []*relayClient

	alive atomic.Int64 // listeners
}

// Run makes the rooms, opens all connections, sends, measures, drains, and ends the
// rooms. An error means that nothing was measured.
func (d *Rooms) Run(ctx context.Context) (*RoomsResult, error) {
	connections := d.Rooms * d.Clients
	r := &relays{Rooms: d, nonce: rand.Uint32N(1 << 20), filler: texto.Filler(d.Size - texto.IDLen),
		api: rooms.API{Target: d.target(0), Token: d.Token, TLS: d.TLS}}
	r.init(&d.Traffic, &d.Probe, connections)
	if err := d.admit(connections); err != nil {
		return nil, err
	}
	err := r.create(ctx)
	if err == nil {
		err = r.connect(ctx)
	}
	var result *RoomsResult
	if err == nil {
		result = r.play(ctx)
	}
	if left := r.remove(context.WithoutCancel(ctx)); left != nil && result != nil {
		result.Notes = append(result.Notes, left.Error())
	}
	return result, err
}

// create makes the rooms.
func (r *relays) create(ctx context.Context) error {
	r.Progress(fmt.Sprintf("making %d rooms", r.Rooms.Rooms))
	for i := range r.Rooms.Rooms {
		ctx, cancel := context.WithTimeout(ctx, r.Timeout)
		made, err := r.api.Create(ctx, r.Clients)
		cancel()
		if err != nil {
			return err
		}
		room := &relayRoom{Room: made, run: r, number: i, ledger: ledger.NewRoom(fmt.Sprintf("host %d", i+1))}
		r.rooms = append(r.rooms, room)
	}
	return nil
}

// remove ends the rooms, all that it can.
func (r *relays) remove(ctx context.Context) (err error) {
	for _, room := range r.rooms {
		ctx, cancel := context.WithTimeout(ctx, r.Timeout)
		if failed := r.api.Delete(ctx, room.Room); failed != nil && err == nil {
			err = fmt.Errorf("room %d was not ended: %w", room.ID, failed)
		}
		cancel()
	}
	return err
}

// connect opens all connections, or none: the hosts first.
func (r *relays) connect(ctx context.Context) error {
	r.Progress(fmt.Sprintf("opening %d connections", len(r.rooms)*r.Clients))
	const readBuffer = 4 << 10
	dialer := r.dialer(readBuffer)
	join := func(room, client int) (*rooms.Session, error) {
		n := room*r.Clients + client
		return rooms.Join(ctx, dialer, r.target(room+client), r.source(n), r.rooms[room].Room)
	}
	undo := func(s *rooms.Session) { s.CloseNow() }
	hosts, err := openOrNone(ctx, &r.Fleet, len(r.rooms), func(i int) (*rooms.Session, error) {
		s, err := join(i, 0)
		if err == nil {
			err = r.assigned(s)
		}
		return s, err
	}, undo)
	if err != nil {
		return err
	}
	others := r.Clients - 1
	listeners, err := openOrNone(ctx, &r.Fleet, len(r.rooms)*others, func(i int) (*rooms.Session, error) {
		return join(i/others, 1+i%others)
	}, undo)
	if err != nil {
		for _, s := range hosts {
			undo(s)
		}
		return err
	}
	var all ledgers
	r.speaking.Store(int64(len(r.rooms)))
	for i, room := range r.rooms {
		room.seat(hosts[i], listeners[i*others:(i+1)*others])
		r.publishers = append(r.publishers, room.publisher)
		all = append(all, room.ledger)
	}
	r.account = all
	return nil
}

// assigned waits until the first client of a room is told that it is host. On an error
// the connection is closed.
func (r *relays) assigned(s *rooms.Session) error {
	_ = s.SetReadDeadline(time.Now().Add(r.Timeout))
	_, frame, err := s.ReadMessage()
	var p rooms.Payload
	if err == nil {
		p, err = rooms.ParsePayload(frame)
	}
	if err == nil && p.Flag != rooms.ResponseAssign {
		err = fmt.Errorf("the first client of a room was not made host, but told %v", p.Flag)
	}
	if err != nil {
		s.CloseNow()
		return err
	}
	_ = s.SetReadDeadline(time.Time{})
	return nil
}

// seat makes the room's clients of their connections.
func (room *relayRoom) seat(host *rooms.Session, listeners []*rooms.Session) {
	r := room.run
	shard := func(client int) int { return (room.number*r.Clients + client) % len(r.latency) }
	room.host = &relayClient{Session: host, room: room, name: fmt.Sprintf("host %d", room.number+1)}
	room.alive.Store(int64(len(listeners)))
	for i, s := range listeners {
		c := &relayClient{Session: s, room: room, name: fmt.Sprintf("room %d client %d", room.number+1, i+2), latency: &r.latency[shard(i+1)]}
		c.account = room.ledger.Join(c.name, -1)
		room.listeners = append(room.listeners, c)
	}
	frame := host.NewSend(rooms.Broadcast, r.filler)
	room.publisher = newPublisher(&r.stopwatch, r.window(), &room.alive, &r.lag[shard(0)], func() uint64 { return room.ledger.Send(0) },
		func(due int64, seq uint64) {
			// A failure to write shows to the reader too, which says why.
			_ = host.WriteFrame(frame.Stamp(texto.ID{Due: due, Nonce: r.nonce, Seq: uint64(room.number)<<publisherShift | seq}))
		})
}

// play runs the traffic, and returns when all its goroutines have ended.
func (r *relays) play(ctx context.Context) *RoomsResult {
	var hosting, listening sync.WaitGroup
	var hosts, listeners []*relayClient
	var all ledgers
	for _, room := range r.rooms {
		hosts, listeners = append(hosts, room.host), append(listeners, room.listeners...)
		all = append(all, room.ledger)
		hosting.Go(room.host.lead)
		for _, c := range room.listeners {
			listening.Go(c.listen)
		}
	}
	result := &RoomsResult{ledgers: all}
	result.Throughput = r.measure(ctx, len(hosts)+len(listeners), func() {
		conn := func(c *relayClient) *wsclient.Conn { return c.Conn }
		// The hosts last: else each room would move its host to a client that leaves.
		leave(&listening, listeners, conn)
		leave(&hosting, hosts, conn)
	})
	result.Messages = all.totals()
	result.Findings = []ledger.Finding{} // an empty list in JSON, not null
	for f := range all.findings {
		if result.FoundInAll++; len(result.Findings) < listed {
			result.Findings = append(result.Findings, f)
		}
	}
	return result
}
