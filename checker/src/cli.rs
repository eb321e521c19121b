//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use tidelock_checker::{EFFECTS, Kafka, LEDGER, Options, Tables, WatchOptions};

const ABOUT: &str =
    "Judges from topics and tables alone whether every message came through exactly once, in order and whole";

const LONG: &str = "\
Judges from topics and tables alone whether every message came through exactly once, in order and whole.

WHAT YOUR MESSAGES NEED
  A header (--header, by default `check`) with ten fields, one space between them:
      v1 RUN PRODUCER SEQ KEYSEQ TXN OF COPY AT CRC
  RUN       any text without spaces: which run this is (--run)
  PRODUCER  a number: who enqueued the message
  SEQ       counts the messages of a producer from 1; a transaction that is rolled back burns numbers
  KEYSEQ    counts the committed messages of a record key from 1, without gaps; 0: no order is promised
  TXN       the producer's business transaction; OF: how many messages that one has
  COPY      0; outputs of a handler take all fields from their input and count its outputs 0, 1, .., at most 256 of them
  AT        when it was enqueued, in milliseconds since 1970
  CRC       8 hex digits, CRC-32 (IEEE) over: the key's length (32 bits, little endian, ffffffff for none), the key, the
            payload's length likewise, the payload, and the nine fields with the space after each
  `checker header` prints one to compare yours with.

WHAT YOUR DATABASE NEEDS
  A row for each message, written in its business transaction (--ledger), and a row for each message that was handled,
  written by the handler without any unique key (--effects; --no-effects if there are none). Any tables will do, in
  PostgreSQL: give the queries. Without --database nothing is a phantom, effects and copies are not judged, and only gaps of
  KEYSEQ tell what is lost.";

