//! The role `forms`: messages of hostile sizes and forms, each in a business transaction with what belongs to it.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use sqlx::Connection as _;
use tidelock::{database::postgres::Postgres, outbox::Outgoing};
use tidelock_campaign::{Result, tables};
use tracing::{info, warn};

use crate::{
    book::{Book, Odd},
    pipeline,
};

/// What the client takes at most, in bytes, of key, payload and headers together.
const CLIENT_LIMIT: usize = 1_000_000;
/// Less than that by what the framework adds.
const AT_THE_LIMIT: usize = CLIENT_LIMIT - 2_000;
const AFTER_FAILURE: Duration = Duration::from_millis(300);

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Odd ones that every broker takes
    Odd,
    /// Some that no broker takes, and what comes behind them under their keys
    Refused,
    /// Some of 40 kB between small ones of the same keys
    Bulky,
    /// One that no broker takes, with a key of 5000 bytes, and one behind it
    LongKey,
}

#[derive(Args)]
pub(crate) struct Options {
    /// The run's name, in every header
    #[arg(long)]
    run: String,
    /// The producer number
    #[arg(long)]
    producer: u32,
    /// Which messages
    #[arg(long, value_enum)]
    kind: Kind,
    /// How many times each of them
    #[arg(long)]
    count: u64,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let _told = crate::told_to_stop();
    let database = pipeline::connect(&crate::settings()?.database).await?;
    let mut book = Book::new(&options.run, options.producer, String::new(), 1);
    let (mut done, mut failures) = (0, 0);
    for round in 0..options.count {
        for group in groups(options.kind, options.producer, round) {
            while let Err(failure) = transact(&database, &mut book, &group).await {
                failures += 1;
                warn!(%failure, "an attempt failed");
                if failures > 200 {
                    return Err(failure);
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            done += group.len();
        }
    }
    info!(done, failures, "done");
    Ok(())
}

async fn transact(database: &Postgres, book: &mut Book, group: &[Odd]) -> Result<()> {
    let mut connection = database.pool().acquire().await?;
    let mut transaction = connection.begin().await?;
    let txn = book.transaction();
    let of = u32::try_from(group.len())?;
    let mut messages: Vec<Outgoing> = Vec::new();
    for odd in group {
        messages.push(book.enter_one(&mut transaction, (txn, of), odd.clone()).await?);
    }
    database.outbox().enqueue_messages(&mut transaction, &messages).await?;
    transaction.commit().await?;
    Ok(())
}

/// The business transactions of a round.
fn groups(kind: Kind, producer: u32, round: u64) -> Vec<Vec<Odd>> {
    let key = |name: &str| Some(format!("{kind:?}-{name}-{producer}").into_bytes());
    let base =
        || Odd { topic: tables::INPUT.into(), payload: Some(Bytes::from_static(b"odd")), ..Odd::default() };
    match kind {
        Kind::Odd => {
            let all_bytes: Vec<u8> = (0..=255).collect();
            let mut wild = all_bytes.clone();
            wild.extend_from_slice(&producer.to_be_bytes());
            vec![
                vec![
                    Odd { key: key("empty"), payload: Some(Bytes::new()), ..base() },
                    Odd { key: key("tombstone"), payload: None, ..base() },
                ],
                vec![Odd { key: None, ..base() }],
                vec![
                    Odd { key: None, payload: None, ..base() },
                    Odd { key: None, payload: Some(Bytes::new()), ..base() },
                ],
                vec![Odd { key: Some(Vec::new()), ..base() }],
                vec![Odd { key: Some(wild), payload: Some(all_bytes.into()), ..base() }],
                vec![Odd { key: key("headers"), headers: wild_headers(), ..base() }],
                vec![Odd { key: key("many"), headers: many_headers(5_000), ..base() }],
                vec![Odd { key: key("1-mib"), headers: heavy_headers(AT_THE_LIMIT), ..base() }],
                vec![Odd { key: key("large"), payload: Some(noise(AT_THE_LIMIT - 2_000, round)), ..base() }],
                vec![Odd { key: Some(noise(5_000, round).to_vec()), ..base() }],
                vec![Odd { key: key("empty"), ..base() }, Odd { key: key("tombstone"), ..base() }],
            ]
        }
        Kind::Refused => {
            let refused =
                |key, payload: Option<Bytes>, headers| Odd { key, payload, headers, refused: true, ..base() };
            let (large, heavy, hopeless) = (key("large"), key("heavy"), key("hopeless"));
            vec![
                vec![refused(large.clone(), Some(noise(CLIENT_LIMIT + 1, round)), vec![])],
                vec![refused(heavy.clone(), Some(Bytes::new()), heavy_headers(1 << 20))],
                vec![refused(hopeless.clone(), Some(noise(6 << 20, round)), vec![])],
                vec![refused(None, Some(noise(2 << 20, round)), vec![])],
                vec![Odd { topic: "no/such topic".into(), ..refused(key("nowhere"), None, vec![]) }],
                // Behind the others, in one business transaction.
                vec![refused(large, Some(noise(10, round)), vec![]), refused(heavy, None, vec![])],
                vec![refused(hopeless, Some(noise(10, round)), vec![])],
            ]
        }
        Kind::Bulky => (0..6)
            .map(|number| {
                let key = key(&format!("{}", number % 2));
                let size = if number < 2 { 40_000 } else { 40 };
                vec![Odd { key, payload: Some(noise(size, round)), ..base() }]
            })
            .collect(),
        Kind::LongKey => {
            let key = noise(5_000, u64::from(producer)).to_vec();
            let refused = |size| Odd {
                key: Some(key.clone()),
                payload: Some(noise(size, round)),
                refused: true,
                ..base()
            };
            vec![vec![refused(CLIENT_LIMIT + 1)], vec![refused(10)]]
        }
    }
}

/// Bytes that cannot be made smaller.
fn noise(size: usize, seed: u64) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..size).map(|_| rng.u8(..)).collect::<Vec<_>>().into()
}

fn wild_headers() -> Vec<(String, String)> {
    let name = |name: &str| name.to_owned();
    vec![
        (name("empty"), String::new()),
        (String::new(), name("a header without a name")),
        (name("\u{1f980} \u{202e}name\nof two lines"), name("\u{feff}\u{7f}\r\n\t")),
        ("n".repeat(10_000), "v".repeat(10_000)),
        // These are the framework's own: they stay as they are.
        (name("ce_id"), name("forged")),
        (name("ce_specversion"), name("0.1")),
        (name("ce_time"), name("yesterday")),
        (name("traceparent"), name("not one")),
    ]
}

fn many_headers(count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (format!("h{number}"), number.to_string())).collect()
}

fn heavy_headers(bytes: usize) -> Vec<(String, String)> {
    const EACH: usize = 100_000;
    (0..bytes / EACH + 1)
        .map(|number| {
            let size = EACH.min(bytes - number * EACH);
            (format!("heavy{number}"), "x".repeat(size.saturating_sub(8)))
        })
        .collect()
}
