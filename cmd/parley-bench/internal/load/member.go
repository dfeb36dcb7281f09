package load

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/chat"
	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
)

// member is a connection in the room. One goroutine reads from it.
type member struct {
	// Fixed after construction.
	*chat.Session
	run           *fanout
	name          string
	own           int // its index among the publishers; -1: it only listens
	account       *ledger.Member
	latency, back *hist.Histogram
}

// publisher is a member that sends. In a closed loop it is the reader of whichever
// member gets a message last that sends the next, so that no goroutine has to be
// woken for it; in an open loop the lane to which the publisher belongs.
type publisher struct {
	// Fixed after construction.
	*member
	lag   *hist.Histogram
	slots []slot // of the messages on their way, by the lowest bits of their numbers

	dead atomic.Bool
	owed atomic.Int64 // places in the window that wait for revive
	// refused counts the error answers for whose messages there is still a slot: which
	// one it is they do not say, but each has given its place back.
	refused atomic.Int64

	mu      sync.Mutex // held to send, so that numbers go out in order
	frame   *chat.Send
	credits int // messages that the window lets out
}

// slot counts to how many members a message has come.
type slot struct {
	seq atomic.Uint64 // 0: nobody waits for it
	got atomic.Int64
	at  atomic.Int64 // when it was sent
}

// slotsAWindow is how much larger than the window the table of slots is at least: a
// message that is that far behind is long given up.
const slotsAWindow = 64

func newPublisher(m *member, lag *hist.Histogram) *publisher {
	size := 1 << bits.Len(uint(slotsAWindow*m.run.Window-1))
	return &publisher{member: m, lag: lag, slots: make([]slot, size), credits: m.run.Window,
		frame: m.NewSend(m.run.room, m.run.filler)}
}

// send sends the next message, which was due at the time given. The caller holds mu.
func (p *publisher) send(due int64) {
	seq := p.run.ledger.Send(p.own)
	now := p.run.now()
	if p.run.Rate > 0 {
		if p.run.measures(due) {
			p.lag.Record(time.Duration(now - due))
		}
	} else {
		s := p.slot(seq)
		if s.seq.Swap(0) != 0 {
			p.credits++
		}
		s.got.Store(0)
		s.at.Store(now)
		s.seq.Store(seq)
	}
	// A failure to write shows to the reader too, which says why.
	_ = p.WriteFrame(p.frame.Stamp(texto.ID{Due: due, Nonce: p.run.nonce, Seq: uint64(p.own)<<publisherShift | seq}))
}

func (p *publisher) slot(seq uint64) *slot { return &p.slots[seq&uint64(len(p.slots)-1)] }

// came counts that a message has come to one more member, and sends the next when
// that was the last.
func (p *publisher) came(seq uint64) {
	s := p.slot(seq)
	if s.seq.Load() == seq && s.got.Add(1) >= p.run.alive.Load() && s.seq.CompareAndSwap(seq, 0) {
		p.free(1)
	}
}

// abandon stops waiting for messages that were sent before a time, or have come to
// all who are left, and returns how many these are.
func (p *publisher) abandon(before, alive int64) (n int) {
	n = int(p.owed.Swap(0))
	for i := range p.slots {
		s := &p.slots[i]
		seq := s.seq.Load()
		complete := s.got.Load() >= alive
		if seq == 0 || !complete && s.at.Load() >= before || !s.seq.CompareAndSwap(seq, 0) {
			continue
		}
		if !complete && p.refused.Load() > 0 { // only revive takes from it
			p.refused.Add(-1)
			continue
		}
		n++
	}
	return n
}

// refuse gives back the place of a message that was refused, in a while.
func (p *publisher) refuse() {
	p.refused.Add(1)
	p.owed.Add(1)
}

// free adds places to the window and fills it.
func (p *publisher) free(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill(n)
}

