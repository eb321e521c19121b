//! Each event of the others is one step in the history of an order.

use std::marker::PhantomData;

use tidelock::prelude::*;
use uuid::Uuid;

use super::{Book, State};
use crate::{
    events::{OrderShipped, PaymentAnswered, PaymentResult, StockRejected, StockReleased, StockReserved},
    shop::Shop,
};

/// An event that takes an order further.
pub(super) trait Progress: Event {
    fn order_id(&self) -> Uuid;
    fn state(&self) -> State;
    fn detail(&self) -> Option<String> {
        None
    }
}

/// Writes the step down: the same for every event.
pub(super) struct Follow<E>(PhantomData<fn(E)>);

impl<E> Follow<E> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

#[async_trait]
impl<D: Shop, E: Progress> Handler<D> for Follow<E> {
    type Event = E;

    async fn handle(&self, message: &Message<E>, context: &mut Context<'_, D>) -> Result<Outcome, BoxError> {
        let event = &message.event;
        let state = event.state();
        let known = context.connection().add_step(event.order_id(), state, event.detail().as_deref()).await?;
        if !known {
            tracing::warn!(order = %event.order_id(), event = E::TYPE, "of an order that was never placed");
            return Ok(Outcome::Skip);
        }
        Ok(Outcome::Done)
    }
}

impl Progress for StockReserved {
    fn order_id(&self) -> Uuid {
        self.order_id
    }

    fn state(&self) -> State {
        State::Reserved
    }
}

impl Progress for StockRejected {
    fn order_id(&self) -> Uuid {
        self.order_id
    }

    fn state(&self) -> State {
        State::Rejected
    }

    fn detail(&self) -> Option<String> {
        Some(format!("{} of {} wanted, {} there", self.wanted, self.sku, self.available))
    }
}

impl Progress for StockReleased {
    fn order_id(&self) -> Uuid {
        self.order_id
    }

    fn state(&self) -> State {
        State::Cancelled
    }
}

impl Progress for PaymentAnswered {
    fn order_id(&self) -> Uuid {
        self.order_id
    }

    fn state(&self) -> State {
        match self.result {
            PaymentResult::Taken => State::Paid,
            PaymentResult::Declined => State::Declined,
        }
    }
}

impl Progress for OrderShipped {
    fn order_id(&self) -> Uuid {
        self.order_id
    }

    fn state(&self) -> State {
        State::Shipped
    }

    fn detail(&self) -> Option<String> {
        Some(format!("parcel {}", self.parcel))
    }
}
