package redisbus

import (
	"fmt"
	"testing"

	"parley/pkg/relay"
)

// The slots are those of the Cluster specification's own examples, and of the
// answers of a server to CLUSTER KEYSLOT.
func TestKeySlot(t *testing.T) {
	for key, want := range map[string]int{"123456789": 0x31c3, "foo": 12182, "{foo}bar": 12182, "a{foo}{bar}": 12182, "{}foo": keySlot("{}foo"), "": 0} {
		if got := keySlot(key); got != want {
			t.Errorf("%q is in slot %d, want %d", key, got, want)
		}
	}
	if keySlot("{}foo") == keySlot("foo") {
		t.Error("an empty hash tag is none")
	}
}

// Partitions lie evenly among the slots, all keys of one in the same slot; and they
// stay what they are, or nodes of two versions would not hear each other.
func TestPartitions(t *testing.T) {
	const topic = relay.Topic("client/{a}")
	for i := range partitions {
		k := partitionKeyspace(i)
		slot := k.slot()
		if slot*partitions/slots != i {
			t.Errorf("partition %d has slot %d", i, slot)
		}
		for _, key := range []string{k.stream(topic), k.head(topic), k.channel(topic), k.epoch(), k.canary("n")} {
			if keySlot(key) != slot {
				t.Errorf("%s is in slot %d, its partition in %d", key, keySlot(key), slot)
			}
		}
		if got, ok := k.topic(k.channel(topic)); !ok || got != topic {
			t.Errorf("%s is of topic %q", k.channel(topic), got)
		}
		if _, ok := k.topic(k.canary("n")); ok {
			t.Error("the canary is taken for a topic")
		}
		if _, ok := partitionKeyspace((i + 1) % partitions).topic(k.channel(topic)); ok {
			t.Error("a channel is taken for one of another partition")
		}
	}
	if got := fmt.Sprint(partitionKeyspace(0), partitionKeyspace(15), partitionOf("client/a"), partitionOf("room/42"), partitionOf("room/43")); got != "{parley:{10}:} {parley:{40}:} 6 15 15" {
		t.Errorf("the partitions have changed: %s", got)
	}
	var count [partitions]int
	for i := range 16000 {
		count[partitionOf(relay.Topic(fmt.Sprint("client/", i)))]++
	}
	for i, n := range count {
		if n < 500 || n > 1500 {
			t.Errorf("partition %d has %d of 16000 topics", i, n)
		}
	}
}

func TestParsePlace(t *testing.T) {
	for s, want := range map[string]relay.ID{"": {}, "0-1": {Seq: 1}, "1795262400000-0": {Millis: 1795262400000}, "12-34": {Millis: 12, Seq: 34}} {
		if got, ok := parsePlace(s); !ok || got != want {
			t.Errorf("parsePlace(%q) = %v, %v", s, got, ok)
		}
		if want != (relay.ID{}) && placeText(want) != s {
			t.Errorf("placeText(%v) = %q", want, placeText(want))
		}
	}
	for _, s := range []string{"-", "1", "1-", "-1", "1-2-3", "a-b", "1 -2", "99999999999999999999-0"} {
		if got, ok := parsePlace(s); ok {
			t.Errorf("parsePlace(%q) = %v", s, got)
		}
	}
}
