package chat

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/pkg/relay"
)

const (
	// maxHeldChanges bounds the changes that wait while the list of those present is
	// read. If there are more, the list is read again.
	maxHeldChanges = 10_000
	// reloadEvery is the least time between two readings of the list because a change
	// does not follow the one before.
	reloadEvery = 2 * time.Second
)

// live is who is present, as one loop knows it, and the members that want to hear of
// it. Owned by the loop, but for what is fixed.
type live struct {
	shard *shard

	watchers []*session
	present  map[string]person // by memberOf
	sorted   []person          // the same, by their ids
	text     []byte            // the same as a JSON array; nil: not made since it has changed
	last     uint64            // the number of the last change
	loaded   bool              // present is what it should be, or was
	loading  bool              // changes are held
	held     []heldChange
	again    bool // something may have been missed since the reading began
	read     time.Time
}

type heldChange struct {
	relay.Change
	member string
}

// person is a user as clients see it.
type person struct {
	id   int64
	text []byte // JSON; never modified
}

func (p person) compare(id int64) int { return cmp.Compare(p.id, id) }

func newLive(sh *shard) *live {
	return &live{shard: sh, present: map[string]person{}, loading: true}
}

// memberOf is how a user stands in the roster: the id, a colon, the name.
func memberOf(u relay.User) string { return strconv.FormatInt(u.ID, 10) + ":" + u.Username }

// personOf is the inverse of memberOf.
func personOf(member string) (p person, ok bool) {
	id, name, ok := strings.Cut(member, ":")
	n, err := strconv.ParseInt(id, 10, 64)
	if !ok || err != nil {
		return p, false
	}
	return person{n, appendUser(nil, n, quote(name))}, true
}

// Deliver takes a change or a typing event.
func (l *live) Deliver(m *relay.Message) {
	c, ok := relay.ChangeOf(m)
	switch {
	case !ok:
		l.typing(m)
	case !l.loading:
		l.take(heldChange{c, m.From})
	case len(l.held) >= maxHeldChanges:
		l.again, l.held = true, nil
	default:
		l.held = append(l.held, heldChange{c, m.From})
	}
}

// take follows a change, and tells those who watch.
func (l *live) take(c heldChange) {
	if c.Number != l.last+1 {
		if c.Number > l.last || time.Since(l.read) > reloadEvery { // else it is from before the list
			l.reload()
		}
		return
	}
	l.last = c.Number
	l.set(c.member, c.Present)
}

// set notes whether a member is present, and tells those who watch if that is new.
func (l *live) set(member string, present bool) {
	p, was := l.present[member]
	if was == present {
		return
	}
	if present {
		var ok bool
		if p, ok = personOf(member); !ok {
			return
		}
		l.present[member] = p
		at, _ := slices.BinarySearchFunc(l.sorted, p.id, person.compare)
		l.sorted = slices.Insert(l.sorted, at, p)
	} else {
		delete(l.present, member)
		if at, ok := slices.BinarySearchFunc(l.sorted, p.id, person.compare); ok {
			l.sorted = slices.Delete(l.sorted, at, at+1)
		}
	}
	l.text = nil
	if len(l.watchers) == 0 {
		return
	}
	var frames []byte
	for _, r := range l.shard.server.rooms {
		frames = appendPresence(frames, r, p.text, present)
	}
	for _, s := range l.watchers {
		s.conn.Queue(frames)
	}
}

// Gap has the list read again: changes may have been missed.
func (l *live) Gap(relay.Position) { l.reload() }

func (l *live) reload() {
	if l.loading {
		l.again = true
		return
	}
	l.loading = true
	l.shard.server.own.Go(l.load)
}

// load reads the list and has it installed. It runs on a goroutine of its own, and
// tries as long as the shard lives.
func (l *live) load() {
	sh := l.shard
	told := false
	for pause := reloadMin; ; pause = min(2*pause, reloadMax) {
		ctx, cancel := context.WithTimeout(sh.ctx, askTimeout)
		members, last, err := sh.server.deps.Roster.Members(ctx, liveTopic)
		cancel()
		if err == nil {
			sh.do(func() { l.install(members, last) })
			return
		}
		if sh.ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			sh.server.log.LogAttrs(sh.ctx, slog.LevelWarn, "nobody tells who is present, trying on", slog.String("protocol", Protocol), slog.Any("error", err))
		}
		if !sleep(sh.ctx, pause) {
			return
		}
	}
}

// install follows from what is known to what was read, and then to what came
// meanwhile.
func (l *live) install(members []string, last uint64) {
	if l.again {
		l.again, l.held = false, nil
		l.shard.server.own.Go(l.load)
		return
	}
	now := make(map[string]bool, len(members))
	for _, m := range members {
		now[m] = true
	}
	for m := range l.present {
		if !now[m] {
			l.set(m, false)
		}
	}
	for _, m := range members {
		l.set(m, true)
	}
	l.last, l.read = last, time.Now()
	held := l.held
	l.held, l.loading, l.loaded = nil, false, true
	for _, c := range held {
		l.take(c)
	}
	l.shard.settle()
}

// online returns those who are present, as a JSON array in the order of their ids.
func (l *live) online() []byte {
	if l.text != nil {
		return l.text
	}
	size := len("[]")
	for i := range l.sorted {
		size += len(l.sorted[i].text) + 1
	}
	l.text = append(make([]byte, 0, size), '[')
	for i, p := range l.sorted {
		if i > 0 {
			l.text = append(l.text, ',')
		}
		l.text = append(l.text, p.text...)
	}
	l.text = append(l.text, ']')
	return l.text
}

// onlineWith is online with a member who is about to be among them.
func (l *live) onlineWith(member string) []byte {
	all := l.online()
	if _, ok := l.present[member]; ok {
		return all
	}
	p, ok := personOf(member)
	if !ok {
		return all
	}
	own := append([]byte{'['}, p.text...)
	if len(l.present) > 0 {
		own = append(own, ',')
	}
	return append(own, all[1:]...)
}

// typing passes a typing event on to those who watch, but for the one who types.
func (l *live) typing(m *relay.Message) {
	from, id, ok := typingOf(m)
	if !ok || len(l.watchers) == 0 {
		return
	}
	r := l.shard.server.room(id)
	p, ok := personOf(m.From)
	if r == nil || !ok {
		return
	}
	frame := appendTyping(nil, r, p.text)
	for _, s := range l.watchers {
		if s.nonce != from {
			s.conn.Queue(frame)
		}
	}
}

func (l *live) watch(s *session) {
	s.watching = len(l.watchers)
	l.watchers = append(l.watchers, s)
}

func (l *live) unwatch(s *session) {
	last := len(l.watchers) - 1
	l.watchers[s.watching] = l.watchers[last]
	l.watchers[s.watching].watching = s.watching
	l.watchers[last] = nil
	l.watchers = l.watchers[:last]
}
