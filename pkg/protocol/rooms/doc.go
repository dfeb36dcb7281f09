// Package rooms relays between the players of a room: one client is the host, the
// others talk to the host, and the host talks to one or all. Clients speak protobuf
// over WebSockets; rooms are made and looked after over HTTP.
//
// What happens in a room is one stream for the whole fleet, the messages of its topic:
// who comes and goes, who is host, and what clients say. Whether somebody may say
// something is decided by its place in the stream, by each node for itself and by all
// in the same way, so that clients of one room may be anywhere.
package rooms
