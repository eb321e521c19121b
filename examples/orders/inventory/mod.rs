//! The inventory service: sets stock aside, gives it back, sends it out.

mod shelf;

use tidelock::prelude::*;
use tracing::warn;

pub(crate) use shelf::{Stock, stock};

use crate::events::{
    OrderPlaced, OrderShipped, PaymentAnswered, PaymentResult, StockRejected, StockReleased, StockReserved,
};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

pub(crate) fn processor() -> Processor<Postgres> {
    Processor::new("inventory").handle(Reserve).handle(Release).handle(SendOut)
}

/// All or nothing: everything the order names is set aside, or the order is rejected.
struct Reserve;

#[async_trait]
impl Handler<Postgres> for Reserve {
    type Event = OrderPlaced;

    async fn handle(
        &self,
        message: &Message<OrderPlaced>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let order = &message.event;
        let available = shelf::lock(context.connection()).await?;
        for line in &order.lines {
            let available = available.get(&line.sku).copied().unwrap_or(0);
            if available < line.quantity {
                context.emit(&StockRejected {
                    order_id: order.order_id,
                    sku: line.sku.clone(),
                    wanted: line.quantity,
                    available,
                })?;
                return Ok(Outcome::Done);
            }
        }
        shelf::reserve(context.connection(), order.order_id, &order.lines).await?;
        context.emit(&StockReserved {
            order_id: order.order_id,
            customer: order.customer.clone(),
            amount_cents: order.amount_cents,
        })?;
        Ok(Outcome::Done)
    }
}

/// The compensation: an order that was not paid gives its stock back.
struct Release;

#[async_trait]
impl Handler<Postgres> for Release {
    type Event = PaymentAnswered;

    async fn handle(
        &self,
        message: &Message<PaymentAnswered>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let PaymentAnswered { order_id, result, .. } = message.event;
        if result == PaymentResult::Taken {
            return Ok(Outcome::Skip);
        }
        shelf::lock(context.connection()).await?;
        if !shelf::put_back(context.connection(), order_id).await? {
            warn!(order = %order_id, "declined, but nothing is set aside for it");
            return Ok(Outcome::Skip);
        }
        context.emit(&StockReleased { order_id })?;
        Ok(Outcome::Done)
    }
}

/// What was set aside has left with the parcel.
struct SendOut;

#[async_trait]
impl Handler<Postgres> for SendOut {
    type Event = OrderShipped;

    async fn handle(
        &self,
        message: &Message<OrderShipped>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let order_id = message.event.order_id;
        shelf::lock(context.connection()).await?;
        if !shelf::send_out(context.connection(), order_id).await? {
            warn!(order = %order_id, "shipped, but nothing is set aside for it");
            return Ok(Outcome::Skip);
        }
        Ok(Outcome::Done)
    }
}
