package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/rooms"
	"parley/cmd/parley-bench/internal/texto"
	"parley/cmd/parley-bench/internal/wsclient"
)

// player is a client of a relay room. While it is host it broadcasts, and now and then
// makes somebody else host or kicks somebody; else it answers. When its connection ends
// it comes back with its id and secret, elsewhere. A visitor comes and goes, each time as
// a new client.
type player struct {
	// Fixed after construction.
	party   *party
	name    string
	visitor bool

	// Owned by the reader.
	rng       *rand.Rand
	turn      int // of the node
	returning bool
	who       rooms.Identity
	highest   int32 // the highest id of its room when it asked for its own
	last      *said // the last broadcast that it was shown, in the one order

	list atomic.Pointer[[]rooms.Member] // the last that it got

	mu      sync.Mutex
	sitting *sitting // nil: no connection
	hosting *voice   // nil: not host
	answers *voice
}

// What a player does when its connection has ended, or cannot be made.
const (
	playerTimeout = 2 * time.Second // for a connection up to its place in the room, or a write
	playerPause   = 100 * time.Millisecond
	// stillConnected is within the answer to who comes back while its last connection
	// still counts.
	stillConnected = "the client is connected"
	// answerEach: a client answers one broadcast of so many.
	answerEach = 4
	// A visitor stays, and stays away, for up to so long.
	visit = 2 * time.Second
)

// saidShift: a relay says which voice sent it in the upper bits of its sequence number.
const saidShift = 20

// run keeps the player connected until ctx ends.
func (p *player) run(ctx context.Context) {
	var gone time.Time
	d := wsclient.Dialer{Timeout: playerTimeout, Watched: true}
	for ctx.Err() == nil {
		if p.visitor {
			p.returning = false
			if !sleep(ctx, time.Duration(p.rng.Int64N(int64(visit)))) {
				return
			}
		}
		node := p.turn % len(p.party.game.targets)
		s, err := p.open(ctx, &d, p.party.game.targets[node])
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			p.refused(err)
			p.turn += 1 + p.rng.IntN(len(p.party.game.targets))
			sleep(ctx, playerPause)
			continue
		}
		if !gone.IsZero() && !p.visitor {
			p.party.game.reconnects.Record(time.Since(gone))
		}
		err = p.play(ctx, s, node)
		gone = time.Now()
		p.party.game.ended(err)
		if p.visitor || ctx.Err() != nil {
			continue
		}
		p.turn += 1 + p.rng.IntN(len(p.party.game.targets))
		if e, ok := errors.AsType[*wsclient.CloseError](err); ok && e.Err == nil {
			sleep(ctx, playerPause)
		}
	}
}

func (p *player) open(ctx context.Context, d *wsclient.Dialer, target wsclient.Target) (*rooms.Session, error) {
	if p.returning {
		return rooms.Rejoin(ctx, d, target, nil, p.party.room, p.who)
	}
	p.highest = p.party.highestID()
	return rooms.Join(ctx, d, target, nil, p.party.room)
}

// refused notes that there is no connection yet.
func (p *player) refused(err error) {
	e, ok := errors.AsType[*rooms.Error](err)
	if !ok {
		p.party.game.refused(texto.Cause(err))
		return
	}
	p.party.game.refused(e.Error())
	if e.Code/100 == 4 && !strings.Contains(e.Message, stillConnected) {
		p.party.wrong(wrongRefused, "%s, returning %v: %v", p.name, p.returning, e)
	}
}

// play is a connection. It returns why that has ended.
func (p *player) play(ctx context.Context, session *rooms.Session, node int) error {
	s := &sitting{player: p, id: session.ID, node: node, session: session, began: p.party.game.now(), host: unknownHost, spans: map[span]*extent{}}
	p.party.sit(s)
	p.returning, p.who = true, session.Identity
	p.mu.Lock()
	p.sitting, p.answers = s, p.party.speak(s, false)
	p.mu.Unlock()
	leave := context.AfterFunc(ctx, func() { p.leave(s) })
	defer leave()
	if p.visitor {
		timer := time.AfterFunc(time.Duration(p.rng.Int64N(int64(visit))), func() { p.leave(s) })
		defer timer.Stop()
	}
	err := p.read(s)
	p.mu.Lock()
	p.sitting, p.hosting = nil, nil
	p.mu.Unlock()
	p.party.rise(s)
	session.CloseNow()
	return err
}

// leave ends a connection from this side: it believes nothing any more.
func (p *player) leave(s *sitting) {
	s.left.Store(true)
	p.mu.Lock()
	if p.sitting == s {
		p.hosting = nil
	}
	p.mu.Unlock()
	p.party.rise(s)
	s.session.CloseNow()
}

