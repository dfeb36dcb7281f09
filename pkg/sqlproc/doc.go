// Package sqlproc runs a MariaDB for tests and drills: a child process on a free
// port of the loopback interface, with a data directory of its own. It needs the
// programs of Debian's package mariadb-server, and no service that runs.
//
// Methods return when what they did has taken effect; a server has 60 s to start.
// They may be called from any goroutine; two that act upon the same server wait for
// each other.
package sqlproc
