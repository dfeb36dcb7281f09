package relaytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/pkg/relay"
)

// What is published after Subscribe has returned always arrives: thousands of
// races between the two, each topic by two subscribers at a time.
func testConfirmed(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const pairs, rounds = 8, 500
	name := func(pair, round int) relay.Topic { return relay.Topic(fmt.Sprint("client/", pair, ".", round)) }
	var wg sync.WaitGroup
	for worker := range 2 * pairs {
		wg.Go(func() {
			for round := range rounds {
				topic := name(worker/2, round)
				to.subscribe(topic)
				from.publish(topic, "hello")
			}
		})
	}
	wg.Wait()
	for pair := range pairs {
		for round := range rounds {
			to.await(name(pair, round), 2)
		}
	}
	if got, want := to.Received(), 2*pairs*rounds; got != want {
		t.Errorf("%d messages came, %d were sent", got, want)
	}
}

// A topic is heard as long as one of its subscribers is left.
func testCounted(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const twice, once, witness = relay.Topic("client/twice"), relay.Topic("client/once"), relay.Topic("client/witness")
	to.subscribe(witness)
	to.subscribe(twice, once, twice) // two in one call count as two
	to.subscribe(twice)
	// In a Cluster the witness may overtake what came before it: by another connection.
	Eventually(t, "both are subscribed", func() bool { return to.hears(from, twice, witness) && to.hears(from, once, witness) })
	to.Unsubscribe(twice, twice)
	to.Unsubscribe("client/never")
	to.Unsubscribe(once)
	Eventually(t, "the unsubscribed topic is heard no more", func() bool { return !to.hears(from, once, witness) })
	Eventually(t, "the third of three subscribers hears, when two have gone", func() bool { return to.hears(from, twice, witness) })
	to.Unsubscribe(twice)
	Eventually(t, "the topic that lost all subscribers is heard no more", func() bool { return !to.hears(from, twice, witness) })
	to.subscribe(twice)
	Eventually(t, "it is heard after it was subscribed to anew", func() bool { return to.hears(from, twice, witness) })
}

// A Subscribe that fails leaves no subscription, and takes nobody else's.
func testAbandoned(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const fresh, held, witness = relay.Topic("client/fresh"), relay.Topic("client/held"), relay.Topic("client/witness")
	to.subscribe(witness)
	to.subscribe(held)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var failed int
	for range 200 { // an ended context races with the confirmation
		if _, err := to.Subscribe(ended, fresh, held); err == nil {
			to.Unsubscribe(fresh, held)
		} else {
			failed++
			if !errors.Is(err, relay.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Fatalf("error = %v, want one of ErrUnavailable and the context's", err)
			}
		}
	}
	if failed == 0 {
		t.Error("no Subscribe failed, though its context had ended")
	}
	Eventually(t, "the topic that nobody subscribed to is heard no more", func() bool { return !to.hears(from, fresh, witness) })
	if !to.hears(from, held, witness) {
		t.Error("the topic that was subscribed to before is lost")
	}
	to.subscribe(fresh)
	if !to.hears(from, fresh, witness) {
		t.Error("subscribed at last, and nothing is heard")
	}
}

// A client that comes back hears everything from then on, whenever it comes: at
// once, or just when its node is giving the topic up.
func testResubscription(t *testing.T, f *fleet) {
	from, to := f.join(), f.join()
	const workers, clients, rounds = 4, 300, 2
	// Nodes hold an unwanted topic for about this long.
	const away = 1100 * time.Millisecond
	type client struct {
		topic relay.Topic
		left  time.Time
		want  int
	}
	var all [workers][]*client
	var wg sync.WaitGroup
	for w := range workers {
		for i := range clients {
			all[w] = append(all[w], &client{topic: relay.Topic(fmt.Sprint("client/", w, ".", i))})
		}
		wg.Go(func() {
			comeBack := func(c *client) {
				to.subscribe(c.topic)
				from.publish(c.topic, "welcome back")
				c.want++
			}
			for _, c := range all[w] {
				comeBack(c)
				to.Unsubscribe(c.topic)
				comeBack(c)
			}
			for range rounds {
				// They leave one after the other and come back in the same
				// order, so that some always come when their topic goes.
				began := time.Now()
				for i, c := range all[w] {
					time.Sleep(time.Until(began.Add(away * time.Duration(i) / clients)))
					to.Unsubscribe(c.topic)
					c.left = time.Now()
				}
				for _, c := range all[w] {
					time.Sleep(time.Until(c.left.Add(away)))
					comeBack(c)
				}
			}
		})
	}
	wg.Wait()
	for _, clients := range all {
		for _, c := range clients {
			to.await(c.topic, c.want)
			if got := to.Count(c.topic); got != c.want {
				t.Errorf("%s: %d messages came, %d were sent", c.topic, got, c.want)
			}
		}
	}
}
