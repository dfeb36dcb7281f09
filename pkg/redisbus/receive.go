package redisbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/pkg/relay"
)

// flushEvery is after how many messages a receiver is flushed while more input
// is at hand.
const flushEvery = 256

// complainEvery is the least time between two lines in the log about messages
// that cannot be read, which come at any rate while a fleet is rolled.
const complainEvery = 10 * time.Second

var errCanary = errors.New("the node does not hear itself")

// receive keeps a subscriber connection until ctx ends.
func (l *link) receive(ctx context.Context, r relay.Receiver) {
	pause, most := time.Duration(reconnectMin), reconnectMax
	if l.moves {
		most = followMax
	}
	for ctx.Err() == nil {
		err := l.receiveOnce(ctx, r)
		l.failure.Store(&err)
		stood := l.connected.Swap(false)
		if stood {
			pause = reconnectMin // Redis was there: it may be again at once
		}
		if ctx.Err() != nil {
			return
		}
		if stood {
			l.metrics.reconnects.Inc()
			l.log.Warn("redis subscriber connection lost, connecting again", "error", err)
		} else {
			l.log.Debug("redis cannot be reached, trying again", "error", err, "pause", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, most)
	}
}

// receiveOnce connects, has everything subscribed again, and reads until the
// connection breaks or the canary falls silent.
func (l *link) receiveOnce(ctx context.Context, r relay.Receiver) error {
	l.dials.armed.Store(true)
	defer l.dials.armed.Store(false)
	conn := l.subscriber(ctx)
	stop := context.AfterFunc(ctx, l.dials.hangUp)
	defer func() {
		l.table.detach()
		stop()
		_ = conn.Close()
	}()
	if err := l.table.send(ctx, conn, "subscribe", []string{l.canary}); err != nil {
		return err
	}
	if _, err := conn.ReceiveTimeout(ctx, dialTimeout); err != nil {
		return fmt.Errorf("subscribing to the node's own channel: %w", err)
	}
	if err := l.refreshFirst(ctx); err != nil {
		return err
	}
	nc := l.dials.conn.Load()
	nc.slowly = false // from here on the library only writes
	nc.beforeRead = func() error {
		r.Flush()
		return l.checkCanary()
	}
	in := newPushReader(nc)
	l.table.attach(conn)
	l.connected.Store(true)
	select {
	case l.attached <- struct{}{}:
	default:
	}
	l.log.Info("redis subscriber connection established")
	for n := 1; ; n++ {
		p, err := in.next()
		if err != nil {
			return err
		}
		if p.kind == "message" {
			l.message(&p, r)
		} else if err := l.subscribed(&p, r); err != nil {
			return err
		}
		if l.outdated.Load() && l.outdated.CompareAndSwap(true, false) {
			l.healer.add(l.table.healOutdated()...)
		}
		if n%flushEvery == 0 {
			r.Flush()
		}
	}
}

// checkCanary tells whether the canary was heard lately. It cannot be as long as
// the topics are being subscribed to again, since it waits with all publishes.
func (l *link) checkCanary() error {
	since, open := l.hearing.since()
	if !open {
		return nil
	}
	silent := min(l.canaryAge(), time.Since(since))
	if silent > canarySilence {
		return fmt.Errorf("%w: silent for %s", errCanary, silent.Round(time.Millisecond))
	}
	return nil
}

// subscriber makes the library's part of a connection; it dials later.
func (l *link) subscriber(ctx context.Context) *redis.PubSub {
	if l.sharded {
		return l.sub.SSubscribe(ctx)
	}
	return l.sub.Subscribe(ctx)
}

// refreshFirst makes sure that the connection leads to a master, and knows its
// history before anything is said of the topics.
func (l *link) refreshFirst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return l.refresh(ctx, l.ask)
}

// subscribed handles an answer of Redis to SUBSCRIBE or UNSUBSCRIBE. An error means
// that the topics of this connection are elsewhere now.
func (l *link) subscribed(p *push, r relay.Receiver) error {
	switch p.kind {
	case "subscribe":
		if !l.table.confirm(p.channel) {
			return nil
		}
		topic, ok := l.keys.topic(p.channel)
		if !ok {
			return nil
		}
		switch begun, kept := l.table.heal(p.channel, topic); {
		case begun:
			l.healer.add(p.channel)
		case !kept:
			l.metrics.gaps.WithLabelValues("false").Inc()
			r.Gap(topic, relay.Position{Epoch: l.epoch.Load(), At: time.Now()})
		}
	case "sunsubscribe":
		if l.table.wants(p.channel) {
			return errMoved // the slot has, and Redis tells it so
		}
	}
	return nil
}

func (l *link) message(p *push, r relay.Receiver) {
	topic, ok := l.keys.topic(p.channel)
	if !ok {
		l.heard.Store(max(1, int64(time.Since(l.started))))
		return
	}
	l.metrics.received.Inc()
	m := relay.Message{Topic: topic}
	prev, err := parseEnvelope(p.payload, &m)
	if err != nil {
		l.metrics.undecodable.Inc()
		if time.Since(l.complained) < complainEvery {
			return
		}
		l.complained = time.Now()
		l.log.Warn("unreadable message from redis", "topic", topic, "error", err)
		return
	}
	if m.ID.IsZero() {
		if l.table.keeps(topic) && time.Since(l.complained) >= complainEvery {
			l.complained = time.Now()
			l.log.Warn("a message was not kept that is to be: another node has other settings, for what goes to one client --direct-retention", "topic", topic)
		}
		r.Dispatch(m)
		return
	}
	switch l.table.admit(p.channel, &m, prev) {
	case admitted:
		r.Dispatch(m)
	case holed:
		l.healer.add(p.channel)
	}
}