// freeUnlessBusy is free for a goroutine that must not wait for a socket: when another
// one is sending, the places wait for the next time.
func (p *publisher) freeUnlessBusy(n int) {
	if !p.mu.TryLock() {
		p.owed.Add(int64(n))
		return
	}
	defer p.mu.Unlock()
	p.fill(n)
}

func (p *publisher) fill(n int) {
	p.credits += n
	for p.credits > 0 && !p.dead.Load() {
		now := p.run.now()
		if now >= p.run.to.Load() {
			return
		}
		p.credits--
		p.send(now)
	}
}

// read passes on all that comes to the member until its connection ends.
func (m *member) read() {
	defer m.CloseNow()
	var f chat.Frame
	for {
		_, frame, err := m.ReadMessage()
		if err != nil {
			if !m.run.closing.Load() {
				m.end(err)
			}
			return
		}
		if err := chat.Parse(frame, &f); err != nil {
			m.run.ledger.Foreign(m.name, "malformed: %v: %.100q", err, frame)
			continue
		}
		switch {
		case string(f.Type) == chat.TypeMessages && string(f.Room) == m.run.room:
			now := m.run.now()
			for i := range f.Messages {
				m.got(&f.Messages[i], now)
			}
		case string(f.Type) == chat.TypeMessages: // another room's
		case string(f.Type) == chat.TypeError && m.own >= 0:
			m.run.ledger.Refuse(m.own, string(f.Code))
			if m.run.Rate == 0 {
				m.run.publishers[m.own].refuse()
			}
		default:
			m.run.ledger.Foreign(m.name, "a frame of type %.40q with code %.40q: %.100s", f.Type, f.Code, f.Reason)
		}
	}
}

func (m *member) got(message *chat.Message, now int64) {
	id, why := m.recognise(message)
	if why == "" {
		millis, n, ok := chat.ParsePlace(message.ID)
		if !ok {
			why = "a message without a place"
		} else {
			why = m.count(id, ledger.Place{Millis: millis, Seq: n}, now)
		}
	}
	if why != "" {
		m.run.ledger.Foreign(m.name, "%s: id %.40q, from user %d, content %.60q", why, message.ID, message.User, message.Content)
	}
}

// count enters a message of this run into the ledger.
func (m *member) count(id texto.ID, at ledger.Place, now int64) (why string) {
	from, seq := int(id.Seq>>publisherShift), id.Seq&(1<<publisherShift-1)
	result := m.account.Deliver(from, seq, at)
	if !result.Known {
		return "a message that was never sent"
	}
	if !result.First {
		return ""
	}
	if m.run.measures(id.Due) {
		m.latency.Record(time.Duration(now - id.Due))
		if from == m.own {
			m.back.Record(time.Duration(now - id.Due))
		}
	}
	if m.run.Rate == 0 {
		m.run.publishers[from].came(seq)
	}
	return ""
}

// recognise tells which message of the run arrived, or why it is none of them.
func (m *member) recognise(message *chat.Message) (id texto.ID, why string) {
	if len(message.Content) == m.run.Size {
		var ok bool
		id, ok = texto.ParseID(message.Content[:texto.IDLen])
		if ok && id.Nonce == m.run.nonce && bytes.Equal(message.Content[texto.IDLen:], m.run.filler) {
			if from := int(id.Seq >> publisherShift); from < len(m.run.publishers) && m.run.publishers[from].Me.ID != message.User {
				return id, "a message from somebody else"
			}
			return id, ""
		}
	}
	return id, "an altered content, or somebody else's"
}

// end notes that the connection ended before the run did. A publisher sends no more.
func (m *member) end(err error) {
	m.run.ended.add(err)
	m.account.End("the connection: " + texto.Cause(err))
	alive := m.run.alive.Add(-1)
	if m.own >= 0 && !m.run.publishers[m.own].dead.Swap(true) && m.run.speaking.Add(-1) == 0 || alive == 0 {
		m.run.once.Do(func() { close(m.run.allEnded) })
	}
}
