-- +goose Up

-- BLOBs are compared byte by byte. email_key is the email in lower case. password
-- is in PHC form, NULL for an account that has none. Times are in nanoseconds
-- since 1970, UTC. AUTOINCREMENT gives no id twice.
CREATE TABLE IF NOT EXISTS users (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    username  BLOB NOT NULL UNIQUE,
    email     BLOB NOT NULL,
    email_key BLOB NOT NULL UNIQUE,
    password  BLOB NULL,
    created   INTEGER NOT NULL
) STRICT;

-- Rows lie in the order of the primary key: a page of a topic is one range,
-- wherever in the topic it is. millis and seq are stored less 2^63, since SQLite's
-- integers have a sign: so their order is that of the unsigned numbers.
CREATE TABLE IF NOT EXISTS archive (
    topic  BLOB NOT NULL,
    millis INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    sender BLOB NOT NULL,
    sent   INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (topic, millis, seq)
) STRICT, WITHOUT ROWID;
