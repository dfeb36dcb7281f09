package sqlstore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The database is killed, again and again, in the middle of all kinds of writes. What
// it has confirmed is there afterwards; of a batch that failed all is there, or
// nothing; and nobody has another's account.
func TestKillsLoseNothing(t *testing.T) {
	relaytest.NoLeaks(t)
	const writers, kills = 4, 5
	const batch = chunkRows + 50 // more than one statement
	server := relaytest.StartMariaDB(t)
	s := open(t, server.NewURL(t))

	type outcome struct {
		topic     relay.Topic
		user      relay.User
		stored    bool
		created   bool
		ambiguous bool // whether the account was made
	}
	var mu sync.Mutex
	var outcomes []outcome
	var rounds atomic.Int64 // of all writers, that succeeded
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond) // while the database refuses
			defer pace.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				name := fmt.Sprint(w, ".", i)
				o := outcome{topic: relay.Topic("chat/" + name)}
				messages := make([]relay.Message, batch)
				for k := range messages {
					messages[k] = relay.Message{ID: relay.ID{Millis: 1, Seq: uint64(k)}, Topic: o.topic, Body: []byte(name)}
				}
				err := s.Archive().Store(t.Context(), messages)
				if o.stored = err == nil; err != nil && !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("Store: %v", err)
				}
				o.user, err = s.Users().Create(t.Context(), relay.User{Username: name, Email: name + "@example.com"}, "")
				if o.created, o.ambiguous = err == nil, err != nil; err != nil && !errors.Is(err, relay.ErrUnavailable) {
					t.Errorf("Create: %v", err)
				}
				mu.Lock()
				outcomes = append(outcomes, o)
				mu.Unlock()
				if o.stored && o.created {
					rounds.Add(1)
				}
			}
		})
	}
	for range kills {
		before := rounds.Load()
		relaytest.Eventually(t, "writers get on", func() bool { return rounds.Load() > before+2*writers })
		server.Kill()
		server.Restart(t)
	}
	close(stop)
	wg.Wait()

	relaytest.Eventually(t, "the database is back", func() bool { return s.Ping(t.Context()) == nil })
	failed := 0
	for _, o := range outcomes {
		ms, more, err := s.Archive().Before(t.Context(), o.topic, relay.ID{}, batch)
		if err != nil || more || len(ms) != batch && (o.stored || len(ms) != 0) {
			t.Errorf("%s: %d messages, more %v (%v); %d were stored: %v", o.topic, len(ms), more, err, batch, o.stored)
		}
		if o.created {
			if u, err := s.Users().ByID(t.Context(), o.user.ID); err != nil || u != o.user {
				t.Errorf("%+v was made, and is %+v (%v)", o.user, u, err)
			}
		}
		if !o.stored || o.ambiguous {
			failed++
		}
	}
	t.Logf("%d rounds, %d of them failed", len(outcomes), failed)
}
