package relaytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// Backend is one Redis for the brokers of one test.
type Backend struct {
	// Open makes the broker of one more node. Nothing runs yet.
	Open func(tb testing.TB) relay.Broker
	// Down takes Redis away until the end of the test.
	Down func()
}

// Broker checks what relay.Broker promises, in parts, most of which run in
// parallel. Each part gets a Backend of its own from start, which sees by Cleanup
// to its end.
func Broker(t *testing.T, start func(testing.TB) Backend) {
	NoLeaks(t)
	t.Run("Overload", func(t *testing.T) { testOverload(t, &fleet{t: t, Backend: start(t)}) }) // takes all there is
	for _, part := range []struct {
		name string
		test func(*testing.T, *fleet)
	}{
		{"Delivery", testDelivery},
		{"Content", testContent},
		{"OrderOfOnePublisher", testOrderOfOne},
		{"OrderOfManyPublishers", testOrderOfMany},
		{"ConfirmedSubscription", testConfirmed},
		{"CountedSubscriptions", testCounted},
		{"AbandonedSubscription", testAbandoned},
		{"QuickResubscription", testResubscription},
		{"Answers", testAnswers},
		{"RedisAway", testAway},
		{"End", testEnd},
		{"EndWithoutRedis", testEndWithoutRedis},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, &fleet{t: t, Backend: start(t)})
		})
	}
}

// fleet is the nodes of one test.
type fleet struct {
	Backend
	t *testing.T
}

// member is a node: a broker that runs, and what it has received.
type member struct {
	relay.Broker
	*Recorder
	t   *testing.T
	end func()
}

// join makes a node and runs it until the end of the test.
func (f *fleet) join() *member { return f.run(f.Open(f.t)) }

func (f *fleet) run(b relay.Broker) *member {
	received, end := Run(f.t, b)
	return &member{Broker: b, Recorder: received, t: f.t, end: end}
}

// Run runs a broker until the end of the test, or until end is called, which
// waits for it. The test fails when Run does.
func Run(tb testing.TB, b relay.Broker) (received *Recorder, end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	received = NewRecorder()
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, received) }()
	end = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Run returned %v", err)
			}
		case <-time.After(Patience):
			tb.Errorf("Run has not returned %v after the end of its context", Patience)
		}
	})
	tb.Cleanup(end)
	return received, end
}

// subscribe subscribes and fails the test when that does.
func (m *member) subscribe(topics ...relay.Topic) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), Patience)
	defer cancel()
	places, err := m.Subscribe(ctx, topics...)
	if err != nil {
		m.t.Errorf("Subscribe: %v", err)
		return
	}
	if len(places) != len(topics) {
		m.t.Errorf("%d places for %d topics", len(places), len(topics))
	}
	for i, p := range places {
		if !p.ID.IsZero() {
			m.t.Errorf("%s keeps nothing and is at %v", topics[i], p)
		}
	}
}

// publish publishes and fails the test when that does.
func (m *member) publish(t relay.Topic, body string) {
	m.t.Helper()
	id, err := m.Publish(m.t.Context(), relay.Message{Topic: t, From: "test", Body: []byte(body)}, relay.Retention{})
	if err != nil {
		m.t.Errorf("Publish: %v", err)
	}
	if !id.IsZero() {
		m.t.Errorf("%s keeps nothing, and a message has the place %v", t, id)
	}
}

// await waits for the first n messages of a topic.
func (m *member) await(t relay.Topic, n int) {
	m.t.Helper()
	Eventually(m.t, fmt.Sprintf("%d messages of %s", n, t), func() bool { return m.Count(t) >= n })
}

// hears tells whether m is subscribed to a topic, by publishing to it. It must
// be subscribed to witness, which is nobody else's.
func (m *member) hears(from *member, t, witness relay.Topic) bool {
	m.t.Helper()
	count, marks := m.Count(t), m.Count(witness)
	from.publish(t, "anybody?")
	from.publish(witness, "")
	m.await(witness, marks+1)
	return m.Count(t) > count
}
