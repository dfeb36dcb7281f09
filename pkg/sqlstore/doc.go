// Package sqlstore keeps accounts, what they have of each other (friends, groups,
// posts, and the notices of these), and the archive in a MySQL or MariaDB, which the
// nodes of a fleet share, or in a SQLite file, for the nodes of one machine.
//
// The two behave alike. Names, emails, topics and texts are bytes to the database, so
// that no collation decides what is equal: usernames, groups and topics differ when one
// byte does, a space at the end too; emails are compared, and usernames searched, by
// their lower-case form.
//
// # Order
//
// The posts of a conversation are numbered without gaps, in the order in which they
// come to be seen: whoever writes keeps the conversation's row locked from the moment
// at which he reads the last number until his post is committed. So a place in a
// conversation is a number, and what is behind it will be seen by whoever goes on from
// there. Whoever changes a group locks its row too, then what is counted of its users, in
// ascending order; nobody takes these locks in another order. Transactions read what is
// committed (READ COMMITTED), for which a MySQL that writes a binary log must not be set
// to binlog_format = STATEMENT.
//
// # Search
//
// A username is stored once more for each of its characters, from there to the end, and
// sorted: so what has a text in it is a few ranges of an index, and found page by page.
// Accounts that a node of a former version makes are given these parts within minutes,
// by any node of this one.
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
