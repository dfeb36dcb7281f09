// Package conn holds client connections over WebSocket: their transport, their
// outbound queues, keepalive and limits.
//
// A connection has one goroutine of its own, its reader. Everything outbound
// belongs to a loop: a few goroutines, one for each processor, share all
// connections between them, and a loop is the only one that appends to the
// output of its connections and writes it. So the order of frames needs no lock,
// a delivery wakes no goroutine of its own, and what gathered for a connection
// while the loop was busy goes out in one write. A write never blocks a loop: a
// connection whose socket is full gets a goroutine until it has caught up.
//
// The WebSocket library does the handshake, the reading and the control frames.
// It sees the network through a transport that owns every write, so that its
// control frames and our data frames never mix.
package conn
