// Package rest speaks the REST protocol: users, friends, groups and conversations over
// HTTP, and a notification centre that clients poll, whose requests wait until there is
// something. README.md has the protocol.
//
// What is written is in the database, with a notice of it in an outbox, in one transaction.
// The node passes the notice to the topic of each user whom it is for, and drops it from
// the outbox when Redis has it. A user's topic is heard on every node on which the user has
// a poll; what has come meanwhile is read from it (relay.Inbox). So a poll costs
// Redis two commands when it comes, and nothing while it waits.
package rest
