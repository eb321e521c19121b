//! What a database must be like before a relay or a processor may trust it.

use sqlx::Row;

use super::{Postgres, STANDBY};
use crate::{
    config::Problems,
    error::{Error, Kind, Result},
};

/// Each row is a finding, as a sentence; so in what follows.
const SERVER: &str = "
SELECT format('%s = off, a crash of the server could lose what was committed', name)
  FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";

const PROCESSOR: &str = "
SELECT format('table %s is not permanent (persistence %s)', c.oid::regclass, c.relpersistence)
  FROM pg_class c WHERE c.relpersistence <> 'p'
   AND c.oid IN ('tidelock.fence'::regclass, 'tidelock.consumer_topic'::regclass, 'tidelock.inbox'::regclass,
                 'tidelock.quarantine'::regclass)
UNION ALL
SELECT 'tidelock.fence has no column claim: the schema is older than this program, migrate it'
 WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'tidelock.fence'::regclass AND attname = 'claim')";

const OUTBOX: &str = "
SELECT format('table %s is not permanent (persistence %s)', c.oid::regclass, c.relpersistence)
  FROM pg_class c WHERE c.oid = 'tidelock.outbox'::regclass AND c.relpersistence <> 'p'
UNION ALL
SELECT 'row-level security hides rows of tidelock.outbox from this role' WHERE row_security_active('tidelock.outbox')
UNION ALL
SELECT format('sequence of tidelock.outbox has cache %s, increment %s, cycle %s; expected 1, more than 0, false',
              seqcache, seqincrement, seqcycle)
  FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('tidelock.outbox', 'seq')::regclass
   AND (seqcache <> 1 OR seqincrement <= 0 OR seqcycle)
UNION ALL
SELECT format('column %s of tidelock.outbox has lost its default', attname)
  FROM pg_attribute WHERE attrelid = 'tidelock.outbox'::regclass
   AND (attname = 'xid' AND NOT atthasdef OR attname = 'seq' AND attidentity = '')
UNION ALL
SELECT format('column bucket of %s is no longer computed from the key', attrelid::regclass)
  FROM pg_attribute WHERE attrelid IN ('tidelock.outbox'::regclass, 'tidelock.quarantine'::regclass)
   AND attname = 'bucket' AND attgenerated = ''
UNION ALL
SELECT 'constraint outbox_xid_own of tidelock.outbox is gone'
 WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'tidelock.outbox'::regclass AND conname = 'outbox_xid_own')
UNION ALL
SELECT format('tidelock.outbox has no valid index on %s', a.attname)
  FROM pg_attribute a WHERE a.attrelid = 'tidelock.outbox'::regclass AND a.attname IN ('xid', 'seq')
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indkey[0] = a.attnum)
UNION ALL
SELECT format('synchronous_commit = %s for the relay, expected on', current_setting('synchronous_commit'))
 WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

impl Postgres {
    /// All findings at once.
    pub(super) async fn check_source(&self) -> Result<()> {
        self.findings("check the outbox", OUTBOX).await
    }

    /// All findings at once.
    pub(super) async fn check_processor(&self) -> Result<()> {
        self.findings("check the tables of processors", PROCESSOR).await
    }

    async fn findings(&self, what: &str, checks: &str) -> Result<()> {
        let standby = format!("SELECT '{STANDBY}' WHERE pg_is_in_recovery()");
        let checks = self.sql(&format!("{standby} UNION ALL {SERVER} UNION ALL {checks}"));
        let rows = self.answer(what, sqlx::query(checks).fetch_all(self.control())).await?;
        let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        // Nothing else is wrong: it will do once it is promoted.
        if found == [STANDBY] {
            return Err(Error::new(Kind::Unavailable, format!("{what}: {STANDBY}")));
        }
        let mut problems = Problems::default();
        for problem in found {
            problems.add(problem);
        }
        problems.into_result()
    }
}
