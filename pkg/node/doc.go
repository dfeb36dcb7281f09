// Package node makes a node out of the parts: configuration, wiring, listeners,
// health, and the graceful end. It is the only package that knows them all.
package node
