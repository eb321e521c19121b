-- tidelock, schema version 1. For PostgreSQL 13 or newer.
--
-- `Postgres::migrate()` runs this file under an advisory lock and notes the version. Teams that run their own migrations
-- run the files in order as they stand (psql -f), or with another schema name in place of every `tidelock.`.

CREATE TABLE tidelock.outbox (
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    topic      text        NOT NULL,
    key        bytea,
    payload    bytea,
    type       text,
    headers    jsonb       CHECK (jsonb_typeof(headers) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bucket     smallint    NOT NULL GENERATED ALWAYS AS (get_byte(sha256(coalesce(key, ''::bytea)), 0)) STORED,
    -- The last column: defaults are evaluated in column order, and the number must be drawn after every lock is taken.
    seq        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
COMMENT ON TABLE tidelock.outbox IS
    'Messages to publish. Take the lock of the entity (or update it) before the insert: that is what keeps order per key.';
CREATE INDEX outbox_xid ON tidelock.outbox (xid);
-- After a large import all rows share one xid, and statistics would turn the relay's look-ups into sequential scans.
ALTER TABLE tidelock.outbox ALTER COLUMN xid SET (n_distinct = -1);
-- NOT VALID: a dump can be loaded; every new row is checked.
ALTER TABLE tidelock.outbox ADD CONSTRAINT outbox_xid_own CHECK (xid = pg_current_xact_id()) NOT VALID;

-- How many shards there are, fixed at the first start.
CREATE TABLE tidelock.relay (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    shards int     NOT NULL
);
-- Every session of a shard's relay raises the epoch; only the newest one writes to the quarantine.
CREATE TABLE tidelock.relay_shard (
    shard      int         PRIMARY KEY,
    epoch      bigint      NOT NULL DEFAULT 0,
    -- Since when the shard's first position is in the progress topic.
    started_at timestamptz
);

-- What the database has seen of a partition: the next offset, and the outputs of the last batch.
CREATE TABLE tidelock.fence (
    "group"      text        NOT NULL,
    topic        text        NOT NULL,
    partition    int         NOT NULL,
    next_offset  bigint      NOT NULL,
    pending_from bigint,
    pending      bytea       NOT NULL DEFAULT '',
    owner        text        NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", topic, partition)
) WITH (fillfactor = 25);

-- A group's first start on a topic, and which partitions have had a fence row.
CREATE TABLE tidelock.consumer_topic (
    "group"    text        NOT NULL,
    topic      text        NOT NULL,
    partitions int         NOT NULL,
    fenced     int[]       NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", topic)
);

-- Message ids that a group has handled.
CREATE TABLE tidelock.inbox (
    "group"     text        NOT NULL,
    message_id  uuid        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("group", message_id)
);
CREATE INDEX inbox_received_at ON tidelock.inbox USING brin (received_at);

-- Messages that Kafka refused for good, and later ones of their keys.
CREATE TABLE tidelock.quarantine (
    entry          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    origin         text        NOT NULL CHECK (origin IN ('outbox', 'output')),
    -- proposed: counts only once the relay's position names the attempt; releasing: likewise, for its deletion.
    state          text        NOT NULL CHECK (state IN ('proposed', 'held', 'releasing')),
    attempt        uuid,
    release_asked  boolean     NOT NULL DEFAULT false,
    bucket         smallint    NOT NULL GENERATED ALWAYS AS (get_byte(sha256(coalesce(key, ''::bytea)), 0)) STORED,
    message_id     uuid        NOT NULL,
    topic          text        NOT NULL,
    key            bytea,
    record         bytea       NOT NULL,
    reason         text        NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX quarantine_message ON tidelock.quarantine (message_id);
CREATE INDEX quarantine_key ON tidelock.quarantine (topic, key);

-- For every language: SELECT tidelock.enqueue('orders', 'key-1', '{"order": 1}') in the business transaction, after
-- the entity was locked or updated. Answers the message id.
CREATE FUNCTION tidelock.enqueue(topic text, key bytea, payload bytea, headers jsonb DEFAULT NULL, type text DEFAULT NULL)
RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO tidelock.outbox (topic, key, payload, headers, type) VALUES ($1, $2, $3, $4, $5) RETURNING id
$$;
CREATE FUNCTION tidelock.enqueue(topic text, key text, payload jsonb, headers jsonb DEFAULT NULL, type text DEFAULT NULL)
RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO tidelock.outbox (topic, key, payload, headers, type)
    VALUES ($1, convert_to($2, 'UTF8'), convert_to($3::text, 'UTF8'), $4, $5) RETURNING id
$$;

-- Roles, where services and the relay have roles of their own:
--   GRANT USAGE ON SCHEMA tidelock TO writer, relay, processor;
--   GRANT SELECT ON tidelock.migration TO writer, relay, processor;   -- to see at the start that there is nothing to do
--   GRANT INSERT (id, topic, key, payload, type, headers), SELECT (id) ON tidelock.outbox TO writer;
--   GRANT SELECT, DELETE ON tidelock.outbox TO relay;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON tidelock.relay, tidelock.relay_shard, tidelock.quarantine TO relay;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON tidelock.fence, tidelock.consumer_topic, tidelock.inbox, tidelock.quarantine
--     TO processor;
