package ledger

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Room is the account of messages that several publishers send to a room, and that
// each of its members must get once, in the order in which each publisher sent them,
// and all members in one order. There is no acknowledgement but this: a publisher is a
// member too, and gets its own messages back. All methods may be called by any
// goroutine.
//
// What goes well costs no memory for a message.
type Room struct {
	publishers []*publisher // fixed after construction
	foreign    *Ledger      // holds what nobody sent

	mu      sync.Mutex
	members []*Member
}

// publisher is who sends. Its messages are numbered from 1.
type publisher struct {
	name string
	sent atomic.Uint64

	mu      sync.Mutex
	refused map[string]uint64
	errors  uint64
}

// NewRoom returns an empty account of messages from publishers of these names.
func NewRoom(publishers ...string) *Room {
	r := &Room{foreign: New()}
	for _, name := range publishers {
		r.publishers = append(r.publishers, &publisher{name: name, refused: map[string]uint64{}})
	}
	return r
}

// Send counts one more message of a publisher as sent and returns its number. It is
// called before the message is written, and messages are written in the order of
// their numbers.
func (r *Room) Send(publisher int) (seq uint64) { return r.publishers[publisher].sent.Add(1) }

// Sent is how many messages all publishers have sent.
func (r *Room) Sent() (n uint64) {
	for _, p := range r.publishers {
		n += p.sent.Load()
	}
	return n
}

// Refuse counts an error that a publisher was answered. Which message it was for, the
// protocol does not say.
func (r *Room) Refuse(publisher int, code string) {
	p := r.publishers[publisher]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors++
	p.refused[code]++
}

// Foreign notes something that no message explains.
func (r *Room) Foreign(at, format string, args ...any) { r.foreign.Foreign(at, format, args...) }

// Place is where a message stands in the room's order.
type Place struct{ Millis, Seq uint64 }

func (p Place) after(other Place) bool {
	return p.Millis > other.Millis || p.Millis == other.Millis && p.Seq > other.Seq
}

// Member is the account of what one member got.
type Member struct {
	// Fixed after construction.
	room *Room
	name string
	own  int // the publisher that it is; -1: none

	mu         sync.Mutex
	from       []received // by publisher
	last       Place
	order      uint64 // a digest of all that came, in its order
	delivered  uint64 // first arrivals
	duplicates uint64
	misplaced  uint64
	ended      bool
	note       string
}

// received is what has come of one publisher.
type received struct {
	next       uint64              // all up to here was expected; the first is 1
	missing    map[uint64]struct{} // of those below next, what has not come
	delivered  uint64
	duplicated map[uint64]struct{}
	reordered  map[uint64]struct{}
}

// maxNoted bounds the duplicated and the reordered messages of a publisher that a
// member knows by their numbers.
const maxNoted = 10_000

