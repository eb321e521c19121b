//! The payment service, a stub: accounts instead of a bank.
//!
//! Its rule: a customer's account opens with 10,000.00 at the first order, that of `mallory` with nothing. An order
//! that costs more than is left is declined. The service may be left out and its answers given by another program.

mod till;

use tidelock::prelude::*;

pub(crate) use till::Till;

use crate::{
    events::{PaymentAnswered, PaymentResult, StockReserved},
    shop::Shop,
};

const OPENING_CENTS: i64 = 1_000_000;
/// The customer who never has any money.
pub(crate) const BROKE: &str = "mallory";

pub(crate) fn processor<D: Shop>() -> Processor<D> {
    Processor::new("payment").handle(Take)
}

struct Take;

#[async_trait]
impl<D: Shop> Handler<D> for Take {
    type Event = StockReserved;

    async fn handle(
        &self,
        message: &Message<StockReserved>,
        context: &mut Context<'_, D>,
    ) -> Result<Outcome, BoxError> {
        let StockReserved { order_id, ref customer, amount_cents } = message.event;
        let opening_cents = if customer == BROKE { 0 } else { OPENING_CENTS };
        let connection = context.connection();
        connection.lock_till().await?;
        connection.open_account(customer, opening_cents).await?;
        let result = match connection.take(customer, amount_cents).await? {
            true => PaymentResult::Taken,
            false => PaymentResult::Declined,
        };
        context.emit(&PaymentAnswered { order_id, result, amount_cents })?;
        Ok(Outcome::Done)
    }
}
