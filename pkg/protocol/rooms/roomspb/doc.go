// Package roomspb is the messages of relay rooms, generated from rooms.proto: for
// clients in Go and for tests. The server reads and writes them by hand.
package roomspb

//go:generate go test -run=^TestGenerated$ -args -write
