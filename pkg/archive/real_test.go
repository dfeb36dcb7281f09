package archive_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/pkg/archive"
	"parley/pkg/embedded"
	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
	"parley/pkg/sqlstore"
)

const room relay.Topic = "chat/beast"

// node is what a node has for its archive.
type node struct {
	bus   *redisbus.Bus
	fleet *redisbus.Fleet
	store *sqlstore.Archive
	mover *archive.Mover
	*archive.History

	stop func() // ends bus, fleet and store
}

// join starts the parts of a node, all but the mover, until stop or the end of the test.
func join(t *testing.T, name, redisURL, databaseURL string, length int64) *node {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", name)
	bus, err := redisbus.New(redisbus.Options{URL: redisURL, Node: name, Log: log,
		Keeps: func(t relay.Topic) bool { return strings.HasPrefix(string(t), "chat/") }})
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := redisbus.NewFleet(redisbus.FleetOptions{Node: name, Client: bus.FleetClient, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: databaseURL, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{bus: bus, fleet: fleet, store: store.Archive(), History: archive.NewHistory(bus, store.Archive())}
	n.mover = archive.NewMover(archive.Config{Journal: bus, Archive: n.store, Claims: fleet, Node: name,
		Topics: []relay.Topic{room}, Length: length, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := bus.Run(ctx, relaytest.NewRecorder()); err != nil {
			t.Errorf("%s: the bus: %v", name, err)
		}
	})
	wg.Go(func() {
		if err := fleet.Run(ctx); err != nil {
			t.Errorf("%s: the fleet: %v", name, err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		if err := fleet.Close(context.Background()); err != nil {
			t.Errorf("%s: the fleet: %v", name, err)
		}
		cancel()
		wg.Wait()
		if err := store.Close(); err != nil {
			t.Errorf("%s: the database: %v", name, err)
		}
	})
	t.Cleanup(n.stop)
	relaytest.Eventually(t, name+" is ready", func() bool { return bus.Ready() == nil && fleet.Ready() == nil })
	return n
}

// move runs the mover until the function that it returns is called.
func (n *node) move(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.mover.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the mover: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

type answer chan error

func (a answer) Published(_ relay.Token, _ relay.ID, err error) { a <- err }

// add appends messages, numbered from first, and waits until they are accepted.
func (n *node) add(t *testing.T, first, count int) {
	t.Helper()
	var ms []relay.Message
	for i := range count {
		ms = append(ms, relay.Message{Topic: room, From: "7", Body: fmt.Appendf(nil, "message %d", first+i)})
	}
	a := make(answer, 1)
	n.bus.Append(ms, 1<<40, a, relay.Token{})
	if err := <-a; err != nil {
		t.Fatal(err)
	}
}

// whole pages through the room and checks that it has the messages from 1 up to one
// that is at least the given one, each once and in order.
func (n *node) whole(t *testing.T, least, page int) {
	r, err := n.Newest(t.Context(), room, page)
	all, more := r.Messages, r.More
	for err == nil && more {
		var older []relay.Message
		older, more, err = n.Before(t.Context(), room, all[len(all)-1].ID, page)
		all = append(all, older...)
		if err == nil && len(older) == 0 {
			err = errors.New("there were more messages, and none came")
		}
	}
	if err != nil {
		t.Error(err)
		return
	}
	if len(all) < least {
		t.Errorf("%d messages, want %d at least", len(all), least)
	}
	for i, m := range all {
		if want := fmt.Sprintf("message %d", len(all)-i); string(m.Body) != want || m.From != "7" || m.Topic != room {
			t.Errorf("place %d of %d from the end: %q of %q in %q, want %q", i, len(all), m.Body, m.From, m.Topic, want)
			return
		}
	}
}

// Messages are appended while one mover after the other ends in the midst of its work,
// and while others page through them.
func TestArchiveOfRedisInSQLite(t *testing.T) {
	t.Parallel()
	const length, total = 50, 4000
	redis := relaytest.StartRedis(t).URL()
	database := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	writer := join(t, "writer", redis, database, length)
	reader := join(t, "reader", redis, database, length)
	a, b := join(t, "a", redis, database, length), join(t, "b", redis, database, length)
	stopA := a.move(t)

	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, n := range []*node{reader, writer} {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					n.whole(t, 0, 100)
				}
			}
		})
	}
	for i := 1; i <= total; i += 5 {
		writer.add(t, i, 5)
		if i == total/2+1 {
			// The next one takes over, and while it works a third one joins in that knows
			// of no claims.
			relaytest.Eventually(t, "something is moved", func() bool {
				r, err := reader.store.Newest(t.Context(), room, 1)
				return err == nil && len(r.Messages) > 0
			})
			stopA()
			a.stop()
			b.move(t)
			if err := writer.mover.MoveAll(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	relaytest.Eventually(t, "the journal is as short as it should be", func() bool {
		_, n, err := reader.bus.Oldest(t.Context(), room, 1)
		return err == nil && n == length
	})
	close(done)
	readers.Wait()
	for _, page := range []int{1000, length, length + 1, 7} {
		reader.whole(t, total, page)
	}
	c, err := b.fleet.Holder(t.Context(), "archive/"+string(room))
	if err != nil || c.Node != "b" {
		t.Errorf("the claim is %+v (%v), want b's", c, err)
	}
}

// A node that ends in good order with the Redis inside its process has lost nothing
// when it starts again, and says of the room that something may have been lost: it
// cannot know that it ended in good order.
func TestArchiveOutlivesEmbeddedRedis(t *testing.T) {
	t.Parallel()
	database := "sqlite:" + filepath.Join(t.TempDir(), "parley.db")
	first := 1
	for range 3 {
		redis, err := embedded.StartRedis()
		if err != nil {
			t.Fatal(err)
		}
		n := join(t, "alone", redis.URL(), database, 100)
		stop := n.move(t)
		r, err := n.Newest(t.Context(), room, 100)
		if err != nil {
			t.Error(err)
		} else if first > 1 && r.Intact.Compare(r.Messages[0].ID) <= 0 {
			t.Errorf("intact from %v on, the last message is %v", r.Intact, r.Messages[0].ID)
		}
		for range 60 {
			n.add(t, first, 4)
			first += 4
		}
		n.whole(t, first-1, 100)
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := n.mover.MoveAll(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		n.whole(t, first-1, 100)
		n.stop()
		redis.Close()
	}
	if first-1 != 720 {
		t.Errorf("%d messages, want 720", first-1)
	}
}
