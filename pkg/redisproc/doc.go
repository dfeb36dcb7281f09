// Package redisproc runs Redis for tests and drills: one server, a master with
// replicas and Sentinels, or a Cluster. They are child processes on free ports of
// the loopback interface. It needs the program redis-server, and no other.
//
// Methods return when what they did has taken effect, within the time that their
// context allows; a server has 20 s to start. They may be called from any goroutine; two that
// act upon the same server wait for each other.
package redisproc
