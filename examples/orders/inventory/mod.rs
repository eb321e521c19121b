//! The inventory service: sets stock aside, gives it back, sends it out.

mod shelf;

use tidelock::prelude::*;
use tracing::warn;

pub(crate) use shelf::{Shelf, Stock};

use crate::{
    events::{
        OrderPlaced, OrderShipped, PaymentAnswered, PaymentResult, StockRejected, StockReleased,
        StockReserved,
    },
    shop::Shop,
};

pub(crate) fn processor<D: Shop>() -> Processor<D> {
    Processor::new("inventory").handle(Reserve).handle(Release).handle(SendOut)
}

/// All or nothing: everything the order names is set aside, or the order is rejected.
struct Reserve;

#[async_trait]
impl<D: Shop> Handler<D> for Reserve {
    type Event = OrderPlaced;

    async fn handle(
        &self,
        message: &Message<OrderPlaced>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError> {
        let order = &message.event;
        let available = context.connection().lock_shelf().await?;
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
        context.connection().reserve(order.order_id, &order.lines).await?;
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
impl<D: Shop> Handler<D> for Release {
    type Event = PaymentAnswered;

    async fn handle(
        &self,
        message: &Message<PaymentAnswered>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError> {
        let PaymentAnswered { order_id, result, .. } = message.event;
        if result == PaymentResult::Taken {
            return Ok(Outcome::Skip);
        }
        context.connection().lock_shelf().await?;
        if !context.connection().put_back(order_id).await? {
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
impl<D: Shop> Handler<D> for SendOut {
    type Event = OrderShipped;

    async fn handle(
        &self,
        message: &Message<OrderShipped>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError> {
        let order_id = message.event.order_id;
        context.connection().lock_shelf().await?;
        if !context.connection().send_out(order_id).await? {
            warn!(order = %order_id, "shipped, but nothing is set aside for it");
            return Ok(Outcome::Skip);
        }
        Ok(Outcome::Done)
    }
}
