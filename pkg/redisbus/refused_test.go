package redisbus_test

import (
	"errors"
	"testing"
	"time"

	"parley/pkg/redisbus"
	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// acks is an Acker with room for one answer.
type acks chan error

func (a acks) Published(_ relay.Token, _ relay.ID, err error) { a <- err }

// What could not be sent, since Redis has refused what is asked on a new connection,
// does not count as accepted.
func TestPublishOnRefusedConnections(t *testing.T) {
	r := relaytest.StartRedis(t)
	admin := r.Client()
	allow := func(rules ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all"}, rules...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow()
	b := openWith(t, redisbus.Options{URL: r.URL(), Credentials: redisbus.Credentials{Username: "limited", Password: "secret"}})
	relaytest.Run(t, b)
	kept := relay.Retention{Length: 10, Age: time.Minute}
	publish := map[string]func() error{
		"not kept": func() error {
			_, err := b.Publish(t.Context(), relay.Message{Topic: "client/x", Body: []byte("x")}, relay.Retention{})
			return err
		},
		"kept": func() error {
			_, err := b.Publish(t.Context(), relay.Message{Topic: "client/x", Body: []byte("x")}, kept)
			return err
		},
		"in a journal": func() error {
			a := make(acks, 1)
			b.Append([]relay.Message{{Topic: "chat/x", Body: []byte("x")}}, 10, a, relay.Token{})
			return <-a
		},
	}
	for name, f := range publish {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	allow("-script")
	for name, f := range publish {
		// All but the subscriber's connection, so that the node goes on publishing.
		if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		relaytest.Eventually(t, name+": connections are gone", func() bool { return f() != nil })
		for range 5 {
			if err := f(); !errors.Is(err, relay.ErrUnavailable) || errors.Is(err, relay.ErrFull) {
				t.Errorf("%s: error = %v, want %v", name, err, relay.ErrUnavailable)
			}
		}
	}
}
