package load

import (
	"bytes"
	"strconv"
	"time"

	"parley/cmd/parley-bench/internal/hist"
	"parley/cmd/parley-bench/internal/ledger"
	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/texto"
)

// relayClient is a client of a relay room. One goroutine reads from it.
type relayClient struct {
	// Fixed after construction.
	*rooms.Session
	room    *relayRoom
	name    string
	account *ledger.Member // nil for the host
	latency *hist.Histogram
}

// lead reads what comes to a host until its connection ends.
func (c *relayClient) lead() {
	c.read(func(p rooms.Payload) (why string) {
		switch p.Flag {
		case rooms.ResponseJoined, rooms.ResponseLeft:
			return ""
		case rooms.ResponseError:
			e, err := rooms.ParseError(p.Data)
			if err != nil {
				return "a malformed error"
			}
			c.room.ledger.Refuse(0, strconv.Itoa(e.Code))
			if c.room.publisher.window > 0 {
				c.room.publisher.refuse()
			}
			return ""
		}
		return "unexpected"
	})
}

// listen counts what comes to any other client until its connection ends.
func (c *relayClient) listen() {
	c.read(func(p rooms.Payload) (why string) {
		if p.Flag != rooms.ResponseRelay {
			return "unexpected"
		}
		return c.got(p.Data, c.room.run.now())
	})
}

// read passes on all that comes until the connection ends. handle says why something
// is no message of the run, "" when it is.
func (c *relayClient) read(handle func(rooms.Payload) (why string)) {
	defer c.CloseNow()
	run := c.room.run
	for {
		_, frame, err := c.ReadMessage()
		if err != nil {
			if !run.closing.Load() {
				c.end(err)
			}
			return
		}
		p, err := rooms.ParsePayload(frame)
		if err != nil {
			c.room.ledger.Foreign(c.name, "malformed: %v: %.100q", err, frame)
			continue
		}
		// While all leave, hosts are told who has left, and what moves does so rightly.
		if why := handle(p); why != "" && !run.closing.Load() {
			c.room.ledger.Foreign(c.name, "%s: %v with %.100q", why, p.Flag, p.Data)
		}
	}
}

// got enters a broadcast into the ledger, or tells why it is none of the run's.
func (c *relayClient) got(data []byte, now int64) (why string) {
	relay, err := rooms.ParseRelay(data)
	if err != nil {
		return "a malformed relay"
	}
	run := c.room.run
	if relay.Type != rooms.Broadcast || len(relay.Data) != texto.IDLen+len(run.filler) || !bytes.Equal(relay.Data[texto.IDLen:], run.filler) {
		return "altered, or somebody else's"
	}
	id, ok := texto.ParseID(relay.Data[:texto.IDLen])
	if !ok || id.Nonce != run.nonce || int(id.Seq>>publisherShift) != c.room.number {
		return "altered, or another room's"
	}
	seq := id.Seq & (1<<publisherShift - 1)
	result := c.account.Deliver(0, seq, ledger.Place{Seq: seq})
	if !result.Known {
		return "a message that was never sent"
	}
	if !result.First {
		return ""
	}
	if run.measures(id.Due) {
		c.latency.Record(time.Duration(now - id.Due))
	}
	if c.room.publisher.window > 0 {
		c.room.publisher.came(seq)
	}
	return ""
}

// end notes that the connection ended before the run did.
func (c *relayClient) end(err error) {
	c.room.run.ended.add(err)
	if c.account == nil {
		c.room.run.silence(c.room.publisher)
		return
	}
	c.account.End("the connection: " + texto.Cause(err))
	if c.room.alive.Add(-1) == 0 {
		c.room.run.silence(c.room.publisher)
	}
}
