package redisbus

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

// healer reads the histories of topics with holes. It is a queue and one
// goroutine, so that the receiver never waits for it, and no topic for another.
type healer struct {
	link  *link
	wake  chan struct{}
	queue []string // channels; guarded by table.mu
}

func newHealer(l *link) *healer { return &healer{link: l, wake: make(chan struct{}, 1)} }

// add queues a topic whose healing has begun. It never blocks.
func (h *healer) add(channels ...string) {
	h.link.table.mu.Lock()
	h.queue = append(h.queue, channels...)
	h.link.table.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *healer) run(ctx context.Context, r relay.Receiver) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		for ctx.Err() == nil {
			failed := h.round(ctx, r)
			if failed == nil {
				break
			}
			if len(failed) > 0 {
				if !sleep(ctx, healPause) {
					return
				}
				h.add(failed...)
			}
		}
	}
}

// reading is a topic whose history is being read.
type reading struct {
	channel      string
	topic        relay.Topic
	subscription *subscription
	after        relay.Position
	cmd          *redis.Cmd
}

// round reads a page of each of some topics. It returns those that could not be
// read, nil when there was nothing to do.
func (h *healer) round(ctx context.Context, r relay.Receiver) (failed []string) {
	l := h.link
	var batch []reading
	l.table.mu.Lock()
	for len(h.queue) > 0 && len(batch) < healBatch {
		channel := h.queue[0]
		h.queue = h.queue[1:]
		s := l.table.topics[channel]
		if s == nil || s.healing == nil || s.healing.reading {
			continue
		}
		s.healing.reading, s.healing.again = true, false
		topic, _ := l.keys.topic(channel)
		after := s.position()
		after.At = s.healing.since
		batch = append(batch, reading{channel: channel, topic: topic, subscription: s, after: after})
	}
	if len(h.queue) == 0 {
		h.queue = nil
	}
	l.table.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_ = spread(l.ask.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range batch {
			batch[i].cmd = l.read(ctx, p, batch[i].topic, batch[i].after.ID, healPage)
		}
		return nil
	}))
	failed = []string{}
	var unread []string
	forgotten := false
	for _, b := range batch {
		p, err := l.page(b.topic, b.after, healPage, b.cmd)
		if err != nil {
			forgotten = forgotten || noScript(err)
			if !h.giveUp(&b, err) {
				failed = append(failed, b.channel)
				continue
			}
			p = page{Page: relay.Page{Position: b.after}}
			p.Position.Epoch = l.epoch.Load()
		}
		if h.deliver(r, &b, &p) {
			unread = append(unread, b.channel)
		}
	}
	r.Flush()
	if forgotten {
		_ = l.loadScripts(ctx, l.ask) // if it fails, so does what comes next
	}
	l.table.mu.Lock()
	for _, channel := range append(unread, failed...) {
		if s := l.table.topics[channel]; s != nil && s.healing != nil {
			s.healing.reading = false
		}
	}
	l.table.mu.Unlock()
	if len(unread) > 0 {
		h.add(unread...)
	}
	return failed
}

// giveUp tells whether a history cannot be read, though Redis answers.
func (h *healer) giveUp(b *reading, err error) bool {
	l := h.link
	var refusal redis.Error
	if refused(err) || !errors.As(err, &refusal) && !errors.Is(err, errHistory) {
		l.log.Debug("a history could not be read, trying again", "topic", b.topic, "error", err)
		return false
	}
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	heal := b.subscription.healing
	if heal == nil {
		return false
	}
	if heal.failures++; heal.failures < maxFailures {
		return false
	}
	l.log.Warn("a history cannot be read", "topic", b.topic, "error", err)
	return true
}

// deliver dispatches a page and, when it is the last, what was held meanwhile. It
// returns true when there is more to read.
func (h *healer) deliver(r relay.Receiver, b *reading, p *page) (more bool) {
	l, t, s, topic := h.link, h.link.table, b.subscription, b.topic
	t.mu.Lock()
	heal := s.healing
	if t.topics[b.channel] != s || heal == nil {
		t.mu.Unlock()
		return false
	}
	if !p.Complete && p.Position.Epoch == s.history && len(heal.held) > 0 && heal.held[0].prev == s.place {
		// What was missed came through the connection after all, and was trimmed
		// from the history since.
		*p = page{Page: relay.Page{Complete: true, Position: relay.Position{Epoch: s.history, ID: s.place}}}
	}
	epoch := p.Position.Epoch
	gap := !p.Complete && !heal.gap
	if epoch != s.history && l.moves && !heal.late && l.renewed.Load() != 0 {
		// What the old master still accepts from other nodes cannot be seen:
		// healOutdated tells of it, if only of that when nothing else is missing.
		gap, epoch = gap && !p.follows, s.history
	}
	heal.gap = heal.gap || gap
	t.mu.Unlock()
	if gap {
		l.gap(r, topic, relay.Position{Epoch: epoch, ID: p.before, At: p.Position.At})
	}
	for i := range p.Messages {
		r.Dispatch(p.Messages[i])
	}
	for first := true; ; first = false {
		t.mu.Lock()
		if first {
			for i := range p.Messages {
				heal.delivered = append(heal.delivered, stampOf(&p.Messages[i]))
			}
			s.place, s.placed, s.history = p.Position.ID, true, epoch
			heal.filled = heal.filled || len(p.Messages) > 0
			if p.More || heal.overflow || heal.again {
				heal.overflow = false
				t.mu.Unlock()
				return true
			}
		}
		ready, more, gap := s.follow()
		if len(ready) == 0 && !more && !gap {
			s.ahead, s.healing = heal.delivered, nil
			if len(heal.delivered) == 0 {
				s.ahead = nil
			}
			if heal.filled && !heal.gap {
				l.metrics.gaps.WithLabelValues("true").Inc()
			}
			t.mu.Unlock()
			return false
		}
		position := s.position()
		t.mu.Unlock()
		if gap {
			l.gap(r, topic, position)
		}
		for i := range ready {
			r.Dispatch(ready[i])
		}
		if more {
			return true
		}
	}
}

// gap tells the receiver of one.
func (l *link) gap(r relay.Receiver, topic relay.Topic, p relay.Position) {
	l.metrics.gaps.WithLabelValues("false").Inc()
	l.log.Info("messages of a topic may be missing", "topic", topic)
	r.Gap(topic, p)
}
