//! The table of the take-over: what the fence's next offset (D) and the log's committed offset (K) mean together.

use crate::{
    database::{Database, Fence},
    error::{Error, Kind},
    log::Assignment,
};

use super::Adopt;

/// What to do with a partition that was just assigned, or whose last transaction has an unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Both are done: continue here.
    Continue(i64),
    /// The database is one batch ahead: send its pending outputs and this offset in one transaction.
    Resend(i64),
    /// The very first time: find the start, insert the fence row, commit the offset.
    First,
    /// A fence row without any batch that the log does not know yet: commit its offset.
    Announce(i64),
    /// The log has an offset, the database has never seen the partition.
    Adopt(i64),
}

/// Anything that is not in the table is an error of kind `Identity`.
pub(crate) fn decide(
    at: &Assignment,
    fence: Option<&Fence>,
    committed: Option<i64>,
) -> Result<Decision, Error> {
    match (fence, committed) {
        (None, None) => Ok(Decision::First),
        (None, Some(committed)) => Ok(Decision::Adopt(committed)),
        (Some(fence), Some(committed)) if committed == fence.next_offset => Ok(Decision::Continue(committed)),
        (Some(fence), Some(committed))
            if fence.pending_from == Some(committed) && fence.next_offset > committed =>
        {
            Ok(Decision::Resend(fence.next_offset))
        }
        (Some(fence), None) if fence.pending_from.is_none() => Ok(Decision::Announce(fence.next_offset)),
        (Some(fence), committed) => Err(Error::new(
            Kind::Identity,
            format!(
                "{at}: the database expects offset {} (its last batch began at {}), the group's committed offset is {}: \
                 offsets were reset or have expired, the topic was created again, or the database was restored",
                fence.next_offset,
                fence.pending_from.map_or("none".to_owned(), |from| from.to_string()),
                committed.map_or("none".to_owned(), |committed| committed.to_string()),
            ),
        )),
    }
}

/// Whether an offset that only the log knows may be taken; `fenced`: the partition once had a fence row here.
pub(crate) fn adopt<D: Database>(
    at: &Assignment,
    policy: Adopt,
    fenced: bool,
    committed: i64,
) -> Result<(), Error> {
    if !D::FENCED || policy == Adopt::Start || (policy == Adopt::Auto && !fenced) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Identity,
        format!(
            "{at}: the group's committed offset is {committed}, but the database has no fence row for it{}; set adopt=start \
             to begin at that offset",
            if fenced { ", though it had one before: the row was lost" } else { "" }
        ),
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::database::NoDatabase;

    fn at() -> Assignment {
        Assignment { topic: "t".into(), partition: 0, epoch: 1 }
    }

    fn fence(next_offset: i64, pending_from: Option<i64>) -> Fence {
        Fence { next_offset, pending_from, pending: Bytes::new(), owner: String::new(), claim: 0 }
    }

    #[test]
    fn every_row_of_the_table() {
        use Decision::*;
        let rows = [
            (Some(fence(5, Some(3))), Some(5), Some(Continue(5))),
            (Some(fence(5, None)), Some(5), Some(Continue(5))),
            (Some(fence(5, Some(3))), Some(3), Some(Resend(5))),
            (None, None, Some(First)),
            (Some(fence(5, None)), None, Some(Announce(5))),
            (None, Some(5), Some(Adopt(5))),
            (Some(fence(5, Some(3))), Some(4), None),
            (Some(fence(5, Some(3))), Some(2), None),
            (Some(fence(5, Some(3))), Some(6), None),
            (Some(fence(5, Some(3))), None, None),
            (Some(fence(5, None)), Some(3), None),
            (Some(fence(5, Some(5))), Some(4), None),
        ];
        for (fence, committed, expected) in rows {
            let decided = decide(&at(), fence.as_ref(), committed);
            match expected {
                Some(expected) => assert_eq!(decided.unwrap(), expected, "{fence:?} {committed:?}"),
                None => assert_eq!(decided.unwrap_err().kind(), Kind::Identity, "{fence:?} {committed:?}"),
            }
        }
    }

    #[test]
    fn an_unknown_offset_is_taken_only_where_it_is_safe() {
        use crate::database::postgres::Postgres;
        assert!(adopt::<Postgres>(&at(), Adopt::Auto, false, 1).is_ok());
        assert!(adopt::<Postgres>(&at(), Adopt::Auto, true, 1).is_err());
        assert!(adopt::<Postgres>(&at(), Adopt::Start, true, 1).is_ok());
        assert!(adopt::<Postgres>(&at(), Adopt::Stop, false, 1).is_err());
        assert!(adopt::<NoDatabase>(&at(), Adopt::Stop, false, 1).is_ok());
    }
}
