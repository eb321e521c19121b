//! The outbox in PostgreSQL: transactions, snapshots, and a log that a crash cuts at its last flush.

/// A row's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Status {
    /// Not begun.
    New,
    /// Inserted, not committed.
    Open,
    /// Visible to snapshots that are taken from now on.
    Committed,
    /// Rolled back, or forgotten by a crash.
    Gone,
}

/// A transaction that inserts one row. Its place among the others is the row's `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) status: Status,
    pub(super) xid: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wal {
    Insert(u8),
    Commit(u8),
}

/// `pg_snapshot`: everything below `xmax` but what was running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Snapshot {
    pub(super) xmax: u8,
    running: u8,
}

impl Snapshot {
    pub(super) const fn sees(self, xid: u8) -> bool {
        xid < self.xmax && self.running & (1 << xid) == 0
    }

    /// Sees whatever `other` sees.
    pub(super) fn covers(self, other: Self) -> bool {
        (0..other.xmax).all(|xid| !other.sees(xid) || self.sees(xid))
    }

    pub(super) const fn encode(self) -> u16 {
        (self.xmax as u16) << 8 | self.running as u16
    }

    pub(super) const fn decode(value: u16) -> Self {
        Self { xmax: (value >> 8) as u8, running: value as u8 }
    }
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Outbox {
    pub(super) rows: Vec<Row>,
    wal: Vec<Wal>,
    pub(super) flushed: u8,
    /// Raised by every crash: connections from before are lost.
    pub(super) life: u8,
}

impl Outbox {
    pub(super) fn new(rows: usize) -> Self {
        let row = Row { status: Status::New, xid: 0 };
        Self { rows: vec![row; rows], wal: Vec::new(), flushed: 0, life: 0 }
    }

    /// The first id that was not given out, as far as the log knows.
    fn next_xid(&self) -> u8 {
        let given = self.wal.iter().filter_map(|entry| match entry {
            Wal::Insert(row) => Some(self.rows[*row as usize].xid),
            Wal::Commit(_) => None,
        });
        given.max().map_or(0, |last| last + 1)
    }

    pub(super) fn insert(&mut self, row: u8) {
        self.rows[row as usize] = Row { status: Status::Open, xid: self.next_xid() };
        self.wal.push(Wal::Insert(row));
    }

    /// `synchronous` is acknowledged after the flush only.
    pub(super) fn commit(&mut self, row: u8, synchronous: bool) {
        self.rows[row as usize].status = Status::Committed;
        self.wal.push(Wal::Commit(row));
        if synchronous {
            self.flush(self.wal_end());
        }
    }

    pub(super) fn roll_back(&mut self, row: u8) {
        self.rows[row as usize].status = Status::Gone;
    }

    pub(super) fn wal_end(&self) -> u8 {
        self.wal.len() as u8
    }

    pub(super) fn flush(&mut self, to: u8) {
        self.flushed = self.flushed.max(to);
    }

    pub(super) fn crash(&mut self) {
        self.wal.truncate(self.flushed as usize);
        self.life += 1;
        for index in 0..self.rows.len() {
            let row = index as u8;
            let lost = match self.rows[index].status {
                Status::Open => true,
                Status::Committed => !self.wal.contains(&Wal::Commit(row)),
                Status::New | Status::Gone => false,
            };
            if lost {
                self.rows[index].status = Status::Gone;
            }
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let open = self.rows.iter().filter(|row| row.status == Status::Open);
        Snapshot { xmax: self.next_xid(), running: open.fold(0, |running, row| running | 1 << row.xid) }
    }

    /// A bit for each row that `now` sees and `before` did not.
    pub(super) fn difference(&self, before: Snapshot, now: Snapshot) -> u8 {
        let committed = |row: &Row| row.status == Status::Committed;
        let new = |row: &Row| committed(row) && now.sees(row.xid) && !before.sees(row.xid);
        (0..self.rows.len()).filter(|index| new(&self.rows[*index])).fold(0, |rows, index| rows | 1 << index)
    }
}
