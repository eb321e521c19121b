//! The shipping service: a parcel for every paid order.

use tidelock::prelude::*;
use uuid::Uuid;

use crate::{
    events::{OrderShipped, PaymentAnswered, PaymentResult},
    shop::{Shop, on_both},
};

/// What the shipping service does with its table.
#[async_trait]
pub(crate) trait Parcels {
    /// Packs a parcel; answers its number.
    async fn pack(&mut self, order: Uuid) -> sqlx::Result<i64>;
}

on_both!(impl Parcels {
    async fn pack(&mut self, order: Uuid) -> sqlx::Result<i64> {
        sqlx::query_scalar("INSERT INTO shipping_parcel (order_id) VALUES ($1) RETURNING parcel")
            .bind(order)
            .fetch_one(self)
            .await
    }
});

pub(crate) fn processor<D: Shop>() -> Processor<D> {
    Processor::new("shipping").handle(Ship)
}

struct Ship;

#[async_trait]
impl<D: Shop> Handler<D> for Ship {
    type Event = PaymentAnswered;

    async fn handle(
        &self,
        message: &Message<PaymentAnswered>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError> {
        let PaymentAnswered { order_id, result, .. } = message.event;
        if result == PaymentResult::Declined {
            return Ok(Outcome::Skip);
        }
        let parcel = context.connection().pack(order_id).await?;
        context.emit(&OrderShipped { order_id, parcel })?;
        Ok(Outcome::Done)
    }
}
