// Package sqlstore keeps accounts and the archive in a MySQL or MariaDB, which the
// nodes of a fleet share, or in a SQLite file, for the nodes of one machine.
//
// The two behave alike. Names, emails and topics are bytes to the database, so that
// no collation decides what is equal: usernames and topics differ when one byte
// does, a space at the end too; emails are compared by their lower-case form.
//
// # Time
//
// A call ends within QueryTimeout, that is, within as much for each statement of
// Archive.Store; earlier when its context does. A database that is away, or does not
// answer, or is too busy, or refuses to write, makes it fail with an error that wraps
// relay.ErrUnavailable. It is then not known whether what was to be written was;
// Archive.Store may be repeated. When the database is back calls succeed again,
// without anything having to be done. Deadlocks and waits for locks are repeated
// here, a few times.
//
// # Versions
//
// Open brings the tables to the version that the node knows; of nodes that start
// at once one does it and the others wait. A database whose tables are newer than
// the node is used as it is: so nodes of two versions run side by side during a
// roll-out, and a roll-out may be taken back. For this all migrations only ever add,
// tables, indexes, and columns that may be left out; and because MySQL keeps
// what it has done of a migration that fails half-way, each of their statements may
// be executed twice.
package sqlstore
