// Package chat speaks the chat protocol: accounts over HTTP, rooms with a history
// over WebSocket. README.md beside this file describes the wire, with examples.
//
// A node keeps the newest page of each room in memory, once for each loop of its
// connections (see shard), as long as it has clients. What a client is greeted with
// and what it hears from then on are made on one loop, so that nothing falls between
// them and nothing comes twice.
package chat
