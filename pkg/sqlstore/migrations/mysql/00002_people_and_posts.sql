-- +goose Up

-- What names contain: each username in lower case, as a whole (stage 0), and from each
-- of its later characters on. Of such a part stage is one more than the number of its
-- first bytes that also stand further to the front in the name: so a text of n bytes is
-- looked for at stages 0 to n, and is found once in each name.
CREATE TABLE IF NOT EXISTS name_parts (
    stage   SMALLINT UNSIGNED NOT NULL,
    part    VARBINARY(1536) NOT NULL,
    user_id BIGINT NOT NULL,
    PRIMARY KEY (stage, part, user_id),
    KEY user_id (user_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- How far work has come that is done bit by bit.
CREATE TABLE IF NOT EXISTS progress (
    work  VARBINARY(64) NOT NULL PRIMARY KEY,
    place BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- Which account somebody has that an issuer knows.
CREATE TABLE IF NOT EXISTS identities (
    issuer  VARBINARY(512) NOT NULL,
    subject VARBINARY(512) NOT NULL,
    user_id BIGINT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- How many rows a user has in friends and in members; whoever changes those locks this.
CREATE TABLE IF NOT EXISTS tallies (
    user_id     BIGINT NOT NULL PRIMARY KEY,
    friends     BIGINT NOT NULL,
    memberships BIGINT NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS friends (
    user_id   BIGINT NOT NULL,
    friend_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, friend_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- A conversation is that of two users, low and high, or of a group, which has a name
-- and a creator. newest is the number of its newest post, low_read and high_read those
-- up to which each of the two has pulled, low_from and high_from those before their last
-- pulls, which had these keys.
CREATE TABLE IF NOT EXISTS conversations (
    id        BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    low       BIGINT NULL,
    high      BIGINT NULL,
    low_read  BIGINT NOT NULL DEFAULT 0,
    high_read BIGINT NOT NULL DEFAULT 0,
    low_from  BIGINT NOT NULL DEFAULT 0,
    high_from BIGINT NOT NULL DEFAULT 0,
    low_key   VARBINARY(128) NOT NULL DEFAULT '',
    high_key  VARBINARY(128) NOT NULL DEFAULT '',
    name      VARBINARY(512) NULL,
    creator   BIGINT NULL,
    newest    BIGINT NOT NULL DEFAULT 0,
    UNIQUE KEY two (low, high),
    UNIQUE KEY name (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

CREATE TABLE IF NOT EXISTS members (
    conversation BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    PRIMARY KEY (conversation, user_id),
    KEY user_id (user_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- The posts of a conversation are numbered from 1 without gaps. sent is in
-- milliseconds since 1970, UTC; size is the length of body.
CREATE TABLE IF NOT EXISTS posts (
    conversation BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    sender       BIGINT NOT NULL,
    sent         BIGINT NOT NULL,
    size         INT UNSIGNED NOT NULL,
    body         MEDIUMBLOB NOT NULL,
    PRIMARY KEY (conversation, seq),
    KEY by_sender (conversation, sender, seq, size)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- Conversations that are deleted, but not all of their posts.
CREATE TABLE IF NOT EXISTS graves (
    conversation BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- Notices that are not known to have been passed on. made is in milliseconds since
-- 1970, UTC; recipients are their ids, each eight bytes long, big-endian.
CREATE TABLE IF NOT EXISTS outbox (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    made       BIGINT NOT NULL,
    recipients BLOB NOT NULL,
    body       BLOB NOT NULL,
    KEY made (made)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;
