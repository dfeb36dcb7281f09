package drill

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"parley/cmd/parley-bench/internal/rooms"
)

// party is a relay room and who plays in it: an account of who believed to be host
// when, of what was said, and of what was shown to whom.
type party struct {
	// Fixed after construction.
	game    *game
	number  int // from 1
	room    rooms.Room
	players []*player // the regulars, then a visitor

	mu      sync.Mutex
	voices  []*voice
	seated  []*sitting
	beliefs []*belief
	ids     map[int32]*player // who got an id first
	highest int32             // of the ids
	wrongs  wrongs
	// overlaps are the pairs of beliefs that stood at one moment.
	overlaps [][2]*belief
}

// voice is one who says numbered things: a host, for as long as it is told to be, or a
// client to its host, for one connection.
type voice struct {
	// Fixed after construction.
	number  uint64 // among those of the drill; later hosts have higher ones
	sitting *sitting
	host    bool

	sent atomic.Uint64

	// Guarded by party.mu.
	times   []int64 // when each was said; the first is number 1
	reached []bool  // whether it was shown to anybody
}

// said is a thing that was said: by a voice, under a number from 1.
type said struct{ voice, seq uint64 }

func (s said) compare(other said) int {
	switch {
	case s.voice < other.voice, s.voice == other.voice && s.seq < other.seq:
		return -1
	case s == other:
		return 0
	}
	return 1
}

// sitting is one connection of a player, from its place in the room to its end.
type sitting struct {
	// Fixed after construction.
	player  *player
	id      int32
	node    int
	session *rooms.Session
	began   int64

	errors atomic.Int64 // answers that something was not relayed
	left   atomic.Bool  // its end comes from this side: what is read now counts no more

	// Owned by the reader; the drill reads them at the end.
	shown []said // broadcasts, in the order in which they came
	host  int32  // as it was told last; unknownHost before, noHost while it moves
	spans map[span]*extent
	// former is the voice of its last hosting.
	former *voice

	// Guarded by party.mu.
	ended  int64 // 0: not yet
	stood  bool  // to the end of the drill
	frozen bool  // its node was frozen, and could tell it nothing
}

// span is what a client got of a voice without a break: of a host's, or as a host, for
// one hosting, of an answering client's.
type span struct{ from, to uint64 }

// extent is the first and the last of it.
type extent struct{ first, last uint64 }

// What a client knows of its host besides an id.
const (
	unknownHost int32 = -1
	noHost      int32 = -2
)

// belief is the time in which a client took itself for host.
type belief struct {
	// Fixed after construction.
	sitting *sitting
	voice   *voice
	from    int64

	// Guarded by party.mu.
	to   int64 // 0: it still does
	told bool  // it ended since the client was told so, not with its connection
}

// wrongs counts what must not happen, by what it is, with the first of each in words.
type wrongs struct {
	count map[string]uint64
	first map[string]string
}

func (w *wrongs) add(what string, n uint64, text string) {
	if w.count == nil {
		w.count, w.first = map[string]uint64{}, map[string]string{}
	}
	if w.count[what] == 0 {
		w.first[what] = text
	}
	w.count[what] += n
}

// What must not happen.
const (
	wrongTwoHosts = "moments at which two clients of a room took themselves for host"
	wrongStale    = "broadcasts of a former host shown after the host had moved"
	wrongOrder    = "broadcasts shown twice or out of the one order"
	wrongLost     = "broadcasts that others were shown, lost to who was connected"
	wrongVanished = "broadcasts shown to nobody, without an error"
	wrongAnswers  = "answers to a host shown twice or out of order"
	wrongUnheard  = "answers to a host lost without an error"
	wrongID       = "ids of clients used again"
	wrongIdentity = "clients that came back under another id"
	wrongRefused  = "clients that were not let back in"
	wrongGap      = "times that a client was told that messages may be missing"
	wrongSent     = "things that nobody sent, or nobody should have been sent"
	wrongList     = "lists of clients that do not name all, or another host"
)

var allWrongs = []string{wrongTwoHosts, wrongStale, wrongOrder, wrongLost, wrongVanished, wrongAnswers, wrongUnheard,
	wrongID, wrongIdentity, wrongRefused, wrongGap, wrongSent, wrongList}

func (p *party) wrong(what, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrongLocked(what, 1, format, args...)
}

