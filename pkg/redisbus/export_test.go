package redisbus

import "parley/pkg/relay"

// PartitionSlots are the slots of the partitions.
func PartitionSlots() (all []int) {
	for i := range partitions {
		all = append(all, partitionKeyspace(i).slot())
	}
	return all
}

// TopicSlot is the slot of a topic's partition.
func TopicSlot(t relay.Topic) int { return partitionKeyspace(partitionOf(t)).slot() }
