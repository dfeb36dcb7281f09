package load

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/texto"
)

// pair is a sender and a receiver. Three kinds of goroutines work on it: the
// readers of its two connections, and who sends: in a closed loop the
// receiver's reader itself, so that no goroutine has to be woken for a
// message, in an open loop the lane that the pair belongs to.
type pair struct {
	// Fixed after construction.
	run              *direct
	stream           *ledger.Stream
	sender, receiver *texto.Session
	nonce            uint32
	filler           []byte
	latency, answer  *hist.Histogram
	lag              *hist.Histogram

	delivered atomic.Uint64 // arrivals in all
	refused   atomic.Int64  // places in the window that wait for revive
	dead      atomic.Bool   // one of the connections has ended

	mu      sync.Mutex // held to send, so that numbers go out in order
	frame   *texto.Send
	credits int // messages that the window lets out
}

// send sends the next message, which was due at the time given. The caller
// holds mu.
func (p *pair) send(due int64) {
	seq := p.stream.Send()
	if now := p.run.now(); p.run.Rate > 0 && p.run.measures(due) {
		p.lag.Record(time.Duration(now - due))
	}
	// A failure to write shows to the reader too, which says why.
	_ = p.sender.WriteFrame(p.frame.Stamp(texto.ID{Due: due, Nonce: p.nonce, Seq: seq}))
}

// free adds places to the window and fills it.
func (p *pair) free(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fill(n)
}

// freeUnlessBusy is free for a goroutine that must not wait for a socket: when
// another one is sending, the places wait for the next time.
func (p *pair) freeUnlessBusy(n int) {
	if !p.mu.TryLock() {
		p.refused.Add(int64(n))
		return
	}
	defer p.mu.Unlock()
	p.fill(n)
}

func (p *pair) fill(n int) {
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

// measures tells whether a message that was due then counts.
func (r *direct) measures(due int64) bool { return due >= r.from.Load() && due < r.to.Load() }

// read passes all messages of one connection on until it ends.
func (p *pair) read(s *texto.Session, side string, handle func(*texto.Message)) {
	defer s.CloseNow()
	var m texto.Message
	for {
		_, frame, err := s.ReadMessage()
		if err != nil {
			if !p.run.closing.Load() {
				p.end(side, err)
			}
			return
		}
		if err := texto.Parse(frame, &m); err != nil {
			p.run.ledger.Foreign(s.ClientID, "malformed: %v: %.100q", err, frame)
			continue
		}
		handle(&m)
	}
}

// end notes that a connection ended before the run did. The pair sends no more.
func (p *pair) end(side string, err error) {
	p.run.ended.add(err)
	p.stream.Note(fmt.Sprintf("the %s's connection: %s", side, texto.Cause(err)))
	if !p.dead.Swap(true) && p.run.alive.Add(-1) == 0 {
		close(p.run.allEnded)
	}
}

func (p *pair) fromServerToSender(m *texto.Message) {
	id, ours := texto.ParseID(m.ID)
	ours = ours && id.Nonce == p.nonce
	var result ledger.Result
	switch string(m.Kind) {
	case texto.KindAck:
		if ours {
			result = p.stream.Acknowledge(id.Seq)
		}
		if result.First && p.run.measures(id.Due) {
			p.answer.Record(time.Duration(p.run.now() - id.Due))
		}
	case texto.KindError:
		if ours {
			result = p.stream.Refuse(id.Seq, string(m.Code))
		}
		if result.Frees {
			p.refused.Add(1)
		}
		if !result.Known {
			p.run.ledger.Foreign(p.sender.ClientID, "error %s for no message sent, id %.40q: %.100s", m.Code, m.ID, m.Description)
			return
		}
	}
	if !result.Known {
		p.run.ledger.Foreign(p.sender.ClientID, "a message of kind %.40q with id %.40q from %.40q came to a sender", m.Kind, m.ID, m.Sender)
	}
}

func (p *pair) fromServerToReceiver(m *texto.Message) {
	now := p.run.now()
	id, why := p.recognise(m)
	if why == "" {
		result := p.stream.Deliver(id.Seq)
		switch {
		case !result.Known:
			why = "a message that was never sent"
		case result.First:
			p.delivered.Add(1)
			if p.run.measures(id.Due) {
				p.latency.Record(time.Duration(now - id.Due))
			}
		}
		if result.Frees && p.run.Rate == 0 {
			p.free(1)
		}
	}
	if why != "" {
		p.run.ledger.Foreign(p.receiver.ClientID, "%s: kind %.40q, from %.40q, text %.60q", why, m.Kind, m.Sender, m.Text)
	}
}

// recognise tells which message of the pair arrived, or why it is none of them.
func (p *pair) recognise(m *texto.Message) (id texto.ID, why string) {
	if string(m.Kind) != texto.KindReceive {
		return id, "not a message"
	}
	if string(m.Sender) != p.sender.ClientID {
		return id, "a message from somebody else"
	}
	if string(m.ClientID) != p.receiver.ClientID {
		return id, fmt.Sprintf("the envelope names %.40q", m.ClientID)
	}
	if len(m.Text) == p.run.Size {
		var ok bool
		if id, ok = texto.ParseID(m.Text[:texto.IDLen]); ok && id.Nonce == p.nonce && bytes.Equal(m.Text[texto.IDLen:], p.filler) {
			return id, ""
		}
	}
	return id, "an altered text"
}
