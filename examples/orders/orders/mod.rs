//! The order service: takes orders and follows what becomes of them.

mod follow;
mod request;
mod state;

use serde::Serialize;
use tidelock::prelude::*;
use uuid::Uuid;

pub(crate) use request::{OrderRequest, legible};
pub(crate) use state::State;

use crate::events::{
    Line, OrderPlaced, OrderShipped, PaymentAnswered, StockRejected, StockReleased, StockReserved,
};
use follow::Follow;

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

/// Follows an order through the topics of the others.
pub(crate) fn processor() -> Processor<Postgres> {
    Processor::new("orders")
        .handle(Follow::<StockReserved>::new())
        .handle(Follow::<StockRejected>::new())
        .handle(Follow::<StockReleased>::new())
        .handle(Follow::<PaymentAnswered>::new())
        .handle(Follow::<OrderShipped>::new())
}

/// Why an order was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The customer can mend it; the sentence says how.
    Request(String),
    /// The customer cannot.
    Failure(BoxError),
}

impl<E: Into<BoxError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// An order that was taken, now or, under the same idempotency key, before.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) order_id: Uuid,
    pub(crate) new: bool,
}

/// Takes an order: its rows and its event are one transaction. The same idempotency key gives the same order, also
/// when two requests race: the second waits at the unique key until the first one's transaction has ended.
pub(crate) async fn place(
    database: &Postgres,
    request: OrderRequest,
    idempotency_key: Option<&str>,
) -> Result<Placed, Refusal> {
    request.check().map_err(Refusal::Request)?;
    let OrderRequest { customer, lines } = request;
    let mut transaction = database.outbox().begin().await?;
    let amount_cents = price(&mut transaction, &lines).await?;
    let order_id = Uuid::now_v7();
    let inserted = sqlx::query(
        "INSERT INTO orders_order (id, idempotency_key, customer, amount_cents) VALUES ($1, $2, $3, $4)
         ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(order_id)
    .bind(idempotency_key)
    .bind(&customer)
    .bind(amount_cents)
    .execute(&mut *transaction)
    .await?;
    if inserted.rows_affected() == 0 {
        let order_id = sqlx::query_scalar("SELECT id FROM orders_order WHERE idempotency_key = $1")
            .bind(idempotency_key)
            .fetch_one(&mut *transaction)
            .await?;
        return Ok(Placed { order_id, new: false });
    }
    let (skus, quantities): (Vec<&str>, Vec<i64>) = columns(&lines);
    sqlx::query("INSERT INTO orders_line (order_id, sku, quantity) SELECT $1, * FROM unnest($2::text[], $3::bigint[])")
        .bind(order_id)
        .bind(skus)
        .bind(quantities)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("INSERT INTO orders_step (order_id, state, stage) VALUES ($1, $2, $3)")
        .bind(order_id)
        .bind(State::Placed.name())
        .bind(State::Placed.stage())
        .execute(&mut *transaction)
        .await?;
    let event = OrderPlaced { order_id, customer, amount_cents, lines };
    transaction.enqueue(&event)?;
    transaction.commit().await?;
    Ok(Placed { order_id, new: true })
}

async fn price(connection: &mut sqlx::PgConnection, lines: &[Line]) -> Result<i64, Refusal> {
    let (skus, _) = columns(lines);
    let prices: Vec<(String, i64)> =
        sqlx::query_as("SELECT sku, price_cents FROM orders_product WHERE sku = ANY($1)")
            .bind(skus)
            .fetch_all(connection)
            .await?;
    let mut amount = 0;
    for line in lines {
        let Some((_, price)) = prices.iter().find(|(sku, _)| *sku == line.sku) else {
            return Err(Refusal::Request(format!("there is no article {:?}", line.sku)));
        };
        amount += price * line.quantity;
    }
    Ok(amount)
}

fn columns(lines: &[Line]) -> (Vec<&str>, Vec<i64>) {
    lines.iter().map(|line| (line.sku.as_str(), line.quantity)).unzip()
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

/// The order with its history, stage by stage; its state is the furthest.
pub(crate) async fn find(database: &Postgres, order_id: Uuid) -> Result<Option<Order>, BoxError> {
    let head: Option<(String, i64)> =
        sqlx::query_as("SELECT customer, amount_cents FROM orders_order WHERE id = $1")
            .bind(order_id)
            .fetch_optional(database.pool())
            .await?;
    let Some((customer, amount_cents)) = head else {
        return Ok(None);
    };
    let lines: Vec<(String, i64)> =
        sqlx::query_as("SELECT sku, quantity FROM orders_line WHERE order_id = $1 ORDER BY sku")
            .bind(order_id)
            .fetch_all(database.pool())
            .await?;
    let steps: Vec<(String, String, Option<String>)> = sqlx::query_as(
        r#"SELECT state, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at, detail
           FROM orders_step WHERE order_id = $1 ORDER BY stage, orders_step.at"#,
    )
    .bind(order_id)
    .fetch_all(database.pool())
    .await?;
    let history: Vec<Step> =
        steps.into_iter().map(|(state, at, detail)| Step { state, at, detail }).collect();
    Ok(Some(Order {
        order_id,
        customer,
        amount_cents,
        state: history.last().map(|step| step.state.clone()).unwrap_or_default(),
        lines: lines.into_iter().map(|(sku, quantity)| Line { sku, quantity }).collect(),
        history,
    }))
}
