package load

import (
	"bytes"
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
			if from := int(id.Seq >> publisherShift); from < len(m.run.publishers) && m.run.members[from].Me.ID != message.User {
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
	if m.run.alive.Add(-1) == 0 {
		m.run.broadcast.end()
	}
	if m.own >= 0 {
		m.run.silence(m.run.publishers[m.own])
	}
}
