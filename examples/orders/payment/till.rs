//! The tables of the payment service.

use tidelock::prelude::async_trait;

use crate::shop::{Dialect, on_both};

/// What the payment service does with its tables.
#[async_trait]
pub(crate) trait Till {
    /// Comes before any account: the messages of a batch share a transaction, and two batches that lock accounts in
    /// different order would wait for each other.
    async fn lock_till(&mut self) -> sqlx::Result<()>;

    /// Opens the customer's account if there is none.
    async fn open_account(&mut self, customer: &str, opening_cents: i64) -> sqlx::Result<()>;

    /// Moves the amount from the account to the till; `false`: there is too little.
    async fn take(&mut self, customer: &str, amount_cents: i64) -> sqlx::Result<bool>;
}

on_both!(impl Till {
    async fn lock_till(&mut self) -> sqlx::Result<()> {
        if Self::FOR_UPDATE {
            sqlx::query("SELECT taken_cents FROM payment_till FOR UPDATE").execute(self).await?;
        }
        Ok(())
    }

    async fn open_account(&mut self, customer: &str, opening_cents: i64) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO payment_account (customer, opening_cents, balance_cents) VALUES ($1, $2, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(customer)
        .bind(opening_cents)
        .execute(self)
        .await?;
        Ok(())
    }

    async fn take(&mut self, customer: &str, amount_cents: i64) -> sqlx::Result<bool> {
        let taken = sqlx::query(
            "UPDATE payment_account SET balance_cents = balance_cents - $2 WHERE customer = $1 AND balance_cents >= $2",
        )
        .bind(customer)
        .bind(amount_cents)
        .execute(&mut *self)
        .await?;
        if taken.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("UPDATE payment_till SET taken_cents = taken_cents + $1").bind(amount_cents).execute(self).await?;
        Ok(true)
    }
});
