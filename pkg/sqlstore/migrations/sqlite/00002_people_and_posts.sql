-- +goose Up

-- What names contain: each username in lower case, as a whole (stage 0), and from each
-- of its later characters on. Of such a part stage is one more than the number of its
-- first bytes that also stand further to the front in the name: so a text of n bytes is
-- looked for at stages 0 to n, and is found once in each name.
CREATE TABLE IF NOT EXISTS name_parts (
    stage   INTEGER NOT NULL,
    part    BLOB NOT NULL,
    user_id INTEGER NOT NULL,
    PRIMARY KEY (stage, part, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS name_parts_user_id ON name_parts (user_id);

-- How far work has come that is done bit by bit.
CREATE TABLE IF NOT EXISTS progress (
    work  BLOB NOT NULL PRIMARY KEY,
    place INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which account somebody has that an issuer knows.
CREATE TABLE IF NOT EXISTS identities (
    issuer  BLOB NOT NULL,
    subject BLOB NOT NULL,
    user_id INTEGER NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

-- How many rows a user has in friends and in members.
CREATE TABLE IF NOT EXISTS tallies (
    user_id     INTEGER PRIMARY KEY,
    friends     INTEGER NOT NULL,
    memberships INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS friends (
    user_id   INTEGER NOT NULL,
    friend_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, friend_id)
) STRICT, WITHOUT ROWID;

-- A conversation is that of two users, low and high, or of a group, which has a name
-- and a creator. newest is the number of its newest post, low_read and high_read those
-- up to which each of the two has pulled, low_from and high_from those before their last
-- pulls, which had these keys. AUTOINCREMENT gives no id twice.
CREATE TABLE IF NOT EXISTS conversations (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    low       INTEGER NULL,
    high      INTEGER NULL,
    low_read  INTEGER NOT NULL DEFAULT 0,
    high_read INTEGER NOT NULL DEFAULT 0,
    low_from  INTEGER NOT NULL DEFAULT 0,
    high_from INTEGER NOT NULL DEFAULT 0,
    low_key   BLOB NOT NULL DEFAULT x'',
    high_key  BLOB NOT NULL DEFAULT x'',
    name      BLOB NULL UNIQUE,
    creator   INTEGER NULL,
    newest    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (low, high)
) STRICT;

CREATE TABLE IF NOT EXISTS members (
    conversation INTEGER NOT NULL,
    user_id      INTEGER NOT NULL,
    PRIMARY KEY (conversation, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS members_user_id ON members (user_id);

-- The posts of a conversation are numbered from 1 without gaps. sent is in
-- milliseconds since 1970, UTC; size is the length of body.
CREATE TABLE IF NOT EXISTS posts (
    conversation INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    sender       INTEGER NOT NULL,
    sent         INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    body         BLOB NOT NULL,
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS posts_by_sender ON posts (conversation, sender, seq, size);

-- Conversations that are deleted, but not all of their posts.
CREATE TABLE IF NOT EXISTS graves (
    conversation INTEGER PRIMARY KEY
) STRICT;

-- Notices that are not known to have been passed on. made is in milliseconds since
-- 1970, UTC; recipients are their ids, each eight bytes long, big-endian.
CREATE TABLE IF NOT EXISTS outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    made       INTEGER NOT NULL,
    recipients BLOB NOT NULL,
    body       BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS outbox_made ON outbox (made);
