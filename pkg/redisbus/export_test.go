package redisbus

// PartitionSlots are the slots of the partitions.
func PartitionSlots() (all []int) {
	for i := range partitions {
		all = append(all, partitionKeyspace(i).slot())
	}
	return all
}
