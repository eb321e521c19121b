//! What is still on its way.

use std::collections::BTreeMap;

use super::Audit;
use crate::{orders::State, shop::Shop};

/// How many orders took which step, and how many pieces are set aside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Motion {
    steps: BTreeMap<String, i64>,
    set_aside: i64,
}

impl Motion {
    pub(crate) async fn look<D: Shop>(database: &D) -> sqlx::Result<Self> {
        let mut connection = database.reading().await?;
        Ok(Self { steps: connection.steps().await?, set_aside: connection.set_aside().await? })
    }

    pub(crate) fn count(&self, state: State) -> i64 {
        self.steps.get(state.name()).copied().unwrap_or(0)
    }

    pub(crate) fn orders(&self) -> u64 {
        self.count(State::Placed).unsigned_abs()
    }

    pub(crate) fn settled(&self) -> u64 {
        State::FINAL.map(|state| self.count(state)).iter().sum::<i64>().unsigned_abs()
    }

    /// Every order has all of its steps and nothing is set aside. An order's last step may be seen before the ones
    /// in between: they come through other topics.
    pub(crate) fn is_over(&self) -> bool {
        self.settled() >= self.orders()
            && self.count(State::Reserved) >= self.count(State::Shipped) + self.count(State::Cancelled)
            && self.count(State::Paid) >= self.count(State::Shipped)
            && self.count(State::Declined) >= self.count(State::Cancelled)
            && self.set_aside == 0
    }
}
