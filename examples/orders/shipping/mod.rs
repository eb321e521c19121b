//! The shipping service: a parcel for every paid order.

use tidelock::prelude::*;

use crate::events::{OrderShipped, PaymentAnswered, PaymentResult};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

pub(crate) fn processor() -> Processor<Postgres> {
    Processor::new("shipping").handle(Ship)
}

struct Ship;

#[async_trait]
impl Handler<Postgres> for Ship {
    type Event = PaymentAnswered;

    async fn handle(
        &self,
        message: &Message<PaymentAnswered>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let PaymentAnswered { order_id, result, .. } = message.event;
        if result == PaymentResult::Declined {
            return Ok(Outcome::Skip);
        }
        let parcel =
            sqlx::query_scalar("INSERT INTO shipping_parcel (order_id) VALUES ($1) RETURNING parcel")
                .bind(order_id)
                .fetch_one(context.connection())
                .await?;
        context.emit(&OrderShipped { order_id, parcel })?;
        Ok(Outcome::Done)
    }
}
