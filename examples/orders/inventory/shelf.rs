//! The tables of the inventory.

use std::collections::HashMap;

use serde::Serialize;
use tidelock::prelude::async_trait;
use uuid::Uuid;

use crate::{
    events::Line,
    shop::{Dialect, on_both},
};

/// What the inventory does with its tables.
#[async_trait]
pub(crate) trait Shelf {
    /// Locks the whole shelf, sku by sku, and says what is available.
    ///
    /// Not only the order's own articles: the messages of a batch share one transaction and keep their locks to its
    /// end. Two batches whose orders name articles in turn would each hold what the other one wants. The first message
    /// of a batch takes every row in one order, so one batch waits for the other.
    async fn lock_shelf(&mut self) -> sqlx::Result<HashMap<String, i64>>;

    /// Sets the lines aside for the order.
    async fn reserve(&mut self, order: Uuid, lines: &[Line]) -> sqlx::Result<()>;

    /// Gives back what is set aside for the order; `false`: there is nothing.
    async fn put_back(&mut self, order: Uuid) -> sqlx::Result<bool>;

    /// Takes what is set aside for the order out of the house; `false`: there is nothing.
    async fn send_out(&mut self, order: Uuid) -> sqlx::Result<bool>;

    /// Books what is set aside for the order, and forgets that it was; `false`: there is nothing.
    async fn close(&mut self, order: Uuid, booking: &'static str) -> sqlx::Result<bool>;

    /// Everything on the shelf.
    async fn stock(&mut self) -> sqlx::Result<Vec<Stock>>;
}

const PUT_BACK: &str = "UPDATE inventory_stock AS stock
    SET available = available + line.quantity, reserved = reserved - line.quantity
    FROM inventory_reservation AS line WHERE line.order_id = $1 AND stock.sku = line.sku";
const SEND_OUT: &str = "UPDATE inventory_stock AS stock
    SET reserved = reserved - line.quantity, shipped = shipped + line.quantity
    FROM inventory_reservation AS line WHERE line.order_id = $1 AND stock.sku = line.sku";

/// One article as `GET /stock` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Stock {
    sku: String,
    supplied: i64,
    available: i64,
    reserved: i64,
    shipped: i64,
}

on_both!(impl Shelf {
    async fn lock_shelf(&mut self) -> sqlx::Result<HashMap<String, i64>> {
        let query = match Self::FOR_UPDATE {
            true => "SELECT sku, available FROM inventory_stock ORDER BY sku FOR UPDATE",
            false => "SELECT sku, available FROM inventory_stock",
        };
        let rows: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(self).await?;
        Ok(rows.into_iter().collect())
    }

    async fn reserve(&mut self, order: Uuid, lines: &[Line]) -> sqlx::Result<()> {
        for Line { sku, quantity } in lines {
            sqlx::query("INSERT INTO inventory_reservation (order_id, sku, quantity) VALUES ($1, $2, $3)")
                .bind(order)
                .bind(sku)
                .bind(quantity)
                .execute(&mut *self)
                .await?;
        }
        sqlx::query(
            "UPDATE inventory_stock AS stock
             SET available = available - line.quantity, reserved = reserved + line.quantity
             FROM inventory_reservation AS line WHERE line.order_id = $1 AND stock.sku = line.sku",
        )
        .bind(order)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn put_back(&mut self, order: Uuid) -> sqlx::Result<bool> {
        self.close(order, PUT_BACK).await
    }

    async fn send_out(&mut self, order: Uuid) -> sqlx::Result<bool> {
        self.close(order, SEND_OUT).await
    }

    async fn close(&mut self, order: Uuid, booking: &'static str) -> sqlx::Result<bool> {
        sqlx::query(booking).bind(order).execute(&mut *self).await?;
        let done =
            sqlx::query("DELETE FROM inventory_reservation WHERE order_id = $1").bind(order).execute(self).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn stock(&mut self) -> sqlx::Result<Vec<Stock>> {
        let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT sku, supplied, available, reserved, shipped FROM inventory_stock ORDER BY sku",
        )
        .fetch_all(self)
        .await?;
        let stock =
            |(sku, supplied, available, reserved, shipped)| Stock { sku, supplied, available, reserved, shipped };
        Ok(rows.into_iter().map(stock).collect())
    }
});
