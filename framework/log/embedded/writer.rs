//! Where changes go that must be stored.

use tokio::sync::oneshot;

use super::journal::Change;
use crate::error::Result;

/// The way to the file.
pub(super) struct Writer;

/// Something on its way to the file, or nothing.
#[derive(Default)]
#[must_use]
pub(super) struct Saved(Option<oneshot::Receiver<Result<()>>>);

impl Writer {
    pub(super) fn store(&self, _: Vec<Change>) -> Saved {
        Saved(None)
    }

    pub(super) async fn read(
        &self,
        _: &super::state::Place,
        _: std::ops::Range<i64>,
        _: (usize, usize),
    ) -> Result<(Vec<crate::log::Received>, i64)> {
        Ok((Vec::new(), 0))
    }
}

impl Saved {
    pub(super) async fn wait(self) -> Result<()> {
        Ok(())
    }
}
