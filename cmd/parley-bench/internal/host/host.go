// Package host asks the machine about processes and limits: CPU time and
// memory of a process, open files, ports. On systems other than Linux what
// needs /proc returns ErrUnsupported.
package host

import (
	"errors"
	"fmt"
)

// ErrUnsupported is returned for what this system does not tell.
var ErrUnsupported = errors.New("not known on this operating system")

// FilesError tells which limit of open files stands in the way.
type FilesError struct {
	Need, Have uint64
	Limit      string // what holds it there, and what would help
}

func (e *FilesError) Error() string {
	return fmt.Sprintf("%d open files are needed and %d allowed: %s", e.Need, e.Have, e.Limit)
}

// PortsError tells that the source addresses have too few ports.
type PortsError struct {
	Connections, Sources, Destinations int
	Ports                              int // of one source to one destination
	Needed                             int // source addresses that would do
}

func (e *PortsError) Error() string {
	return fmt.Sprintf("%d connections from %d source addresses to %d servers do not fit into the %d ports "+
		"of net.ipv4.ip_local_port_range: --source-ips %d would do, on loopback",
		e.Connections, e.Sources, e.Destinations, e.Ports, e.Needed)
}

// CheckPorts tells whether so many connections, spread evenly, have ports: each
// pair of source and destination addresses has the whole range for itself. It
// returns a *PortsError, or nil also where the range is not known.
func CheckPorts(connections, sources, destinations int) error {
	first, last, err := portRange()
	if err != nil || last < first {
		return nil
	}
	// A tenth stays free for other programs and for ports that linger.
	ports := (last - first + 1) * 9 / 10
	if connections <= ports*sources*destinations {
		return nil
	}
	perSource := ports * destinations
	return &PortsError{Connections: connections, Sources: sources, Destinations: destinations,
		Ports: ports, Needed: (connections + perSource - 1) / perSource}
}
