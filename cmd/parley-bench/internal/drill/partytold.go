package drill

import (
	"errors"
	"slices"
)

// What was shown to whom, and what must have been.

// show notes that a client was shown a broadcast. The client's reader calls it. An error
// says why it is nothing that was said.
func (p *party) show(s *sitting, what said) error {
	p.mu.Lock()
	v := p.findLocked(what)
	if v == nil || !v.host {
		p.mu.Unlock()
		return errors.New("nobody has said it")
	}
	v.reached[what.seq-1] = true
	p.mu.Unlock()
	p.game.delivered.Add(1)
	player, last := s.player, said{}
	if player.last != nil {
		last = *player.last
	}
	switch {
	case s.host == noHost:
		p.wrong(wrongStale, "client %d was shown a broadcast of %d while the host moves", s.id, v.sitting.id)
	case s.host != unknownHost && s.host != v.sitting.id, what.voice < last.voice:
		p.wrong(wrongStale, "client %d was shown a broadcast of %d, whose hosting is over: %d is host", s.id, v.sitting.id, s.host)
	case what.compare(last) <= 0:
		p.wrong(wrongOrder, "client %d was shown broadcast %d of %d after %d", s.id, what.seq, v.sitting.id, last.seq)
	}
	if what.compare(last) > 0 {
		player.last = &what
	}
	s.extend(span{from: v.number}, what.seq)
	s.shown = append(s.shown, what)
	return nil
}

// hear notes that a host got an answer. Its reader calls it.
func (p *party) hear(s *sitting, hosting *voice, what said) error {
	if hosting == nil {
		return errors.New("it is not host")
	}
	p.mu.Lock()
	v := p.findLocked(what)
	if v == nil || v.host {
		p.mu.Unlock()
		return errors.New("nobody has said it")
	}
	again := v.reached[what.seq-1]
	v.reached[what.seq-1] = true
	p.mu.Unlock()
	p.game.heard.Add(1)
	if last := s.extend(span{v.number, hosting.number}, what.seq); again || what.seq <= last {
		p.wrong(wrongAnswers, "host %d got answer %d of %d after %d", s.id, what.seq, v.sitting.id, last)
	}
	return nil
}

// extend notes a number of a span, and returns the last one before; 0: there was none.
func (s *sitting) extend(key span, seq uint64) (last uint64) {
	e := s.spans[key]
	if e == nil {
		s.spans[key] = &extent{seq, seq}
		return 0
	}
	last = e.last
	e.first, e.last = min(e.first, seq), max(e.last, seq)
	return last
}

// judge tells what of that which was shown to anybody was not shown to who was connected
// all the time, and what vanished. It is for the end, when all readers have ended.
func (p *party) judge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var reached []said // broadcasts, in the one order
	for _, v := range p.voices {
		if !v.host {
			continue
		}
		for i, is := range v.reached {
			if is {
				reached = append(reached, said{v.number, uint64(i) + 1})
			}
		}
	}
	extents := map[uint64][]*extent{} // by voice
	for _, s := range p.seated {
		p.judgeSittingLocked(s, reached)
		for key, e := range s.spans {
			extents[key.from] = append(extents[key.from], e)
		}
	}
	for _, v := range p.voices {
		p.judgeVoiceLocked(v, extents[v.number])
	}
}

// judgeSittingLocked looks for broadcasts that a client was not shown: from the first
// that it was shown, or that was said after it was in the room, to the last one, or if
// its connection stood to the end to the end.
func (p *party) judgeSittingLocked(s *sitting, reached []said) {
	shown := slices.SortedFunc(slices.Values(s.shown), said.compare)
	lost, first := uint64(0), said{}
	for _, what := range reached {
		if _, ok := slices.BinarySearchFunc(shown, what, said.compare); ok {
			continue
		}
		v := p.findLocked(what)
		if v.sitting.player == s.player {
			continue // what it said itself
		}
		after := len(shown) > 0 && what.compare(shown[0]) > 0 || v.times[what.seq-1] > s.began
		before := len(shown) > 0 && what.compare(shown[len(shown)-1]) < 0 || s.stood
		if after && before {
			if lost++; lost == 1 {
				first = what
			}
		}
	}
	if lost > 0 {
		v := p.findLocked(first)
		p.wrongLocked(wrongLost, lost, "client %d on node %d has not got %d broadcasts; the first is %d of %d on node %d", s.id, s.node+1,
			lost, first.seq, v.sitting.id, v.sitting.node+1)
	}
}

// judgeVoiceLocked looks for what reached nobody, although somebody got, without a break,
// what was said before and after it: it must have been refused.
func (p *party) judgeVoiceLocked(v *voice, extents []*extent) {
	vanished := int64(0)
	for i, is := range v.reached {
		seq := uint64(i) + 1
		if !is && slices.ContainsFunc(extents, func(e *extent) bool { return e.first < seq && seq < e.last }) {
			vanished++
		}
	}
	if errors := v.sitting.errors.Load(); vanished > errors {
		what := wrongVanished
		if !v.host {
			what = wrongUnheard
		}
		p.wrongLocked(what, uint64(vanished), "%d of what client %d on node %d said, which was told of %d errors", vanished, v.sitting.id, v.sitting.node+1, errors)
	}
}
