//! The payment service, a stub: accounts instead of a bank.
//!
//! Its rule: a customer's account opens with 10,000.00 at the first order, that of `mallory` with nothing. An order
//! that costs more than is left is declined. The service may be left out and its answers given by another program.

use tidelock::prelude::*;

use crate::events::{PaymentAnswered, PaymentResult, StockReserved};

pub(crate) const SCHEMA: &str = include_str!("schema.sql");

const OPENING_CENTS: i64 = 1_000_000;
/// The customer who never has any money.
pub(crate) const BROKE: &str = "mallory";

pub(crate) fn processor() -> Processor<Postgres> {
    Processor::new("payment").handle(Take)
}

struct Take;

#[async_trait]
impl Handler<Postgres> for Take {
    type Event = StockReserved;

    async fn handle(
        &self,
        message: &Message<StockReserved>,
        context: &mut Context<'_, Postgres>,
    ) -> Result<Outcome, BoxError> {
        let StockReserved { order_id, ref customer, amount_cents } = message.event;
        let connection = context.connection();
        // Before any account: the messages of a batch share a transaction, and two batches that lock accounts in
        // different order would wait for each other. The till comes first, so one batch waits for the other.
        sqlx::query("SELECT taken_cents FROM payment_till FOR UPDATE").execute(&mut *connection).await?;
        sqlx::query(
            "INSERT INTO payment_account (customer, opening_cents, balance_cents) VALUES ($1, $2, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(customer)
        .bind(if customer == BROKE { 0 } else { OPENING_CENTS })
        .execute(&mut *connection)
        .await?;
        let taken = sqlx::query(
            "WITH account AS (
                 UPDATE payment_account SET balance_cents = balance_cents - $2
                 WHERE customer = $1 AND balance_cents >= $2 RETURNING customer)
             UPDATE payment_till SET taken_cents = taken_cents + $2 WHERE EXISTS (SELECT FROM account)",
        )
        .bind(customer)
        .bind(amount_cents)
        .execute(&mut *connection)
        .await?;
        let result = if taken.rows_affected() == 1 { PaymentResult::Taken } else { PaymentResult::Declined };
        context.emit(&PaymentAnswered { order_id, result, amount_cents })?;
        Ok(Outcome::Done)
    }
}
