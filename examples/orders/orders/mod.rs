//! The order service: takes orders and follows what becomes of them.

mod book;
mod follow;
mod request;
mod state;

use tidelock::{outbox::Outbox, prelude::*};
use uuid::Uuid;

pub(crate) use book::{Book, Order};
pub(crate) use request::{OrderRequest, legible};
pub(crate) use state::State;

use crate::{
    events::{Line, OrderPlaced, OrderShipped, PaymentAnswered, StockRejected, StockReleased, StockReserved},
    shop::Shop,
};
use follow::Follow;

/// Follows an order through the topics of the others.
pub(crate) fn processor<D: Shop>() -> Processor<D> {
    Processor::new("orders")
        .handle(Follow::<StockReserved>::new())
        .handle(Follow::<StockRejected>::new())
        .handle(Follow::<StockReleased>::new())
        .handle(Follow::<PaymentAnswered>::new())
        .handle(Follow::<OrderShipped>::new())
}

/// Why an order was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The customer can mend it; the sentence says how.
    Request(String),
    /// The customer cannot.
    Failure(BoxError),
}

impl<E: Into<BoxError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// An order that was taken, now or, under the same idempotency key, before.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) order_id: Uuid,
    pub(crate) new: bool,
}

/// Takes an order: its rows and its event are one transaction. The same idempotency key gives the same order, also
/// when two requests race: the second waits at the unique key until the first one's transaction has ended.
pub(crate) async fn place<D: Shop>(
    database: &D,
    request: OrderRequest,
    idempotency_key: Option<&str>,
) -> Result<Placed, Refusal> {
    request.check().map_err(Refusal::Request)?;
    let OrderRequest { customer, lines } = request;
    let mut transaction = Outbox::of(database).begin().await?;
    let prices = transaction.prices().await?;
    let mut amount_cents = 0;
    for Line { sku, quantity } in &lines {
        let Some(price) = prices.get(sku) else {
            return Err(Refusal::Request(format!("there is no article {sku:?}")));
        };
        amount_cents += price * quantity;
    }
    let order_id = Uuid::now_v7();
    if !transaction.add_order(order_id, idempotency_key, &customer, amount_cents).await? {
        let order_id = transaction.order_of_key(idempotency_key).await?;
        return Ok(Placed { order_id, new: false });
    }
    transaction.add_lines(order_id, &lines).await?;
    transaction.add_step(order_id, State::Placed, None).await?;
    let event = OrderPlaced { order_id, customer, amount_cents, lines };
    transaction.enqueue(&event)?;
    transaction.commit().await?;
    Ok(Placed { order_id, new: true })
}
