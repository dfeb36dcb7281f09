package rest

import (
	"context"
	"time"

	"parley/pkg/account"
	"parley/pkg/conn"
	"parley/pkg/hub"
	"parley/pkg/relay"
)

// hearPause is the time between two attempts to hear of sessions that end.
const hearPause = time.Second

// hearRevocations hears of sessions that end, until the server is closed.
func (s *Server) hearRevocations() {
	r := revocations{s}
	for {
		ctx, cancel := context.WithTimeout(s.ctx, subscribeTimeout)
		_, err := s.deps.Hub.Subscribe(ctx, account.RevokedTopic, r)
		cancel()
		if err == nil {
			break
		}
		t := time.NewTimer(hearPause)
		select {
		case <-s.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
	r.Gap(relay.Position{}) // some may have ended before
	<-s.ctx.Done()
	s.deps.Hub.Unsubscribe(account.RevokedTopic, r)
}

// revocations hears of sessions that have ended.
type revocations struct{ s *Server }

var (
	_ hub.Subscriber = revocations{}
	_ hub.GapTaker   = revocations{}
)

// Loop implements hub.Subscriber.
func (r revocations) Loop() *conn.Loop { return r.s.deps.Loops.LoopFor(0) }

// Deliver ends the polls of a session.
func (r revocations) Deliver(m *relay.Message) {
	key := string(m.Body)
	r.each(func(p *poll) {
		if p.session == key {
			p.revoke()
		}
	})
}

// Gap has every poll come again, since its session may have ended.
func (r revocations) Gap(relay.Position) { r.each((*poll).release) }

func (r revocations) each(change func(*poll)) {
	r.s.mu.Lock()
	all := make([]*center, 0, len(r.s.centers))
	for _, c := range r.s.centers {
		all = append(all, c)
	}
	r.s.mu.Unlock()
	for _, c := range all {
		c.wake(change)
	}
}
