package redisbus

import (
	"strings"

	"parley/pkg/relay"
)

// keyPrefix starts the name of every key and channel that Parley uses in Redis.
const keyPrefix = "parley:"

const (
	topicPrefix  = keyPrefix + "t:"      // the channel of a topic
	canaryPrefix = keyPrefix + "canary:" // the channel on which a node hears itself
)

func topicChannel(t relay.Topic) string { return topicPrefix + string(t) }

func canaryChannel(node string) string { return canaryPrefix + node }

// channelTopic is the inverse of topicChannel; false for other channels.
func channelTopic(channel string) (relay.Topic, bool) {
	t, ok := strings.CutPrefix(channel, topicPrefix)
	return relay.Topic(t), ok
}
