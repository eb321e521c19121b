//! For the tests of your handlers (feature `testing`).
//!
//! [`CrashPoints`] runs a processor, as your service makes it, on an embedded log and a database of its own, kills it at the
//! processor's crash points P1 to P8, starts it anew, and compares what came of it with a run without a crash: a handler that
//! keeps something outside of its transaction, and would do it twice after a crash, is found.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidelock::{prelude::*, testing::CrashPoints};
//!
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced { order: i64, sku: String }
//!
//! impl Event for OrderPlaced {
//!     const TYPE: &'static str = "OrderPlaced";
//!     const TOPIC: &'static str = "orders";
//!     fn key(&self) -> Key { self.order.into() }
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct StockReserved { order: i64 }
//!
//! impl Event for StockReserved {
//!     const TYPE: &'static str = "StockReserved";
//!     const TOPIC: &'static str = "stock";
//!     fn key(&self) -> Key { self.order.into() }
//! }
//!
//! struct Reserve;
//!
//! #[async_trait]
//! impl Handler<Sqlite> for Reserve {
//!     type Event = OrderPlaced;
//!     async fn handle(&self, message: &Message<OrderPlaced>, context: &mut Context<'_, Sqlite>) -> Result<Outcome, BoxError> {
//!         let OrderPlaced { order, sku } = &message.event;
//!         sqlx::query("INSERT INTO reserved VALUES ($1, $2)").bind(order).bind(sku).execute(context.connection()).await?;
//!         context.emit(&StockReserved { order: *order })?;
//!         Ok(Outcome::Done)
//!     }
//! }
//!
//! async fn database() -> Result<Sqlite, BoxError> {
//!     let database = Sqlite::in_memory().await?;
//!     database.migrate().await?;
//!     let mut transaction = database.outbox().begin().await?;
//!     sqlx::query("CREATE TABLE reserved (order_id integer, sku text)").execute(&mut *transaction).await?;
//!     transaction.commit().await?;
//!     Ok(database)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // #[tokio::test] async fn once_and_only_once() {
//! let report = CrashPoints::new(database, || Processor::new("inventory").handle(Reserve))
//!     .effect(async |connection| {
//!         let query = sqlx::query_as("SELECT order_id, sku FROM reserved ORDER BY order_id");
//!         let rows: Vec<(i64, String)> = query.fetch_all(connection).await?;
//!         Ok(rows)
//!     })
//!     .messages(&[1, 2, 3].map(|order| OrderPlaced { order, sku: "tide".to_owned() }))
//!     .run()
//!     .await
//!     .unwrap();
//! println!("{report}");
//! # assert!(report.hit.len() > 25, "{report}");
//! # }
//! ```
//!
//! With PostgreSQL the function makes a database (or a schema) of its own for each call and answers a `Postgres`.
//!
//! Smaller things: [`eventually`] waits on a condition and says who waited in vain, [`Scripted`] is a handler that answers as
//! it is told, and [`Recording`] a log that remembers.

mod crash_points;
mod database;
mod emitted;
mod eventually;
mod plan;
mod recording;
mod report;
mod script;
mod scripted;
mod stage;

pub use crash_points::CrashPoints;
pub use eventually::{eventually, within};
pub use plan::{CrashPoint, Fate};
pub use recording::{End, Recording, Transaction};
pub use report::{Failure, Report};
pub use scripted::Scripted;

pub use crate::failpoint::Point;