// Join adds a member, which gets all messages from now on. own is the publisher that
// it is, -1 for none.
func (r *Room) Join(name string, own int) *Member {
	m := &Member{room: r, name: name, own: own, from: make([]received, len(r.publishers)), order: digestSeed}
	for i := range m.from {
		m.from[i].next = 1
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = append(r.members, m)
	return m
}

// Deliver counts an arrival. Known is false when no such message was sent, and nothing
// was counted; First when the message has not come to this member before.
func (m *Member) Deliver(publisher int, seq uint64, at Place) Result {
	if publisher < 0 || publisher >= len(m.from) || seq < 1 || seq > m.room.publishers[publisher].sent.Load() {
		return Result{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &m.from[publisher]
	if seq < f.next {
		if _, late := f.missing[seq]; !late {
			m.duplicates++
			f.duplicated = note(f.duplicated, seq)
			return Result{Known: true}
		}
		delete(f.missing, seq)
		f.reordered = note(f.reordered, seq)
	} else {
		for ; f.next < seq; f.next++ {
			if f.missing == nil {
				f.missing = map[uint64]struct{}{}
			}
			f.missing[f.next] = struct{}{}
		}
		f.next++
	}
	if !at.after(m.last) {
		m.misplaced++
	}
	m.last = at
	m.order = digest(digest(digest(digest(m.order, uint64(publisher)), seq), at.Millis), at.Seq)
	m.delivered++
	f.delivered++
	return Result{Known: true, First: true}
}

func note(set map[uint64]struct{}, seq uint64) map[uint64]struct{} {
	if set == nil {
		set = map[uint64]struct{}{}
	}
	if len(set) < maxNoted {
		set[seq] = struct{}{}
	}
	return set
}

// digestSeed and digestPrime are those of FNV-1a with 64 bits.
const (
	digestSeed  = 14695981039346656037
	digestPrime = 1099511628211
)

func digest(d, v uint64) uint64 { return (d ^ v) * digestPrime }

// End notes that the member's connection has ended, and why: what was sent last may
// not have come to it.
func (m *Member) End(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended, m.note = true, why
}

// Delivered is how many messages have come to members, each once a member.
func (r *Room) Delivered() (n uint64) {
	for _, m := range r.everybody() {
		m.mu.Lock()
		n += m.delivered
		m.mu.Unlock()
	}
	return n
}

// Settled tells whether all that was sent and not refused has come to all members
// whose connections stand.
func (r *Room) Settled() bool {
	for i, p := range r.publishers {
		p.mu.Lock()
		errors := p.errors
		p.mu.Unlock()
		sent := p.sent.Load()
		for _, m := range r.everybody() {
			m.mu.Lock()
			settled := m.ended || m.from[i].delivered+errors >= sent
			m.mu.Unlock()
			if !settled {
				return false
			}
		}
	}
	return true
}

// Reached is how many messages have come to anybody.
func (r *Room) Reached() (n uint64) {
	members := r.everybody()
	for i := range r.publishers {
		var furthest *Member
		next := uint64(1)
		for _, m := range members {
			m.mu.Lock()
			if m.from[i].next > next {
				furthest, next = m, m.from[i].next
			}
			m.mu.Unlock()
		}
		if furthest == nil {
			continue
		}
		furthest.mu.Lock()
		missing := slices.Collect(maps.Keys(furthest.from[i].missing))
		furthest.mu.Unlock()
		n += next - 1
		for _, seq := range missing {
			if !slices.ContainsFunc(members, func(m *Member) bool { return m.has(i, seq) }) {
				n--
			}
		}
	}
	return n
}

func (r *Room) everybody() []*Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members)
}

// RoomTotals counts messages, and where it says so their deliveries: a message that
// comes to three members is three of these.
type RoomTotals struct {
	Members  int    `json:"members"`
	Sent     uint64 `json:"sent"`
	CameBack uint64 `json:"came_back"` // to their publishers
	// Refused counts error answers; Unanswered are the messages that neither came
	// back nor can have been refused.
	Refused    uint64            `json:"refused"`
	RefusedBy  map[string]uint64 `json:"refused_by_code,omitempty"`
	Unanswered uint64            `json:"unanswered"`

	Delivered uint64 `json:"deliveries"`
	// Lost are deliveries of messages that came to some members and not to all.
	Lost uint64 `json:"lost_deliveries"`
	// Duplicates are deliveries after the first.
	Duplicates uint64 `json:"duplicate_deliveries"`
	// Reordered are deliveries after one of a later message of the same publisher.
	Reordered uint64 `json:"reordered_deliveries"`
	// Misplaced are deliveries whose place is not after that of the one before.
	Misplaced uint64 `json:"misplaced_deliveries"`
	// Differing are the members that got all, but in another order than most, or with
	// other places.
	Differing int    `json:"members_with_another_order"`
	Foreign   uint64 `json:"foreign"`
}

// Kept tells whether everybody got each message once and in one order, and nothing
// that nobody sent.
func (t RoomTotals) Kept() bool {
	return t.Lost == 0 && t.Duplicates == 0 && t.Reordered == 0 && t.Misplaced == 0 && t.Differing == 0 && t.Foreign == 0
}

// Codes returns the codes of RefusedBy in alphabetical order.
func (t RoomTotals) Codes() []string { return slices.Sorted(maps.Keys(t.RefusedBy)) }

// Totals sums up. It is meant for the end of a run: while messages are on their way
// they count as lost.
func (r *Room) Totals() RoomTotals {
	members := r.everybody()
	t := RoomTotals{Members: len(members), RefusedBy: map[string]uint64{}, Foreign: r.foreign.Totals().Foreign}
	for _, m := range members {
		m.mu.Lock()
		t.Delivered += m.delivered
		t.Duplicates += m.duplicates
		t.Misplaced += m.misplaced
		for i := range m.from {
			t.Reordered += uint64(len(m.from[i].reordered))
			if i == m.own {
				t.CameBack += m.from[i].delivered
			}
		}
		m.mu.Unlock()
	}
	for _, p := range r.publishers {
		p.mu.Lock()
		t.Sent += p.sent.Load()
		t.Refused += p.errors
		for code, n := range p.refused {
			t.RefusedBy[code] += n
		}
		p.mu.Unlock()
	}
	if answered := t.CameBack + t.Refused; t.Sent > answered {
		t.Unanswered = t.Sent - answered
	}
	whole := map[uint64]int{}
	complete := r.lost(members, func(_ *Member, _ int, _ uint64) bool {
		t.Lost++
		return true
	})
	for _, m := range complete {
		whole[m.order]++
	}
	if len(complete) > 0 {
		t.Differing = len(complete) - slices.Max(slices.Collect(maps.Values(whole)))
	}
	return t
}

// lost calls missed, until it returns false, for each message that has not come to a
// member but to another one, and returns the members that have missed nothing. Of a
// member whose connection has ended only what later messages of the same publisher
// have overtaken counts.
func (r *Room) lost(members []*Member, missed func(m *Member, publisher int, seq uint64) bool) (complete []*Member) {
	incomplete := map[*Member]bool{}
	for i := range r.publishers {
		next := uint64(1) // nobody got this one or any after it
		for _, m := range members {
			m.mu.Lock()
			next = max(next, m.from[i].next)
			m.mu.Unlock()
		}
		came := map[uint64]bool{} // to anybody
		anybody := func(seq uint64) bool {
			is, known := came[seq]
			if !known {
				is = slices.ContainsFunc(members, func(m *Member) bool { return m.has(i, seq) })
				came[seq] = is
			}
			return is
		}
		for _, m := range members {
			m.mu.Lock()
			absent := slices.Sorted(maps.Keys(m.from[i].missing))
			for seq := m.from[i].next; seq < next && !m.ended; seq++ {
				absent = append(absent, seq)
			}
			if m.ended {
				incomplete[m] = true
			}
			m.mu.Unlock()
			for _, seq := range absent {
				if !anybody(seq) {
					continue
				}
				incomplete[m] = true
				if !missed(m, i, seq) {
					return nil
				}
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(members), func(m *Member) bool { return incomplete[m] })
}

// has tells whether a message has come.
func (m *Member) has(publisher int, seq uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, missing := m.from[publisher].missing[seq]
	return seq < m.from[publisher].next && !missing
}

// Findings passes all findings to yield until that returns false: what was lost,
// duplicated and reordered, neighbours together, then who got messages out of the room's order, then what was
// foreign. It is meant for the end of a run.
func (r *Room) Findings(yield func(Finding) bool) {
	members := r.everybody()
	var open Finding
	going := true
	add := func(kind Kind, m *Member, publisher int, seq uint64) bool {
		m.mu.Lock()
		f := Finding{Kind: kind, Sender: r.publishers[publisher].name, Receiver: m.name, First: seq, Last: seq, Note: m.note}
		m.mu.Unlock()
		switch {
		case open.Kind == f.Kind && open.Sender == f.Sender && open.Receiver == f.Receiver && open.Last+1 == seq:
			open.Last = seq
		case open.Kind != "":
			going = going && yield(open)
			open = f
		default:
			open = f
		}
		return going
	}
	r.lost(members, func(m *Member, publisher int, seq uint64) bool { return add(Lost, m, publisher, seq) })
	for _, m := range members {
		for i := range m.from {
			m.mu.Lock()
			duplicated, reordered := slices.Sorted(maps.Keys(m.from[i].duplicated)), slices.Sorted(maps.Keys(m.from[i].reordered))
			m.mu.Unlock()
			for _, seq := range duplicated {
				going = going && add(Duplicated, m, i, seq)
			}
			for _, seq := range reordered {
				going = going && add(Reordered, m, i, seq)
			}
		}
	}
	if going && open.Kind != "" {
		going = yield(open)
	}
	for _, m := range members {
		m.mu.Lock()
		misplaced, n := m.misplaced > 0, m.misplaced
		m.mu.Unlock()
		if going && misplaced {
			going = yield(Finding{Kind: Misplaced, Receiver: m.name, Note: fmt.Sprintf("%d places are not after the one before", n)})
		}
	}
	if going {
		r.foreign.Findings(yield)
	}
}

// Worst returns at most n findings, and how many there are in all.
func (r *Room) Worst(n int) (worst []Finding, all int) {
	worst = []Finding{} // an empty list in JSON, not null
	r.Findings(func(f Finding) bool {
		if all++; len(worst) < n {
			worst = append(worst, f)
		}
		return true
	})
	return worst, all
}