// read handles what comes until the connection ends.
func (p *player) read(s *sitting) error {
	for {
		_, frame, err := s.session.ReadMessage()
		if err != nil {
			return err
		}
		m, err := rooms.ParsePayload(frame)
		if err == nil {
			err = p.handle(s, m)
		}
		if err != nil {
			p.party.wrong(wrongSent, "%s got %v with %.60q: %v", p.name, m.Flag, m.Data, err)
		}
	}
}

// handle handles one message. An error says what is wrong with it.
func (p *player) handle(s *sitting, m rooms.Payload) error {
	switch m.Flag {
	case rooms.ResponseRelay:
		return p.relay(s, m.Data)
	case rooms.ResponseAssign:
		s.former = p.party.believe(s)
		p.host(s.former)
	case rooms.ResponseBegin:
		s.host = noHost
		p.host(nil)
		p.party.disbelieve(s)
	case rooms.ResponseFinish:
		id, err := rooms.ParseID(m.Data)
		if err != nil {
			return err
		}
		if s.host = id; id != s.id {
			p.host(nil)
			p.party.disbelieve(s)
		}
	case rooms.ResponseError:
		e, err := rooms.ParseError(m.Data)
		if err != nil {
			return err
		}
		s.errors.Add(1)
		p.party.game.answered(e)
		if strings.Contains(e.Message, "may be missing") {
			p.party.wrong(wrongGap, "%s: %v", p.name, e)
		}
	case rooms.ResponseJoined, rooms.ResponseLeft, rooms.ResponseKick:
		if !p.isHost() && !s.left.Load() && s.host != noHost {
			return errors.New("it is not host")
		}
	case rooms.ResponseList:
		list, err := rooms.ParseList(m.Data)
		if err != nil {
			return err
		}
		p.list.Store(&list)
	default:
		return errors.New("it should not have come")
	}
	return nil
}

func (p *player) host(v *voice) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosting = v
}

func (p *player) isHost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hosting != nil
}

// relay handles what another client has said.
func (p *player) relay(s *sitting, data []byte) error {
	r, err := rooms.ParseRelay(data)
	if err != nil {
		return err
	}
	g := p.party.game
	if len(r.Data) != texto.IDLen+len(g.filler) || !bytes.Equal(r.Data[texto.IDLen:], g.filler) {
		return errors.New("it is altered")
	}
	id, ok := texto.ParseID(r.Data[:texto.IDLen])
	if !ok || id.Nonce != g.nonce {
		return errors.New("it is altered, or not of this drill")
	}
	what := said{id.Seq >> saidShift, id.Seq & (1<<saidShift - 1)}
	if r.Type == rooms.ToHost {
		p.mu.Lock()
		hosting := p.hosting
		p.mu.Unlock()
		if hosting == nil && s.left.Load() {
			return nil
		}
		if hosting == nil && s.host == noHost {
			// The host moves, but this was said before it did.
			hosting = s.former
		}
		return p.party.hear(s, hosting, what)
	}
	if err := p.party.show(s, what); err != nil {
		return err
	}
	if int(what.seq)%answerEach == int(s.id)%answerEach && !p.isHost() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sitting == s && !g.silent.Load() {
			p.say(rooms.ToHost, p.answers)
		}
	}
	return nil
}

// say sends the next thing that a voice says. The caller holds mu, and has looked that
// there is a connection.
func (p *player) say(to rooms.RelayType, v *voice) {
	what := p.party.say(v)
	id := texto.ID{Due: p.party.game.now(), Nonce: p.party.game.nonce, Seq: what.voice<<saidShift | what.seq}
	p.write(func() error {
		return p.sitting.session.WriteFrame(p.sitting.session.NewSend(to, p.party.game.filler).Stamp(id))
	})
}

// write writes within playerTimeout, or ends the connection. The caller holds mu.
func (p *player) write(write func() error) {
	s := p.sitting.session
	_ = s.SetWriteDeadline(time.Now().Add(playerTimeout)) // fails on a dead socket only
	if write() != nil {
		s.CloseNow()
	}
	_ = s.SetWriteDeadline(time.Time{})
}

// broadcast has the player say something if it is host. It does not wait for who is
// writing.
func (p *player) broadcast() {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if p.sitting != nil && p.hosting != nil {
		p.say(rooms.Broadcast, p.hosting)
	}
}

// decree has the player, if it is host, make a request about another client.
func (p *player) decree(flag rooms.Flag, about int32) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if p.sitting != nil && p.hosting != nil && p.sitting.id != about {
		p.write(func() error { return p.sitting.session.Request(flag, about) })
		p.party.game.decrees.Add(1)
	}
}

// ask has the player ask who is in its room.
func (p *player) ask() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sitting == nil {
		return fmt.Errorf("%s has no connection", p.name)
	}
	p.write(func() error { return p.sitting.session.Request(rooms.RequestList) })
	return nil
}

// connection is the player's, nil without one.
func (p *player) connection() *sitting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sitting
}
