//! A disk that is full, without the privilege to make one.

use crate::{Error, Result, Server, process};

impl Server {
    /// Lets no file of the running server grow beyond so many bytes (none: no limit again), until it ends: to the server
    /// a write beyond is an error of the disk (`EFBIG`).
    ///
    /// What real servers do, measured on PostgreSQL 15 and Apache Kafka 4.3:
    ///
    /// - PostgreSQL, with a limit above its 16 MB segments of WAL: the statement that would let a table grow beyond
    ///   it fails ("could not extend file"), its transaction rolls back, all else goes on.
    /// - PostgreSQL, with a limit below: the next write of WAL beyond it is a PANIC. All sessions end, the server
    ///   recovers, cannot write the next segment, and shuts down. Started again (without the limit, which died with
    ///   the process), it recovers what was committed.
    /// - A broker halts at once when it cannot append to a log, be it that of the cluster's metadata, to which an
    ///   active controller appends twice a second: the log directory is broken, and it is its only one. Started
    ///   again it has its data.
    /// - A broker, with a limit that the metadata has not reached but that a new partition's indexes (10 MB each)
    ///   would: it lives on without the partition, whose creation succeeds all the same.
    pub fn limit_file_size(&self, bytes: Option<u64>) -> Result<()> {
        let pid = self.pid().ok_or_else(|| Error::NotRunning { server: self.name().into() })?;
        // The soft limit alone: to lift it again takes no privilege.
        let limit =
            format!("--fsize={}:", bytes.map_or_else(|| "unlimited".into(), |bytes| bytes.to_string()));
        // The first one first: whom it starts from then on inherits it.
        process::limit(pid, &limit, self.user())?;
        for child in process::children(pid) {
            match process::limit(child, &limit, self.user()) {
                Err(error) if process::alive(child) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
