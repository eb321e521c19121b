//! The tables of the inventory.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::events::Line;

/// Locks the whole shelf, sku by sku, and says what is available.
///
/// Not only the order's own articles: the messages of a batch share one transaction and keep their locks to its end.
/// Two batches whose orders name articles in turn would each hold what the other one wants. The first message of a
/// batch takes every row in one order, so one batch waits for the other.
pub(super) async fn lock(connection: &mut PgConnection) -> sqlx::Result<HashMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT sku, available FROM inventory_stock ORDER BY sku FOR UPDATE")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Sets the lines aside for the order.
pub(super) async fn reserve(connection: &mut PgConnection, order: Uuid, lines: &[Line]) -> sqlx::Result<()> {
    let (skus, quantities): (Vec<&str>, Vec<i64>) =
        lines.iter().map(|line| (line.sku.as_str(), line.quantity)).unzip();
    sqlx::query(
        "WITH line AS (SELECT * FROM unnest($2::text[], $3::bigint[]) AS line (sku, quantity)),
              kept AS (INSERT INTO inventory_reservation (order_id, sku, quantity) SELECT $1, * FROM line)
         UPDATE inventory_stock AS stock
         SET available = available - line.quantity, reserved = reserved + line.quantity
         FROM line WHERE stock.sku = line.sku",
    )
    .bind(order)
    .bind(skus)
    .bind(quantities)
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives back what is set aside for the order; `false`: there is nothing.
pub(super) async fn put_back(connection: &mut PgConnection, order: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "WITH line AS (DELETE FROM inventory_reservation WHERE order_id = $1 RETURNING sku, quantity)
         UPDATE inventory_stock AS stock
         SET available = available + line.quantity, reserved = reserved - line.quantity
         FROM line WHERE stock.sku = line.sku",
    )
    .bind(order)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes what is set aside for the order out of the house; `false`: there is nothing.
pub(super) async fn send_out(connection: &mut PgConnection, order: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "WITH line AS (DELETE FROM inventory_reservation WHERE order_id = $1 RETURNING sku, quantity)
         UPDATE inventory_stock AS stock
         SET reserved = reserved - line.quantity, shipped = shipped + line.quantity
         FROM line WHERE stock.sku = line.sku",
    )
    .bind(order)
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// One article as `GET /stock` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Stock {
    sku: String,
    supplied: i64,
    available: i64,
    reserved: i64,
    shipped: i64,
}

/// Everything on the shelf.
pub(crate) async fn stock(pool: &PgPool) -> sqlx::Result<Vec<Stock>> {
    let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT sku, supplied, available, reserved, shipped FROM inventory_stock ORDER BY sku",
    )
    .fetch_all(pool)
    .await?;
    let stock =
        |(sku, supplied, available, reserved, shipped)| Stock { sku, supplied, available, reserved, shipped };
    Ok(rows.into_iter().map(stock).collect())
}
