//! The code of the README: an event goes from a PostgreSQL transaction through Kafka into a handler and out again.
//! Run it with servers:
//! `TIDELOCK_RELAY_NAME=quickstart cargo run -p tidelock-lab -- run -- cargo run --example quickstart`.
#![cfg_attr(rustfmt, rustfmt_skip)]
#![expect(clippy::print_stdout, reason = "an example")]

// README begins
use serde::{Deserialize, Serialize};
use tidelock::prelude::*;

#[derive(Serialize, Deserialize)]
struct OrderPlaced { order: i64, sku: String }

impl Event for OrderPlaced {
    const TYPE: &'static str = "OrderPlaced";
    const TOPIC: &'static str = "quickstart.orders";
    fn key(&self) -> Key { self.order.into() }
}

#[derive(Serialize, Deserialize)]
struct StockReserved { order: i64 }

impl Event for StockReserved {
    const TYPE: &'static str = "StockReserved";
    const TOPIC: &'static str = "quickstart.stock";
    fn key(&self) -> Key { self.order.into() }
}

struct Reserve;

#[async_trait]
impl Handler<Postgres> for Reserve {
    type Event = OrderPlaced;
    async fn handle(&self, message: &Message<OrderPlaced>, context: &mut Context<'_, Postgres>) -> Result<Outcome, BoxError> {
        let OrderPlaced { order, sku } = &message.event;
        sqlx::query("INSERT INTO reserved VALUES ($1, $2)").bind(order).bind(sku).execute(context.connection()).await?;
        context.emit(&StockReserved { order: *order })?;
        Ok(Outcome::Done) // the row, the message and the fact that this one was handled: all of it, once
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let settings = Settings::from_env("TIDELOCK_")?; // TIDELOCK_KAFKA_BROKERS, TIDELOCK_DATABASE_URL, TIDELOCK_RELAY_NAME, ...
    let database = Postgres::connect(settings.database).await?;
    database.migrate().await?;
    sqlx::query("CREATE TABLE IF NOT EXISTS reserved (order_id bigint, sku text)").execute(database.pool()).await?;
    let pipeline = Pipeline::builder(Kafka::new(settings.kafka)?, database.clone())
        .relay(settings.relay)
        .processor_defaults(settings.processor)
        .processor(Processor::new("inventory").handle(Reserve))
        .build()?;
    pipeline.start().await?;

    let mut transaction = database.pool().begin().await?; // your business transaction
    let id = database.outbox().enqueue(&mut transaction, &OrderPlaced { order: 1, sku: "tide-1".into() }).await?;
    transaction.commit().await?;
    println!("enqueued {id}");
    // README leaves out

    let reserved = async {
        loop {
            let count: i64 =
                sqlx::query_scalar("SELECT count(*) FROM reserved").fetch_one(database.pool()).await?;
            if count > 0 {
                return Ok::<i64, sqlx::Error>(count);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let count = tokio::time::timeout(std::time::Duration::from_secs(60), reserved).await??;
    println!("reserved {count}");
    // README goes on
    pipeline.stop(std::time::Duration::from_secs(10)).await?;
    Ok(())
}
