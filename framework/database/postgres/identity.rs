//! Which database this is, and whether it is still the one that was read before.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};

use super::fault;
use crate::error::{Error, Kind, Result};

/// What tells one database's history from another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    system: u64,
    database: u32,
    timeline: u32,
}

impl Identity {
    /// Asks a primary; an error on a standby.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let row = sqlx::query(
            "SELECT system_identifier::text, \
                    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), \
                    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) \
               FROM pg_control_system()",
        )
        .fetch_one(connection)
        .await
        .map_err(fault::failed("read the identity of the database"))?;
        let corrupt = |what: &str| Error::new(Kind::Corrupt, format!("the database's {what} cannot be read"));
        Ok(Self {
            system: row.get::<String, _>(0).parse::<i64>().map_err(|_| corrupt("system identifier"))? as u64,
            database: row.get::<i64, _>(1) as u32,
            timeline: timeline(row.get(2))?,
        })
    }

    /// As a condition of a statement: evaluated once, by whichever server runs it.
    pub(super) fn condition(&self) -> String {
        format!(
            "(SELECT system_identifier = {} AND substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) = '{:08X}' \
             FROM pg_control_system()) AND (SELECT oid = {} FROM pg_database WHERE datname = current_database())",
            self.system as i64, self.timeline, self.database
        )
    }

    /// The same database on another timeline.
    pub(super) fn on_timeline(&self, timeline: u32) -> Self {
        Self { timeline, ..*self }
    }

    /// Refuses a database that is not the one the position was written for.
    pub(super) fn require(&self, expected: &Self) -> Result<()> {
        let what = if self.system != expected.system {
            format!(
                "another server (system identifier {}, the position has {})",
                self.system, expected.system
            )
        } else if self.database != expected.database {
            format!("another database (oid {}, the position has {})", self.database, expected.database)
        } else if self.timeline != expected.timeline {
            format!(
                "on timeline {}, the position was written on timeline {}: a standby was promoted or a backup restored",
                self.timeline, expected.timeline
            )
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::Identity, format!("the outbox is in {what}")))
    }
}

/// The timeline of a WAL file's name.
pub(super) fn timeline(digits: &str) -> Result<u32> {
    u32::from_str_radix(digits, 16)
        .map_err(|_| Error::new(Kind::Corrupt, format!("timeline {digits:?} cannot be read")))
}