func (p *party) wrongLocked(what string, n uint64, format string, args ...any) {
	p.wrongs.add(what, n, fmt.Sprintf("room %d, %v: ", p.number, time.Duration(p.game.now()).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// sit notes a new connection, and checks its id.
func (p *party) sit(s *sitting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seated = append(p.seated, s)
	s.frozen = p.game.frozen.Load() == int64(s.node)
	switch owner := p.ids[s.id]; {
	case s.player.returning && s.player.who.ID != s.id:
		p.wrongLocked(wrongIdentity, 1, "client %d came back as %d", s.player.who.ID, s.id)
	case s.player.returning:
	case owner != nil || s.id <= s.player.highest:
		p.wrongLocked(wrongID, 1, "a new client is %d, and %d was the highest id when it asked", s.id, s.player.highest)
	}
	p.ids[s.id], p.highest = s.player, max(p.highest, s.id)
}

// highestID is the highest that anybody is known to have had; -1 for none.
func (p *party) highestID() int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.highest
}

// rise notes the end of a connection, and of what its client believed.
func (p *party) rise(s *sitting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.game.now()
	if s.ended == 0 {
		s.ended = now
	}
	p.disbelieveLocked(s, now, false)
}

// speak makes a voice.
func (p *party) speak(s *sitting, host bool) *voice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.speakLocked(s, host)
}

func (p *party) speakLocked(s *sitting, host bool) *voice {
	v := &voice{number: p.game.voices.Add(1), sitting: s, host: host}
	p.voices = append(p.voices, v)
	return v
}

// say numbers the next thing that a voice says.
func (p *party) say(v *voice) said {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.times, v.reached = append(v.times, p.game.now()), append(v.reached, false)
	return said{v.number, v.sent.Add(1)}
}

// findLocked returns the voice of something that was said in this room, nil when it was
// not.
func (p *party) findLocked(s said) *voice {
	i, ok := slices.BinarySearchFunc(p.voices, s.voice, func(v *voice, n uint64) int {
		return said{voice: v.number}.compare(said{voice: n})
	})
	if !ok || s.seq < 1 || s.seq > p.voices[i].sent.Load() {
		return nil
	}
	return p.voices[i]
}

// believe notes that a client was told that it is host, and has it compared with whoever
// else believes that. The client's reader calls it.
func (p *party) believe(s *sitting) *voice {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disbelieveLocked(s, p.game.now(), true)
	if s.ended != 0 { // it has left, and reads what was under way
		return nil
	}
	b := &belief{sitting: s, from: p.game.now()}
	for _, other := range p.beliefs {
		if other.to != 0 {
			continue
		}
		if other.sitting.frozen || s.frozen {
			p.game.untold.Add(1)
			continue
		}
		quiet := other.sitting.session.Quiet()
		p.game.running.Go(func() { p.compare(other, b, quiet) })
	}
	b.voice = p.speakLocked(s, true)
	p.beliefs = append(p.beliefs, b)
	p.game.told.Add(1)
	return b.voice
}

// disbelieve notes that a client knows that it is not host any more.
func (p *party) disbelieve(s *sitting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disbelieveLocked(s, p.game.now(), true)
}

func (p *party) disbelieveLocked(s *sitting, now int64, told bool) {
	for _, b := range p.beliefs {
		if b.sitting == s && b.to == 0 {
			b.to, b.told = now, told
		}
	}
}

// What it takes to tell whether two beliefs stood at one moment.
const (
	compareStep     = 100 * time.Microsecond
	comparePatience = 5 * time.Second
)

// compare tells whether two clients took themselves for host at the moment at which the
// later one began to: whether the earlier one had nothing else to read then (quiet; else
// it is asked again when it has read all), and the later one nothing either. What a
// client has not read yet it may have been told.
func (p *party) compare(earlier, later *belief, quiet bool) {
	deadline := time.Now().Add(comparePatience)
	for _, b := range []*belief{earlier, later} {
		for b == later || !quiet {
			handled := b.sitting.session.Quiet()
			if p.over(b) {
				if b == later || !quiet {
					return
				}
				break
			}
			if handled {
				break
			}
			if time.Now().After(deadline) || !sleep(p.game.ctx, compareStep) {
				return
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrongLocked(wrongTwoHosts, 1, "client %d on node %d, host for %v, and client %d on node %d", earlier.sitting.id, earlier.sitting.node+1,
		time.Duration(later.from-earlier.from).Round(time.Millisecond), later.sitting.id, later.sitting.node+1)
	p.overlaps = append(p.overlaps, [2]*belief{earlier, later})
}

// over tells whether a belief has ended.
func (p *party) over(b *belief) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return b.to != 0
}

// hosts returns who takes itself for host now.
func (p *party) hosts() (all []*belief) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.beliefs {
		if b.to == 0 {
			all = append(all, b)
		}
	}
	return all
}

// hostSince returns the first client that was told so after a moment that it is host,
// unless a given node told it; nil while there is none.
func (p *party) hostSince(from int64, not int) *belief {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.beliefs {
		if b.from >= from && b.sitting.node != not {
			return b
		}
	}
	return nil
}
