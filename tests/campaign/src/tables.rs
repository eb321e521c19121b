//! The tables of a run, in the schema `campaign`, and the names of its topics.

/// What writers enqueue into.
pub const INPUT: &str = "campaign.in";
/// What the handler emits to.
pub const OUTPUT: &str = "campaign.out";
/// The consumer group of the processor, and the name of the relay.
pub const GROUP: &str = "campaign";
/// The topic of the relay's positions.
pub const PROGRESS: &str = "tidelock.campaign.progress";
/// Where the handler enters what it did.
pub const EFFECTS: &str = "campaign.effect";
/// The same of handlers beside the run.
pub const SIDE_EFFECTS: &str = "campaign.side_effect";
/// Rows of `campaign.tally`: few, so that handlers meet in them.
pub const TALLIES: i32 = 3;

/// Creates them, statement by statement.
pub const CREATE: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS campaign",
    // The entity's lock, and its KEYSEQ.
    "CREATE TABLE IF NOT EXISTS campaign.counter (key bytea PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50)",
    // Written in the same transaction as the outbox row.
    "CREATE TABLE IF NOT EXISTS campaign.ledger (producer int NOT NULL, seq bigint NOT NULL, key bytea, \
     key_seq bigint NOT NULL, txn bigint NOT NULL, \"of\" int NOT NULL, copies int NOT NULL, \
     refused boolean NOT NULL DEFAULT false, PRIMARY KEY (producer, seq))",
    // Written by the handler. No unique key: a duplicate must show.
    "CREATE TABLE IF NOT EXISTS campaign.effect (producer int NOT NULL, seq bigint NOT NULL, \
     key_seq bigint NOT NULL, crc bigint NOT NULL)",
    // What was handled of topics that faults have for themselves. No unique key either.
    "CREATE TABLE IF NOT EXISTS campaign.side (\"group\" text NOT NULL, topic text NOT NULL, partition int NOT NULL, \
     \"offset\" bigint NOT NULL, life int NOT NULL, n bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())",
    "CREATE TABLE IF NOT EXISTS campaign.side_effect (LIKE campaign.effect)",
    // Where handlers are made to meet, so that they fail.
    "CREATE TABLE IF NOT EXISTS campaign.tally (bucket int PRIMARY KEY, n bigint NOT NULL DEFAULT 0)",
    "INSERT INTO campaign.tally (bucket) SELECT generate_series(0, 2) ON CONFLICT DO NOTHING",
];