const EXAMPLES: &str = "\
EXAMPLES
  Does my header say the right thing?
      checker header --run r1 --producer 1 --seq 1 --key-seq 1 --txn 1 --of 1 --at 1700000000000 --key k --payload p

  During the run, in another terminal (Ctrl-C, SIGTERM or the end of its stdin stops it):
      checker watch --kafka localhost:9092 --run r1 --topic orders --topic stock --group inventory \\
          --summary watch.json --progress progress.jsonl

  The same in the background, where stdin is closed: it goes on until SIGTERM
      checker watch --detached --kafka localhost:9092 --run r1 --topic orders --summary watch.json &

  After it:
      checker judge --kafka localhost:9092 --run r1 --in orders --out stock --watch watch.json \\
          --database postgres://me@localhost/shop \\
          --ledger 'SELECT producer, seq, key_seq, txn, of, 1 FROM sent' --effects 'SELECT producer, seq, crc FROM done'

  With the faults that there were, for recovery times and stand-stills: further options of judge, and a file of such lines
      --progress progress.jsonl --history faults.jsonl
      {\"t\":1700000000000,\"event\":\"fault\",\"id\":1,\"class\":\"broker\",\"what\":\"kafka-2 killed\",\"within_ms\":15000}
      {\"t\":1700000004000,\"event\":\"healed\",\"id\":1}
      {\"t\":1700000060000,\"event\":\"writers-done\"}
  t is ms since 1970; within_ms, how long a partition may stand still during the fault, may be left out.

  Only the topics, nothing else:
      checker judge --kafka localhost:9092 --run r1 --in orders

EXIT STATUS
  0  everything is right
  1  something is wrong: the first ten of each class are printed, as PRODUCER/SEQ (topic[partition]@offset)
  2  it could not judge: a topic, a table or a file could not be read";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "checker", about = ABOUT, long_about = LONG, after_long_help = EXAMPLES, version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Read topics while the system runs, until told to stop, and note what was seen and when
    Watch(WatchArgs),
    /// Read topics and tables again after the run, and judge
    Judge(JudgeArgs),
    /// Print the header of one message, to compare yours with
    Header(HeaderArgs),
}

#[derive(Debug, Args)]
struct KafkaArgs {
    /// Brokers, as host:port[,..]
    #[arg(long, value_name = "BROKERS")]
    kafka: String,
    /// The RUN of the messages
    #[arg(long)]
    run: String,
    /// The header with the identity
    #[arg(long, default_value = "check")]
    header: String,
    /// A setting of librdkafka, such as sasl.username=me; may be given several times
    #[arg(long = "kafka-option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<(String, String)>,
    /// How long nothing may come, or no server answer, before it gives up
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no ="))?;
    Ok((name.into(), value.into()))
}

impl KafkaArgs {
    fn split(self) -> (Kafka, String) {
        let Self { kafka: brokers, run, header, options, patience } = self;
        (Kafka { brokers, header, options, patience }, run)
    }
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// A topic; may be given several times
    #[arg(long = "topic", required = true)]
    topics: Vec<String>,
    /// A consumer group whose committed offsets must not go backwards; may be given several times. Needs the right to
    /// read the topic __consumer_offsets: there every step stands, in order
    #[arg(long = "group")]
    groups: Vec<String>,
    /// Where to write what was seen (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: PathBuf,
    /// Where to write when messages were heard (JSON lines)
    #[arg(long, value_name = "FILE")]
    progress: Option<PathBuf>,
    /// Go on when stdin closes; stop on a signal only
    #[arg(long)]
    pub(crate) detached: bool,
}

impl WatchArgs {
    pub(crate) fn options(self) -> WatchOptions {
        let (kafka, run) = self.kafka.split();
        WatchOptions { kafka, run, topics: self.topics, groups: self.groups, progress: self.progress }
    }
}

#[derive(Debug, Args)]
pub(crate) struct JudgeArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// A topic with the messages of the ledger; may be given several times
    #[arg(long = "in", value_name = "TOPIC", required = true)]
    inputs: Vec<String>,
    /// A topic with what handlers emitted; may be given several times
    #[arg(long = "out", value_name = "TOPIC")]
    outputs: Vec<String>,
    /// PostgreSQL with ledger and effects, as postgres://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Asks for producer, seq, key_seq, txn, of, copies of each committed message
    #[arg(long, value_name = "QUERY", default_value = LEDGER)]
    ledger: String,
    /// Asks for producer, seq, crc of each effect; the crc is that of the message
    #[arg(long, value_name = "QUERY", default_value = EFFECTS)]
    effects: String,
    /// There is no table of effects
    #[arg(long)]
    no_effects: bool,
    /// What the watch saw
    #[arg(long, value_name = "FILE")]
    watch: Option<PathBuf>,
    /// When the watch heard messages
    #[arg(long, value_name = "FILE", requires = "watch")]
    progress: Option<PathBuf>,
    /// Which faults there were (JSON lines)
    #[arg(long, value_name = "FILE", requires = "progress")]
    history: Option<PathBuf>,
    /// Messages without an identity of this run are right
    #[arg(long)]
    foreign_allowed: bool,
    /// Where to write the report (JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl JudgeArgs {
    pub(crate) fn options(self) -> Options {
        let (kafka, run) = self.kafka.split();
        let effects = (!self.no_effects).then_some(self.effects);
        let tables = self.database.map(|url| Tables { url, ledger: self.ledger, effects });
        Options {
            kafka,
            run,
            inputs: self.inputs,
            outputs: self.outputs,
            tables,
            watch: self.watch,
            progress: self.progress,
            history: self.history,
            foreign_allowed: self.foreign_allowed,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct HeaderArgs {
    #[arg(long)]
    pub(crate) run: String,
    #[arg(long)]
    pub(crate) producer: u32,
    #[arg(long)]
    pub(crate) seq: u64,
    #[arg(long, default_value_t = 0)]
    pub(crate) key_seq: u64,
    #[arg(long)]
    pub(crate) txn: u64,
    #[arg(long, default_value_t = 1)]
    pub(crate) of: u32,
    #[arg(long, default_value_t = 0)]
    pub(crate) copy: u32,
    #[arg(long)]
    pub(crate) at: u64,
    /// The record's key; without it, none
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The payload; without it, none
    #[arg(long)]
    pub(crate) payload: Option<String>,
}
