//! The checks of the tables.

use std::collections::{BTreeMap, HashMap};

use tidelock::prelude::async_trait;
use uuid::Uuid;

use super::Finding;
use crate::shop::{Dialect, on_both};

/// What is checked, and the query that answers how many were looked at and how many are off.
const CHECKS: &[(&str, &str)] = &[
    (
        "orders in exactly one final state",
        "SELECT count(*), count(*) FILTER (WHERE finals <> 1) FROM (
             SELECT count(step.state) AS finals FROM orders_order
             LEFT JOIN orders_step AS step ON step.order_id = id AND stage = 3 GROUP BY id) AS each",
    ),
    (
        "orders with a lawful history, each step once",
        "SELECT count(*), count(*) FILTER (WHERE path NOT IN (
             'placed reserved paid shipped', 'placed rejected', 'placed reserved declined cancelled')) FROM (
             SELECT coalesce(string_agg(step.state, ' ' ORDER BY stage), '') AS path FROM orders_order
             LEFT JOIN orders_step AS step ON step.order_id = id GROUP BY id) AS each",
    ),
    (
        "articles: available + reserved + shipped = supplied",
        "SELECT count(*), count(*) FILTER (WHERE available + reserved + shipped <> supplied) FROM inventory_stock",
    ),
    (
        "articles: shipped = pieces in shipped orders",
        "SELECT count(*), count(*) FILTER (WHERE shipped <> coalesce(pieces, 0)) FROM inventory_stock
         LEFT JOIN (SELECT sku, sum(quantity) AS pieces FROM orders_line
             WHERE order_id IN (SELECT order_id FROM orders_step WHERE state = 'shipped') GROUP BY sku) AS sent
         USING (sku)",
    ),
    (
        "articles: nothing left aside",
        "SELECT count(*), count(*) FILTER (WHERE reserved <> 0
             OR EXISTS (SELECT 1 FROM inventory_reservation AS left_over WHERE left_over.sku = stock.sku))
         FROM inventory_stock AS stock",
    ),
    (
        "parcels: one for each shipped order, none for others",
        "SELECT (SELECT count(*) FROM shipping_parcel),
             (SELECT count(*) FROM orders_step AS step WHERE state = 'shipped'
                 AND (SELECT count(*) FROM shipping_parcel AS parcel WHERE parcel.order_id = step.order_id) <> 1)
             + (SELECT count(*) FROM shipping_parcel AS parcel WHERE NOT EXISTS (
                 SELECT 1 FROM orders_step AS step WHERE step.order_id = parcel.order_id AND state = 'shipped'))",
    ),
];

/// As above, where the payment service is ours.
const MONEY: &[(&str, &str)] = &[
    (
        "accounts: balance + what shipped orders cost = opening",
        "SELECT count(*), count(*) FILTER (WHERE balance_cents + coalesce(spent, 0) <> opening_cents)
         FROM payment_account
         LEFT JOIN (SELECT customer, sum(amount_cents) AS spent FROM orders_order
             WHERE id IN (SELECT order_id FROM orders_step WHERE state = 'shipped') GROUP BY customer) AS bill
         USING (customer)",
    ),
    (
        "money: balances + till = openings",
        "SELECT CAST(1 AS bigint), CAST(CASE WHEN taken_cents = (
             SELECT coalesce(sum(opening_cents - balance_cents), 0) FROM payment_account) THEN 0 ELSE 1 END AS bigint)
         FROM payment_till",
    ),
];

/// What the judge reads.
#[async_trait]
pub(crate) trait Audit {
    /// Another process may create its tables later than this one.
    async fn has_table(&mut self, name: &str) -> sqlx::Result<bool>;

    /// The checks of the tables.
    async fn check(&mut self) -> sqlx::Result<Vec<Finding>>;

    /// How each order ended and what it costs.
    async fn fates(&mut self) -> sqlx::Result<HashMap<Uuid, (String, i64)>>;

    /// How many orders took which step.
    async fn steps(&mut self) -> sqlx::Result<BTreeMap<String, i64>>;

    /// How many pieces are set aside.
    async fn set_aside(&mut self) -> sqlx::Result<i64>;
}

on_both!(impl Audit {
    async fn has_table(&mut self, name: &str) -> sqlx::Result<bool> {
        sqlx::query_scalar(Self::HAS_TABLE).bind(name).fetch_one(self).await
    }

    async fn check(&mut self) -> sqlx::Result<Vec<Finding>> {
        let paid_here = self.has_table("payment_account").await?;
        let mut findings = Vec::new();
        for &(what, query) in CHECKS.iter().chain(MONEY.iter().filter(|_| paid_here)) {
            let (seen, off) = sqlx::query_as(query).fetch_one(&mut *self).await?;
            findings.push(Finding { what: what.to_owned(), seen, off });
        }
        Ok(findings)
    }

    async fn fates(&mut self) -> sqlx::Result<HashMap<Uuid, (String, i64)>> {
        let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
            "SELECT id, coalesce(min(step.state), 'open'), amount_cents FROM orders_order
             LEFT JOIN orders_step AS step ON step.order_id = id AND stage = 3 GROUP BY id, amount_cents",
        )
        .fetch_all(self)
        .await?;
        Ok(rows.into_iter().map(|(id, state, amount)| (id, (state, amount))).collect())
    }

    async fn steps(&mut self) -> sqlx::Result<BTreeMap<String, i64>> {
        let steps: Vec<(String, i64)> =
            sqlx::query_as("SELECT state, count(*) FROM orders_step GROUP BY state").fetch_all(self).await?;
        Ok(steps.into_iter().collect())
    }

    async fn set_aside(&mut self) -> sqlx::Result<i64> {
        if !self.has_table("inventory_stock").await? {
            return Ok(0);
        }
        sqlx::query_scalar("SELECT CAST(coalesce(sum(reserved), 0) AS bigint) FROM inventory_stock").fetch_one(self).await
    }
});
