package redisbus

import (
	"strconv"
	"strings"

	"parley/pkg/relay"
)

// keyPrefix starts the name of every key and channel that Parley uses in Redis.
const keyPrefix = "parley:"

// partitions is how many parts the topics of a Cluster fall into. Each is one
// slot: a topic's stream and its sharded channel are on the same master, and a
// node needs one subscriber connection for each part. All nodes of a fleet, of
// any version, must agree on it.
const partitions = 16

// slots is the number of slots of a Redis Cluster.
const slots = 1 << 14

// keyspace names the keys and channels of one partition.
type keyspace struct{ prefix string }

// oneKeyspace is that of a Redis which is no Cluster.
var oneKeyspace = keyspace{keyPrefix}

// partitionKeyspace has a hash tag whose slot lies in the i-th part of all slots,
// so that the partitions spread evenly over any number of masters.
func partitionKeyspace(i int) keyspace {
	for n := 0; ; n++ {
		tag := strconv.Itoa(n)
		if keySlot(tag)*partitions/slots == i {
			return keyspace{keyPrefix + "{" + tag + "}:"}
		}
	}
}

// partitionOf is the partition of a topic. All rooms are in one, since what happens in
// a room concerns the index of all, too, and has to happen in one step.
func partitionOf(t relay.Topic) int {
	if strings.HasPrefix(string(t), relay.RoomTopics) {
		t = relay.RoomTopics
	}
	return int(hashOf(t) % partitions)
}

// hashOf is FNV-1a, 32 bits, of a topic's name.
func hashOf(t relay.Topic) uint32 {
	h := uint32(2166136261)
	for i := range len(t) {
		h = (h ^ uint32(t[i])) * 16777619
	}
	return h
}

// slot is that of all keys of the keyspace.
func (k keyspace) slot() int { return keySlot(k.prefix) }

// keySlot is the slot of a key as the Cluster specification has it: CRC16
// (XMODEM) of the hash tag, or of the whole key when it has none.
func keySlot(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}

// The key of a topic's stream, the key that tells its last message, the channel on
// which its messages are published, and the note of a journal's last break.
const (
	streamKind  = "s:"
	headKind    = "h:"
	channelKind = "t:"
	noteKind    = "b:"
)

// inboxKind is a topic's readers that hold no connection; see inbox.lua.
const inboxKind = "i:"

// Of a topic's roster: the members that a node has, those that any has, and the
// numbers of changes. Ids of nodes have no spaces.
const (
	ownKind     = "r:"
	membersKind = "m:"
	numbersKind = "n:"
)

func (k keyspace) own(t relay.Topic, node string) string {
	return k.prefix + ownKind + string(t) + " " + node
}
func (k keyspace) members(t relay.Topic) string { return k.prefix + membersKind + string(t) }
func (k keyspace) numbers(t relay.Topic) string { return k.prefix + numbersKind + string(t) }

func (k keyspace) stream(t relay.Topic) string  { return k.prefix + streamKind + string(t) }
func (k keyspace) head(t relay.Topic) string    { return k.prefix + headKind + string(t) }
func (k keyspace) channel(t relay.Topic) string { return k.prefix + channelKind + string(t) }
func (k keyspace) note(t relay.Topic) string    { return k.prefix + noteKind + string(t) }
func (k keyspace) inbox(t relay.Topic) string   { return k.prefix + inboxKind + string(t) }

func (k keyspace) append(b []byte, kind string, t relay.Topic) []byte {
	return append(append(append(b, k.prefix...), kind...), t...)
}

// Of rooms, all of them or one; see rooms.lua.
const (
	roomsKind     = "rooms"
	emptyKind     = "rooms:empty"
	seatsKind     = "rooms:seats"
	connectedKind = "p:"
	knownKind     = "k:"
	leftKind      = "l:"
)

// rooms is a key about all rooms.
func (k keyspace) rooms(kind string) string { return k.prefix + kind }

// roomKeys are those of rooms in general and of one, as scripts want them.
func (k keyspace) roomKeys(room int32) []string {
	t, id := relay.RoomTopic(room), strconv.Itoa(int(room))
	return []string{k.rooms(roomsKind), k.rooms(emptyKind), k.rooms(seatsKind),
		k.prefix + connectedKind + id, k.prefix + knownKind + id, k.prefix + leftKind + id, k.stream(t), k.head(t)}
}

// epoch is the key that names the history which Redis holds.
func (k keyspace) epoch() string { return k.prefix + "epoch" }

// canary is the channel on which a node hears itself.
func (k keyspace) canary(node string) string { return k.prefix + "canary:" + node }

// topic is the inverse of channel; false for other channels.
func (k keyspace) topic(channel string) (relay.Topic, bool) {
	rest, ok := strings.CutPrefix(channel, k.prefix)
	if !ok {
		return "", false
	}
	t, ok := strings.CutPrefix(rest, channelKind)
	return relay.Topic(t), ok
}
