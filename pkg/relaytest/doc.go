// Package relaytest helps to test relay nodes: conformance suites for the
// contracts of package relay, and a real redis-server that can be killed,
// restarted and stopped.
package relaytest
