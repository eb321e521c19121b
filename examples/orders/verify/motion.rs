//! What is still on its way.

use std::collections::BTreeMap;

use tidelock::prelude::*;

use crate::orders::State;

/// How many orders took which step, and how many pieces are set aside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Motion {
    steps: BTreeMap<String, i64>,
    set_aside: i64,
}

impl Motion {
    pub(crate) async fn look(database: &Postgres) -> sqlx::Result<Self> {
        let steps: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM orders_step GROUP BY state")
                .fetch_all(database.pool())
                .await?;
        // Another process creates this table, perhaps later.
        let inventory: bool = sqlx::query_scalar("SELECT to_regclass('inventory_stock') IS NOT NULL")
            .fetch_one(database.pool())
            .await?;
        let set_aside = match inventory {
            true => {
                sqlx::query_scalar("SELECT sum(reserved)::bigint FROM inventory_stock")
                    .fetch_one(database.pool())
                    .await?
            }
            false => 0,
        };
        Ok(Self { steps: steps.into_iter().collect(), set_aside })
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
