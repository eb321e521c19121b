//! What a database must be like before a relay or a processor may trust it.

use sqlx::{Row, SqliteConnection};

use super::{Sqlite, fault::failed};
use crate::{config::Problems, error::Result};

/// Each row is a finding, as a sentence. `?1`: nothing is on disk.
const DURABLE: &str = "
SELECT format('synchronous = %s for the framework, expected 2 (FULL): a loss of power could undo what was published', synchronous)
  FROM pragma_synchronous WHERE synchronous < 2
UNION ALL
SELECT format('journal_mode = %s, expected wal', journal_mode)
  FROM pragma_journal_mode WHERE journal_mode <> 'wal' AND NOT ?1
UNION ALL
SELECT 'table tidelock_fence is missing, the tables were not migrated'
 WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tidelock_fence')
UNION ALL
SELECT 'tidelock_fence has no column claim: the tables are older than this program, migrate them'
 WHERE EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tidelock_fence')
   AND NOT EXISTS (SELECT 1 FROM pragma_table_info('tidelock_fence') WHERE name = 'claim')";

const OUTBOX: &str = "
SELECT format('%s is missing, the tables were not migrated', name)
  FROM (SELECT 'table tidelock_outbox' AS name UNION ALL SELECT 'table tidelock_mark'
        UNION ALL SELECT 'trigger tidelock_outbox_insert' UNION ALL SELECT 'trigger tidelock_outbox_update'
        UNION ALL SELECT 'trigger tidelock_outbox_bucket') expected
 WHERE NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type || ' ' || sqlite_schema.name = expected.name)
UNION ALL
SELECT 'seq of tidelock_outbox is not AUTOINCREMENT: a table that was emptied begins again at 1'
  FROM sqlite_schema WHERE type = 'table' AND name = 'tidelock_outbox'
   AND upper(sql) NOT GLOB '*SEQ* INTEGER PRIMARY KEY AUTOINCREMENT*'";

/// Only where the table is there.
const SEQUENCE: &str = "
SELECT format('sqlite_sequence of tidelock_outbox is at %d, a row has seq %d', coalesce(s.seq, 0), o.seq)
  FROM (SELECT max(seq) AS seq FROM tidelock_outbox) o
  LEFT JOIN sqlite_sequence s ON s.name = 'tidelock_outbox' WHERE o.seq > coalesce(s.seq, 0)";

impl Sqlite {
    /// All findings at once.
    pub(super) async fn check_source(&self) -> Result<()> {
        let mut connection = self.writer().await?;
        let found = self.call(look(&mut connection, self.shared.in_memory)).await;
        report(found.map_err(failed("check the outbox"))?)
    }

    /// All findings at once.
    pub(super) async fn check_processor(&self) -> Result<()> {
        let mut connection = self.writer().await?;
        let found = self.call(findings(&mut connection, DURABLE, self.shared.in_memory)).await;
        report(found.map_err(failed("check the tables of processors"))?)
    }
}

fn report(found: Vec<String>) -> Result<()> {
    let mut problems = Problems::default();
    for problem in found {
        problems.add(problem);
    }
    problems.into_result()
}

async fn findings(
    connection: &mut SqliteConnection,
    checks: &'static str,
    in_memory: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(checks).bind(in_memory).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn look(connection: &mut SqliteConnection, in_memory: bool) -> Result<Vec<String>, sqlx::Error> {
    let mut found = findings(connection, DURABLE, in_memory).await?;
    let rows = sqlx::query(OUTBOX).fetch_all(&mut *connection).await?;
    found.extend(rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?);
    if !found.iter().any(|finding| finding.contains("is missing") || finding.contains("AUTOINCREMENT")) {
        let rows = sqlx::query(SEQUENCE).fetch_all(connection).await?;
        found.extend(rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?);
    }
    Ok(found)
}
