// Package texto speaks Texto v1: directed chat over WebSocket, one JSON object a
// text frame. README.md beside this file describes the wire, with examples.
package texto
