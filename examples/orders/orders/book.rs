//! The tables of the order service.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use tidelock::prelude::async_trait;
use uuid::Uuid;

use super::State;
use crate::{events::Line, shop::on_both};

/// What the order service does with its tables.
#[async_trait]
pub(crate) trait Book {
    /// What a piece of each article costs.
    async fn prices(&mut self) -> sqlx::Result<HashMap<String, i64>>;

    /// `false`: there is an order with that key already.
    async fn add_order(
        &mut self,
        order: Uuid,
        key: Option<&str>,
        customer: &str,
        amount_cents: i64,
    ) -> sqlx::Result<bool>;

    async fn order_of_key(&mut self, key: Option<&str>) -> sqlx::Result<Uuid>;

    async fn add_lines(&mut self, order: Uuid, lines: &[Line]) -> sqlx::Result<()>;

    /// Writes a step of the order down; `false`: there is no such order.
    async fn add_step(&mut self, order: Uuid, state: State, detail: Option<&str>) -> sqlx::Result<bool>;

    /// The order with its history, stage by stage; its state is the furthest.
    async fn order(&mut self, order: Uuid) -> sqlx::Result<Option<Order>>;

    /// The idempotency keys in use that begin like this.
    async fn keys(&mut self, prefix: &str) -> sqlx::Result<HashSet<String>>;
}

/// An order as `GET /orders/{id}` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Order {
    order_id: Uuid,
    customer: String,
    amount_cents: i64,
    state: String,
    lines: Vec<Line>,
    history: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    state: String,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

on_both!(impl Book {
    async fn prices(&mut self) -> sqlx::Result<HashMap<String, i64>> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT sku, price_cents FROM orders_product").fetch_all(self).await?;
        Ok(rows.into_iter().collect())
    }

    async fn add_order(
        &mut self,
        order: Uuid,
        key: Option<&str>,
        customer: &str,
        amount_cents: i64,
    ) -> sqlx::Result<bool> {
        let inserted = sqlx::query(
            "INSERT INTO orders_order (id, idempotency_key, customer, amount_cents) VALUES ($1, $2, $3, $4)
             ON CONFLICT (idempotency_key) DO NOTHING",
        )
        .bind(order)
        .bind(key)
        .bind(customer)
        .bind(amount_cents)
        .execute(self)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn order_of_key(&mut self, key: Option<&str>) -> sqlx::Result<Uuid> {
        sqlx::query_scalar("SELECT id FROM orders_order WHERE idempotency_key = $1").bind(key).fetch_one(self).await
    }

    async fn add_lines(&mut self, order: Uuid, lines: &[Line]) -> sqlx::Result<()> {
        for Line { sku, quantity } in lines {
            sqlx::query("INSERT INTO orders_line (order_id, sku, quantity) VALUES ($1, $2, $3)")
                .bind(order)
                .bind(sku)
                .bind(quantity)
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn add_step(&mut self, order: Uuid, state: State, detail: Option<&str>) -> sqlx::Result<bool> {
        let step = sqlx::query(
            "INSERT INTO orders_step (order_id, state, stage, detail)
             SELECT id, $2, $3, $4 FROM orders_order WHERE id = $1",
        )
        .bind(order)
        .bind(state.name())
        .bind(state.stage())
        .bind(detail)
        .execute(self)
        .await?;
        Ok(step.rows_affected() == 1)
    }

    async fn order(&mut self, order: Uuid) -> sqlx::Result<Option<Order>> {
        let head: Option<(String, i64)> =
            sqlx::query_as("SELECT customer, amount_cents FROM orders_order WHERE id = $1")
                .bind(order)
                .fetch_optional(&mut *self)
                .await?;
        let Some((customer, amount_cents)) = head else {
            return Ok(None);
        };
        let lines: Vec<(String, i64)> =
            sqlx::query_as("SELECT sku, quantity FROM orders_line WHERE order_id = $1 ORDER BY sku")
                .bind(order)
                .fetch_all(&mut *self)
                .await?;
        let steps: Vec<(String, String, Option<String>)> = sqlx::query_as(
            "SELECT state, at_text, detail FROM orders_history WHERE order_id = $1 ORDER BY stage, at_text",
        )
        .bind(order)
        .fetch_all(self)
        .await?;
        let history: Vec<Step> =
            steps.into_iter().map(|(state, at, detail)| Step { state, at, detail }).collect();
        Ok(Some(Order {
            order_id: order,
            customer,
            amount_cents,
            state: history.last().map(|step| step.state.clone()).unwrap_or_default(),
            lines: lines.into_iter().map(|(sku, quantity)| Line { sku, quantity }).collect(),
            history,
        }))
    }

    async fn keys(&mut self, prefix: &str) -> sqlx::Result<HashSet<String>> {
        let keys: Vec<String> = sqlx::query_scalar(
            "SELECT idempotency_key FROM orders_order WHERE substr(idempotency_key, 1, length($1)) = $1",
        )
        .bind(prefix)
        .fetch_all(self)
        .await?;
        Ok(keys.into_iter().collect())
    }
});
