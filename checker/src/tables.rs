//! Ledger and effects in PostgreSQL, by queries that the user may choose.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, postgres::PgRow};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Error, Result,
    judge::evidence::{Effect, Row},
};

/// Asks for the ledger unless told otherwise.
pub const LEDGER: &str = "SELECT producer, seq, key_seq, txn, of, copies FROM campaign.ledger \
                          WHERE NOT refused ORDER BY producer, seq";
/// Asks for the effects unless told otherwise.
pub const EFFECTS: &str = "SELECT producer, seq, crc FROM campaign.effect";

/// A database with the tables, and how they are read.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// `postgres://user:password@host:port/database`, without TLS.
    pub url: String,
    /// A query for producer, seq, key_seq, txn, of and copies of each message, as integers.
    pub ledger: String,
    /// A query for producer, seq and crc of each effect, as integers; none if there are none.
    pub effects: Option<String>,
}

impl Tables {
    /// Streams the ledger.
    pub(crate) fn ledger(&self, patience: Duration, each: &mut dyn FnMut(Row)) -> Result<()> {
        self.read(
            patience,
            &self.ledger,
            &["producer", "seq", "key_seq", "txn", "of", "copies"],
            &mut |row| {
                each(Row {
                    producer: number(&row, 0)?,
                    seq: number(&row, 1)?,
                    key_seq: number(&row, 2)?,
                    txn: number(&row, 3)?,
                    of: number(&row, 4)?,
                    copies: number(&row, 5)?,
                });
                Ok(())
            },
        )
    }

    /// Streams the effects.
    pub(crate) fn effects(&self, patience: Duration, each: &mut dyn FnMut(Effect)) -> Result<()> {
        let Some(query) = &self.effects else { return Ok(()) };
        self.read(patience, query, &["producer", "seq", "crc"], &mut |row| {
            each(Effect { producer: number(&row, 0)?, seq: number(&row, 1)?, crc: number(&row, 2)? });
            Ok(())
        })
    }

    fn read(
        &self,
        patience: Duration,
        query: &str,
        columns: &[&str],
        each: &mut dyn FnMut(PgRow) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let refused = |reason: String| Error::Query { query: query.into(), reason };
        // Around the user's query, so that any type of integer will do.
        let names: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
        let casts: Vec<_> = names.iter().map(|name| format!("{name}::bigint")).collect();
        let inner = query.trim().trim_end_matches(';');
        let wrapped = format!("SELECT {} FROM ({inner}\n) AS given ({})", casts.join(", "), names.join(", "));
        runtime()?.block_on(async {
            let mut connection = self.connect(patience).await.map_err(|error| refused(error.to_string()))?;
            let mut rows = sqlx::query(AssertSqlSafe(wrapped)).fetch(&mut connection);
            while let Some(row) = rows.try_next().await.map_err(|error| refused(error.to_string()))? {
                each(row).map_err(|reason| refused(format!("{reason}; wanted {}", columns.join(", "))))?;
            }
            Ok(())
        })
    }

    /// A server that is starting or failing over gets its time.
    async fn connect(&self, patience: Duration) -> sqlx::Result<PgConnection> {
        let deadline = Instant::now() + patience;
        loop {
            match PgConnection::connect(&self.url).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
                outcome => return outcome,
            }
        }
    }
}

fn number<T: TryFrom<i64>>(row: &PgRow, column: usize) -> std::result::Result<T, String> {
    let value: i64 = row.try_get(column).map_err(|error| error.to_string())?;
    T::try_from(value).map_err(|_| format!("column {} holds {value}", column + 1))
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::File { path: "the runtime of the database client".into(), source })
}
