// Package relaytest helps to test relay nodes: conformance suites for the
// contracts of package relay, and real servers, Redis and MariaDB, that can be killed,
// restarted and stopped.
package relaytest
