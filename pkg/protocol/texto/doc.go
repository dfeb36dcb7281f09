// Package texto speaks Texto v1: directed chat over WebSocket, one JSON object a
// text frame. docs and examples of the wire stand in README.md beside this file.
package texto
