package redisbus_test

import (
	"testing"
	"time"

	"parley/pkg/relay"
	"parley/pkg/relaytest"
)

// The keys of a topic are deleted, or evicted, while somebody is behind: nobody is
// told that he has everything.
func TestEvictedTopicIsTold(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	k := newKeptTopic(t, r)
	place := k.publish(t, "1")
	behind := relay.Position{Epoch: k.start.Epoch, ID: place, At: time.Now()}
	k.publish(t, "2")
	if err := admin(t, r).Del(t.Context(), "parley:s:client/kept", "parley:h:client/kept").Err(); err != nil {
		t.Fatal(err)
	}
	if p := k.since(t, behind); p.Complete {
		t.Error("complete, though 2 is missing and nothing is left")
	}
	k.publish(t, "3")
	if p := k.since(t, behind); p.Complete {
		t.Errorf("complete, though 2 is missing: %v", p.Messages)
	}
}

// A head of a wrong type harms its topic alone: the node goes on hearing the others.
func TestForeignHeadHarmsNobodyElse(t *testing.T) {
	relaytest.NoLeaks(t)
	r := relaytest.StartRedis(t)
	k := newKeptTopic(t, r)
	if err := admin(t, r).LPush(t.Context(), "parley:h:client/foreign", "x").Err(); err != nil {
		t.Fatal(err)
	}
	k.to.subscribe(t, "client/foreign")
	k.publish(t, "1")
	k.heard(t, "1")
}
