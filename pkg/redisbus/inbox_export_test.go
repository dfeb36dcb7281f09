package redisbus

import "time"

// Keeping is an inbox of messages that are kept for another time.
func (i *Inbox) Keeping(keep time.Duration) *Inbox { return &Inbox{keep: keep, stores: i.stores} }
