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
func (b *Bus) receive(ctx context.Context, r relay.Receiver) {
	pause := time.Duration(reconnectMin)
	for ctx.Err() == nil {
		err := b.receiveOnce(ctx, r)
		stood := b.connected.Swap(false)
		if stood {
			pause = reconnectMin // Redis was there: it may be again at once
		}
		if ctx.Err() != nil {
			return
		}
		if stood {
			b.metrics.reconnects.Inc()
			b.log.Warn("redis subscriber connection lost, connecting again", "error", err)
		} else {
			b.log.Debug("redis cannot be reached, trying again", "error", err, "pause", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, reconnectMax)
	}
}

// receiveOnce connects, has everything subscribed again, and reads until the
// connection breaks or the canary falls silent.
func (b *Bus) receiveOnce(ctx context.Context, r relay.Receiver) error {
	b.dials.armed.Store(true)
	defer b.dials.armed.Store(false)
	conn := b.sub.Subscribe(ctx)
	stop := context.AfterFunc(ctx, b.dials.hangUp)
	defer func() {
		b.table.detach()
		stop()
		_ = conn.Close()
	}()
	if err := conn.Subscribe(ctx, b.canary); err != nil {
		return err
	}
	if _, err := conn.ReceiveTimeout(ctx, dialTimeout); err != nil {
		return fmt.Errorf("subscribing to the node's own channel: %w", err)
	}
	b.dials.conn.Load().beforeRead = func() error {
		r.Flush()
		return b.checkCanary()
	}
	b.table.attach(conn)
	b.connected.Store(true)
	select {
	case b.attached <- struct{}{}:
	default:
	}
	b.log.Info("redis subscriber connection established")
	for n := 1; ; n++ {
		// The library's deadline is not used (see idleConn).
		v, err := conn.ReceiveTimeout(ctx, canarySilence)
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *redis.Message:
			b.message(v, r)
		case *redis.Subscription:
			if v.Kind == "subscribe" && b.table.confirm(v.Channel) {
				if topic, ok := channelTopic(v.Channel); ok {
					b.metrics.gaps.WithLabelValues("false").Inc()
					r.Gap(topic, relay.Position{})
				}
			}
		}
		if n%flushEvery == 0 {
			r.Flush()
		}
	}
}

// checkCanary tells whether the canary was heard lately. It cannot be as long as
// the topics are being subscribed to again, since it waits with all publishes.
func (b *Bus) checkCanary() error {
	since, open := b.lane.hearing.since()
	if !open {
		return nil
	}
	silent := min(b.CanaryAge(), time.Since(since))
	if silent > canarySilence {
		return fmt.Errorf("%w: silent for %s", errCanary, silent.Round(time.Millisecond))
	}
	return nil
}

func (b *Bus) message(v *redis.Message, r relay.Receiver) {
	topic, ok := channelTopic(v.Channel)
	if !ok {
		b.heard.Store(max(1, int64(time.Since(b.started))))
		return
	}
	b.metrics.received.Inc()
	m := relay.Message{Topic: topic}
	if err := parseEnvelope(v.Payload, &m); err != nil {
		b.metrics.undecodable.Inc()
		if time.Since(b.complained) < complainEvery {
			return
		}
		b.complained = time.Now()
		b.log.Warn("unreadable message from redis", "topic", topic, "error", err)
		return
	}
	r.Dispatch(m)
}
