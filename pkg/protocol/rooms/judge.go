package rooms

import (
	"parley/pkg/protocol/rooms/roomspb"
	"parley/pkg/relay"
)

// maxHeld and maxHeldBytes bound the messages that wait until a shard knows again who is
// in its room, or until it has a host again.
const (
	maxHeld      = 1000
	maxHeldBytes = 4 << 20
)

// maxFrameKept is how large the memory for frames may be that a shard keeps.
const maxFrameKept = 4 << 10

// All of this file runs on the loop.

// relay passes on what a client has said, if it may be said at this place.
func (sh *shard) relay(said *said) {
	if said.kind == roomspb.RelayType_HOST {
		sh.relayToHost(said)
		return
	}
	if said.from != sh.host || said.fence != sh.fence {
		sh.refuse(said.from, errMoved)
		return
	}
	switch said.kind {
	case roomspb.RelayType_BROADCAST:
		frame := sh.relayed(said)
		n := 0
		for _, s := range sh.seated {
			if s.client != said.from {
				s.queue(frame)
				n++
			}
		}
		sh.server.metrics.Delivered.Add(float64(n))
	case roomspb.RelayType_TARGET:
		if _, ok := sh.clients[said.target]; !ok {
			sh.refuse(said.from, errTarget)
		} else if s := sh.byClient[said.target]; s != nil {
			s.queue(sh.relayed(said))
			sh.server.metrics.Delivered.Inc()
		}
	}
}

// relayed makes the frame in which clients get what was said, valid until the next one.
func (sh *shard) relayed(said *said) []byte {
	b := appendFrame(sh.frame[:0], roomspb.FlagType_RESPONSE_RELAY_MESSAGE, said.encoded)
	if cap(b) <= maxFrameKept {
		sh.frame = b
	}
	return b
}

func (sh *shard) relayToHost(said *said) {
	if _, ok := sh.clients[said.from]; !ok {
		return // kicked, or its node was taken for dead
	}
	if said.from == sh.host {
		sh.refuse(said.from, errHost)
		return
	}
	if s := sh.byClient[sh.host]; s != nil {
		s.queue(sh.relayed(said))
		sh.server.metrics.Delivered.Inc()
	}
}

// refuse tells a client, if it is here, that what it said was not relayed.
func (sh *shard) refuse(client int32, p *problem) {
	if s := sh.byClient[client]; s != nil {
		sh.server.metrics.Refused[p.code()].Inc()
		s.queue(appendError(nil, p))
	}
}

// hold keeps what was said for later; if that is too much its sender is told.
func (sh *shard) hold(m *relay.Message, said *said) {
	if len(sh.seated) == 0 {
		return // nobody here would hear it
	}
	if len(sh.held) == maxHeld || sh.bytes+len(m.Body) > maxHeldBytes {
		sh.refuse(said.from, errUnsent)
		return
	}
	sh.held = append(sh.held, *m)
	sh.bytes += len(m.Body)
}

// release judges what was held.
func (sh *shard) release() {
	held := sh.held
	sh.held, sh.bytes = nil, 0
	for i := range held {
		sh.Deliver(&held[i])
	}
}
