package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/relay"
)

// revokedFor is how long a shard remembers which sessions have ended: longer than a
// client can take between showing its token and joining.
const revokedFor = time.Minute

// shard is the rooms as one loop knows them, and the loop's sessions. It is the one
// subscriber of the loop for each topic of chat.
type shard struct {
	// Fixed after newShard.
	server *Server
	loop   *conn.Loop
	opened chan struct{}   // closed when open has returned
	ctx    context.Context // ends when the shard does
	stop   context.CancelFunc

	failure  error       // of open; fixed when opened is closed
	checking atomic.Bool // checkStanding runs
	doubtful atomic.Bool // word of sessions that have ended may have been lost

	// Guarded by Server.mu.
	sessions  int // that have entered
	idleSince time.Time

	// Owned by the loop.
	rooms   []*stream
	live    *live
	members []*session // those that have joined
	byKey   map[string][]*session
	revoked map[string]time.Time // keys of sessions that have ended lately
	waiting map[*session]func()  // for all rooms to be loaded; one thing each
}

func newShard(s *Server, loop *conn.Loop) *shard {
	sh := &shard{server: s, loop: loop, opened: make(chan struct{}), byKey: map[string][]*session{}, revoked: map[string]time.Time{}, waiting: map[*session]func(){}}
	sh.ctx, sh.stop = context.WithCancel(s.ctx)
	for _, r := range s.rooms {
		sh.rooms = append(sh.rooms, &stream{shard: sh, room: r, loading: true})
	}
	sh.live = newLive(sh)
	return sh
}

func (sh *shard) isOpen() bool {
	select {
	case <-sh.opened:
		return sh.failure == nil
	default:
		return false
	}
}

// open subscribes to everything and has it loaded.
func (sh *shard) open() {
	s := sh.server
	defer close(sh.opened)
	ctx, cancel := context.WithTimeout(sh.ctx, askTimeout)
	defer cancel()
	epochs := map[relay.Topic]uint64{}
	for i, sub := range sh.subscribers() {
		p, err := s.deps.Hub.Subscribe(ctx, sub.topic, sub)
		epochs[sub.topic] = p.Epoch
		if err != nil {
			for _, done := range sh.subscribers()[:i] {
				s.deps.Hub.Unsubscribe(done.topic, done)
			}
			s.mu.Lock()
			if s.shards[sh.loop] == sh { // the next client tries again
				delete(s.shards, sh.loop)
			}
			s.mu.Unlock()
			sh.stop()
			sh.failure = fmt.Errorf("subscribing to the rooms: %w", err)
			return
		}
	}
	for _, st := range sh.rooms {
		sh.do(func() {
			if st.epoch == 0 { // else a gap has come that is newer
				st.epoch = epochs[st.room.topic]
			}
		})
		s.own.Go(func() { st.load(place{}) })
	}
	s.own.Go(sh.live.load)
}

// unsubscribe ends the shard, which no session has entered any more.
func (sh *shard) unsubscribe() {
	sh.stop()
	if !sh.isOpen() {
		return
	}
	for _, sub := range sh.subscribers() {
		sh.server.deps.Hub.Unsubscribe(sub.topic, sub)
	}
}

// subscriber is the shard's interest in one topic.
type subscriber struct {
	shard *shard
	topic relay.Topic
	taker
}

// taker is called on the loop.
type taker interface {
	Deliver(m *relay.Message)
	Gap(p relay.Position)
}

// Loop implements hub.Subscriber.
func (s subscriber) Loop() *conn.Loop { return s.shard.loop }

// subscribers are the same at each call.
func (sh *shard) subscribers() []subscriber {
	all := []subscriber{{sh, account.RevokedTopic, (*revocations)(sh)}, {sh, liveTopic, sh.live}}
	for _, st := range sh.rooms {
		all = append(all, subscriber{sh, st.room.topic, st})
	}
	return all
}

// do has f called on the loop at once.
func (sh *shard) do(f func()) {
	sh.loop.Do(f)
	sh.loop.Flush()
}

// The methods below run on the loop.

// whenLoaded calls f now, or as soon as all rooms are loaded, if the session has not
// parted by then. What else the session was waiting for is dropped.
func (sh *shard) whenLoaded(s *session, f func()) {
	if sh.loaded() {
		f()
	} else if !s.gone {
		sh.waiting[s] = f
	}
}

