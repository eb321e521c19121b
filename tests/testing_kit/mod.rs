//! The kit for users' tests: what is right passes every crash point, what is wrong is found.

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;
use tidelock::{
    prelude::*,
    testing::{CrashPoints, Failure},
};

mod right;
mod small;
mod wrong;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Deposit {
    account: String,
    cents: i64,
}

impl Event for Deposit {
    const TYPE: &'static str = "Deposit";
    const TOPIC: &'static str = "deposits";

    fn key(&self) -> Key {
        self.account.as_str().into()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Statement {
    account: String,
    balance: i64,
}

impl Event for Statement {
    const TYPE: &'static str = "Statement";
    const TOPIC: &'static str = "statements";

    fn key(&self) -> Key {
        self.account.as_str().into()
    }
}

fn deposits() -> Vec<Deposit> {
    let of = |(account, cents): (&str, i64)| Deposit { account: account.to_owned(), cents };
    [("ann", 10), ("bob", 20), ("ann", 30), ("ann", 5), ("bob", 1)].map(of).into()
}

const SCHEMA: &str = "CREATE TABLE account (name text PRIMARY KEY, balance integer NOT NULL)";

async fn fresh() -> Result<Sqlite, BoxError> {
    let database = Sqlite::in_memory().await?;
    database.migrate().await?;
    let mut transaction = database.outbox().begin().await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(database)
}

async fn deposit(connection: &mut SqliteConnection, deposit: &Deposit) -> Result<i64, BoxError> {
    let add = "INSERT INTO account VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET balance = balance + $2 \
               RETURNING balance";
    Ok(sqlx::query_scalar(add).bind(&deposit.account).bind(deposit.cents).fetch_one(connection).await?)
}

async fn accounts(connection: &mut SqliteConnection) -> Result<Vec<(String, i64)>, BoxError> {
    Ok(sqlx::query_as("SELECT name, balance FROM account ORDER BY name").fetch_all(connection).await?)
}

/// What the kit says of a handler that is wrong.
async fn found<H: Handler<Sqlite, Event = Deposit>>(handler: impl Fn() -> H + 'static) -> Failure {
    CrashPoints::new(fresh, move || Processor::new("bank").handle(handler()))
        .effect(accounts)
        .messages(&deposits())
        .run()
        .await
        .expect_err("a wrong handler passed")
}
