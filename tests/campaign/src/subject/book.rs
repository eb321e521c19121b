//! One connection's books: the numbers it has used, and what a business transaction writes.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sqlx::{PgConnection, Row};
use tidelock::outbox::Outgoing;
use tidelock_campaign::{
    Result,
    identity::{HEADER, Identity, copies},
};

use crate::handler::Inbound;

/// The largest ordinary payload, in bytes.
const LARGEST: usize = 2048;

/// A message that can be anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Odd {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) refused: bool,
}

/// The numbers of one producer. A number is used once, whatever becomes of its transaction.
pub(crate) struct Book {
    run: String,
    producer: u32,
    /// What its keys begin with.
    prefix: String,
    keys: u32,
    seq: u64,
    txn: u64,
}

impl Book {
    pub(crate) fn new(run: &str, producer: u32, prefix: String, keys: u32) -> Self {
        Self { run: run.to_owned(), producer, prefix, keys, seq: 0, txn: 0 }
    }

    pub(crate) fn producer(&self) -> u32 {
        self.producer
    }

    /// Begins a business transaction: its number.
    pub(crate) fn transaction(&mut self) -> u64 {
        self.txn += 1;
        self.txn
    }

    /// Locks the entities of `count` messages of transaction `txn`, which has `of` of them, and enters them into the
    /// ledger; answers what is to be enqueued, in order.
    pub(crate) async fn enter(
        &mut self,
        connection: &mut PgConnection,
        txn: u64,
        of: u32,
        count: u32,
    ) -> Result<Vec<Outgoing>> {
        let keys: Vec<Vec<u8>> = (0..count)
            .map(|_| format!("{}{}", self.prefix, fastrand::u32(0..self.keys)).into_bytes())
            .collect();
        let mut numbers = self.lock(connection, &keys).await?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let (mut seqs, mut key_seqs, mut copied, mut outgoing) = (vec![], vec![], vec![], vec![]);
        for key in &keys {
            let number = numbers.iter_mut().find(|(each, _)| each == key).ok_or("a key without a number")?;
            number.1 += 1;
            self.seq += 1;
            let identity = Identity {
                run: self.run.clone(),
                producer: self.producer,
                seq: self.seq,
                key_seq: u64::try_from(number.1)?,
                txn,
                of,
                copy: 0,
                at: u64::try_from(at)?,
            };
            let payload = payload(self.seq);
            let check = identity.header(Some(key), Some(&payload));
            let parcel = Inbound { key: Some(key.clone().into()), payload: Some(payload) };
            outgoing.push(Outgoing::of(&parcel)?.header(HEADER, check));
            seqs.push(i64::try_from(self.seq)?);
            key_seqs.push(number.1);
            copied.push(i32::try_from(copies(self.seq, true))?);
        }
        sqlx::query(
            "INSERT INTO campaign.ledger (producer, seq, key, key_seq, txn, \"of\", copies) \
             SELECT $1, seq, key, key_seq, $2, $3, copies \
             FROM unnest($4::bigint[], $5::bytea[], $6::bigint[], $7::int[]) AS new (seq, key, key_seq, copies)",
        )
        .bind(i32::try_from(self.producer)?)
        .bind(i64::try_from(txn)?)
        .bind(i32::try_from(of)?)
        .bind(seqs)
        .bind(keys)
        .bind(key_seqs)
        .bind(copied)
        .execute(connection)
        .await?;
        Ok(outgoing)
    }

    /// Enters one message that can be anything into the ledger, and answers what is to be enqueued. `refused`: the log will
    /// not take it.
    pub(crate) async fn enter_one(
        &mut self,
        connection: &mut PgConnection,
        (txn, of): (u64, u32),
        odd: Odd,
    ) -> Result<Outgoing> {
        let Odd { topic, key, payload, headers, refused } = odd;
        // A key that no index takes has no counter: no order is promised.
        let counted = key.as_ref().filter(|key| key.len() < 1000);
        let number = match counted {
            Some(key) => 1 + self.lock(connection, std::slice::from_ref(key)).await?[0].1,
            None => 0,
        };
        self.seq += 1;
        let identity = Identity {
            run: self.run.clone(),
            producer: self.producer,
            seq: self.seq,
            key_seq: u64::try_from(number)?,
            txn,
            of,
            copy: 0,
            at: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
        };
        let check = identity.header(key.as_deref(), payload.as_deref());
        sqlx::query(
            "INSERT INTO campaign.ledger (producer, seq, key, key_seq, txn, \"of\", copies, refused) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(i32::try_from(self.producer)?)
        .bind(i64::try_from(self.seq)?)
        .bind(key.clone())
        .bind(number)
        .bind(i64::try_from(txn)?)
        .bind(i32::try_from(of)?)
        .bind(i32::try_from(copies(self.seq, payload.is_some()))?)
        .bind(refused)
        .execute(connection)
        .await?;
        let mut outgoing = Outgoing::raw(topic, key.map(Bytes::from), payload).header(HEADER, check);
        for (name, value) in headers {
            outgoing = outgoing.header(name, value);
        }
        Ok(outgoing)
    }

    /// Raises the counters of these keys, in the order of the keys: their locks. Answers the numbers before.
    async fn lock(&self, connection: &mut PgConnection, keys: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, i64)>> {
        let mut counts: Vec<(Vec<u8>, i64)> = Vec::new();
        let mut sorted = keys.to_vec();
        sorted.sort();
        for key in sorted {
            match counts.last_mut().filter(|(last, _)| *last == key) {
                Some((_, count)) => *count += 1,
                None => counts.push((key, 1)),
            }
        }
        let (names, adds): (Vec<_>, Vec<_>) = counts.iter().cloned().unzip();
        let rows = sqlx::query(
            "INSERT INTO campaign.counter AS old (key, n) SELECT key, n FROM unnest($1::bytea[], $2::bigint[]) \
             AS new (key, n) ON CONFLICT (key) DO UPDATE SET n = old.n + excluded.n RETURNING key, n",
        )
        .bind(names)
        .bind(adds)
        .fetch_all(connection)
        .await?;
        let before = |row: &sqlx::postgres::PgRow| {
            let (key, n): (Vec<u8>, i64) = (row.get(0), row.get(1));
            let added = counts.iter().find(|(each, _)| *each == key).map_or(0, |(_, count)| *count);
            (key, n - added)
        };
        Ok(rows.iter().map(before).collect())
    }
}

/// Bytes of mixed sizes, most of them small, some none.
fn payload(seq: u64) -> Bytes {
    let size = match fastrand::u32(0..10) {
        0 => 0,
        1..=7 => fastrand::usize(1..300),
        _ => fastrand::usize(300..=LARGEST),
    };
    let first = seq.to_le_bytes();
    (0..size).map(|at| first[at % 8] ^ (at as u8)).collect::<Vec<u8>>().into()
}
