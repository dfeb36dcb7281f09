-- +goose Up

-- VARBINARY is compared byte by byte, with no collation and no padding.
-- email_key is the email in lower case. password is in PHC form, NULL for an
-- account that has none. Times are in nanoseconds since 1970, UTC.
CREATE TABLE IF NOT EXISTS users (
    id        BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    username  VARBINARY(512) NOT NULL,
    email     VARBINARY(512) NOT NULL,
    email_key VARBINARY(1024) NOT NULL,
    password  VARBINARY(512) NULL,
    created   BIGINT NOT NULL,
    UNIQUE KEY username (username),
    UNIQUE KEY email_key (email_key)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;

-- InnoDB stores rows in the order of the primary key: a page of a topic is one
-- range, wherever in the topic it is.
CREATE TABLE IF NOT EXISTS archive (
    topic  VARBINARY(512) NOT NULL,
    millis BIGINT UNSIGNED NOT NULL,
    seq    BIGINT UNSIGNED NOT NULL,
    sender VARBINARY(512) NOT NULL,
    sent   BIGINT NOT NULL,
    body   MEDIUMBLOB NOT NULL,
    PRIMARY KEY (topic, millis, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4;