func (sh *shard) loaded() bool {
	for _, st := range sh.rooms {
		if st.loading {
			return false
		}
	}
	return sh.live.loaded
}

// settle calls those who waited, if all rooms are loaded.
func (sh *shard) settle() {
	if !sh.loaded() {
		return
	}
	for s, f := range sh.waiting {
		delete(sh.waiting, s)
		f()
	}
}

// join makes a session live: it gets all that is shown from now on. False when its
// account session has ended meanwhile.
func (sh *shard) join(s *session) bool {
	key := s.account.Key
	if _, yes := sh.revoked[key]; yes {
		return false
	}
	s.at = len(sh.members)
	sh.members = append(sh.members, s)
	sh.byKey[key] = append(sh.byKey[key], s)
	if s.presence {
		sh.live.watch(s)
	}
	return true
}

// part undoes whenLoaded and join, if there was one.
func (sh *shard) part(s *session) {
	s.gone = true
	delete(sh.waiting, s)
	if s.at < 0 {
		return
	}
	last := len(sh.members) - 1
	sh.members[s.at] = sh.members[last]
	sh.members[s.at].at = s.at
	sh.members[last] = nil
	sh.members = sh.members[:last]
	s.at = -1
	key := s.account.Key
	of := sh.byKey[key]
	for i := range of {
		if of[i] == s {
			of[i] = of[len(of)-1]
			of[len(of)-1] = nil
			of = of[:len(of)-1]
			break
		}
	}
	if sh.byKey[key] = of; len(of) == 0 {
		delete(sh.byKey, key)
	}
	if s.presence {
		sh.live.unwatch(s)
	}
}

// broadcast queues finished frames for every member.
func (sh *shard) broadcast(frames []byte, messages int) {
	for _, s := range sh.members {
		s.conn.Queue(frames)
	}
	sh.server.metrics.Delivered.Add(float64(messages * len(sh.members)))
}

// end closes the connections of an account session.
func (sh *shard) end(key string) {
	for _, s := range sh.byKey[key] { // part comes later, from the readers
		s.conn.CloseHere(conn.CodePolicy, "the session has ended", conn.ReasonAuth)
	}
}

// endExpired closes the connections whose account session has expired.
func (sh *shard) endExpired() {
	now := time.Now()
	for key, of := range sh.byKey {
		if now.After(of[0].account.Expires) {
			sh.end(key)
		}
	}
	for key, at := range sh.revoked {
		if now.Sub(at) > revokedFor {
			delete(sh.revoked, key)
		}
	}
}

// revocations is the shard as it hears of account sessions that have ended.
type revocations shard

func (r *revocations) Deliver(m *relay.Message) {
	key := string(m.Body)
	r.revoked[key] = time.Now()
	(*shard)(r).end(key)
}

func (r *revocations) Gap(relay.Position) { r.doubtful.Store(true) }

// checkStanding looks up the sessions of all members. It runs on a goroutine of its
// own.
func (sh *shard) checkStanding() {
	if sh.checking.Swap(true) {
		sh.doubtful.Store(true) // what is asked now may not tell of it
		return
	}
	defer sh.checking.Store(false)
	s := sh.server
	answer := make(chan []string, 1)
	sh.do(func() {
		keys := make([]string, 0, len(sh.byKey))
		for key := range sh.byKey {
			keys = append(keys, key)
		}
		answer <- keys
	})
	var keys []string
	select {
	case keys = <-answer:
	case <-sh.ctx.Done():
		return
	}
	for len(keys) > 0 {
		batch := keys[:min(len(keys), standingBatch)]
		keys = keys[len(batch):]
		ctx, cancel := context.WithTimeout(sh.ctx, askTimeout)
		standing, err := s.deps.Accounts.Standing(ctx, batch...)
		cancel()
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				s.log.LogAttrs(sh.ctx, slog.LevelDebug, "sessions could not be looked up, trying again", slog.String("protocol", Protocol), slog.Any("error", err))
			}
			sh.doubtful.Store(true)
			return
		}
		sh.do(func() {
			for i, stands := range standing {
				if !stands {
					sh.end(batch[i])
				}
			}
		})
	}
}
