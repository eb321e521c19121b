-- tidelock, schema version 1. For SQLite 3.42 or newer.
--
-- `Sqlite::migrate()` runs this file in one transaction and notes the version. Times are microseconds since 1970.

-- Which database this is: a position that was written for another one is refused.
CREATE TABLE tidelock_database (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  BLOB NOT NULL DEFAULT (randomblob(16)) CHECK (length(id) = 16)
) STRICT;
INSERT INTO tidelock_database (one) VALUES (1);

-- Messages to publish, in order of `seq`, which is the order of their commits. Written by hand, texts become bytes:
-- INSERT INTO tidelock_outbox (topic, key, payload, bucket) VALUES ('orders', CAST('key-1' AS BLOB), CAST('{}' AS BLOB), ..).
CREATE TABLE tidelock_outbox (
    -- AUTOINCREMENT: without it a table that was emptied begins again at 1, below the relay's position.
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      BLOB    NOT NULL DEFAULT (randomblob(16)) CHECK (length(id) = 16),
    topic   TEXT    NOT NULL,
    key     BLOB,
    payload BLOB,
    type    TEXT,
    headers TEXT    CHECK (json_type(headers) = 'object'),
    -- The first byte of sha256(key), of sha256('') without a key (227); SQLite cannot compute it. One shard
    -- does not look at it.
    bucket  INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 255),
    time    INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE TRIGGER tidelock_outbox_insert AFTER INSERT ON tidelock_outbox
WHEN NEW.seq <= coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tidelock_outbox'), 0)
BEGIN
    SELECT RAISE(ABORT, 'seq of tidelock_outbox is given by the database');
END;
CREATE TRIGGER tidelock_outbox_update BEFORE UPDATE OF seq ON tidelock_outbox
BEGIN
    SELECT RAISE(ABORT, 'seq of tidelock_outbox is never changed');
END;

-- How many shards there are, fixed at the first start.
CREATE TABLE tidelock_relay (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    shards INTEGER NOT NULL
) STRICT;
-- Every session of a shard's relay raises the epoch; only the newest one writes to the quarantine.
CREATE TABLE tidelock_relay_shard (
    shard      INTEGER PRIMARY KEY,
    epoch      INTEGER NOT NULL DEFAULT 0,
    -- Since when the shard's first position is in the progress topic.
    started_at INTEGER
) STRICT;
-- Written before a position is: a database without the position's mark was restored from an older state.
CREATE TABLE tidelock_mark (
    shard INTEGER NOT NULL,
    seq   INTEGER NOT NULL,
    mark  BLOB    NOT NULL,
    PRIMARY KEY (shard, seq, mark)
) STRICT, WITHOUT ROWID;

-- What the database has seen of a partition: the next offset, and the outputs of the last batch.
CREATE TABLE tidelock_fence (
    "group"      TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    pending_from INTEGER,
    pending      BLOB    NOT NULL DEFAULT x'',
    owner        TEXT    NOT NULL,
    updated_at   INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY ("group", topic, partition)
) STRICT;

-- A group's first start on a topic, and which partitions have had a fence row.
CREATE TABLE tidelock_consumer_topic (
    "group"    TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    partitions INTEGER NOT NULL,
    started_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY ("group", topic)
) STRICT;
CREATE TABLE tidelock_fenced (
    "group"   TEXT    NOT NULL,
    topic     TEXT    NOT NULL,
    partition INTEGER NOT NULL,
    PRIMARY KEY ("group", topic, partition)
) STRICT, WITHOUT ROWID;

-- Message ids that a group has handled.
CREATE TABLE tidelock_inbox (
    "group"     TEXT    NOT NULL,
    message_id  BLOB    NOT NULL,
    received_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)),
    PRIMARY KEY ("group", message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tidelock_inbox_received_at ON tidelock_inbox ("group", received_at);

-- Messages that Kafka refused for good, and later ones of their keys.
CREATE TABLE tidelock_quarantine (
    entry          INTEGER PRIMARY KEY AUTOINCREMENT,
    origin         TEXT    NOT NULL CHECK (origin IN ('outbox', 'output')),
    -- proposed: counts only once the relay's position names the attempt; releasing: likewise, for its deletion.
    state          TEXT    NOT NULL CHECK (state IN ('proposed', 'held', 'releasing')),
    attempt        BLOB,
    release_asked  INTEGER NOT NULL DEFAULT 0 CHECK (release_asked IN (0, 1)),
    bucket         INTEGER NOT NULL CHECK (bucket BETWEEN 0 AND 255),
    message_id     BLOB    NOT NULL,
    topic          TEXT    NOT NULL,
    key            BLOB,
    record         BLOB    NOT NULL,
    reason         TEXT    NOT NULL,
    quarantined_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER))
) STRICT;
CREATE INDEX tidelock_quarantine_message ON tidelock_quarantine (message_id);
CREATE INDEX tidelock_quarantine_key ON tidelock_quarantine (topic, key);
