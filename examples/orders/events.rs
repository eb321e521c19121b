//! What travels between the services: they share these types and nothing else.
//!
//! The key of every event is the order's id, so each reader gets the events of one order in order, topic by topic.
//! Fields that a reader does not know are passed over, so fields may be added.

use serde::{Deserialize, Serialize};
use tidelock::prelude::*;
use uuid::Uuid;

/// The order service took an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order_id: Uuid,
    pub(crate) customer: String,
    pub(crate) amount_cents: i64,
    pub(crate) lines: Vec<Line>,
}

/// So many of one article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) quantity: i64,
}

impl Event for OrderPlaced {
    const TYPE: &'static str = "OrderPlaced";
    const TOPIC: &'static str = "orders";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}

/// Inventory set everything aside that the order names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StockReserved {
    pub(crate) order_id: Uuid,
    pub(crate) customer: String,
    pub(crate) amount_cents: i64,
}

impl Event for StockReserved {
    const TYPE: &'static str = "StockReserved";
    const TOPIC: &'static str = "inventory";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}

/// Inventory has too little of `sku` and set nothing aside. The order ends as rejected.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StockRejected {
    pub(crate) order_id: Uuid,
    pub(crate) sku: String,
    pub(crate) wanted: i64,
    pub(crate) available: i64,
}

impl Event for StockRejected {
    const TYPE: &'static str = "StockRejected";
    const TOPIC: &'static str = "inventory";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}

/// Payment's answer to `StockReserved`. One event for both answers, so that a program that knows nothing of our
/// headers can give it: a record without a type goes to the only handler that a group has for its topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PaymentAnswered {
    pub(crate) order_id: Uuid,
    pub(crate) result: PaymentResult,
    pub(crate) amount_cents: i64,
}

/// Whether the money was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PaymentResult {
    Taken,
    Declined,
}

impl Event for PaymentAnswered {
    const TYPE: &'static str = "PaymentAnswered";
    const TOPIC: &'static str = "payments";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}

/// Inventory put back what it had set aside for an order that was not paid. The order ends as cancelled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StockReleased {
    pub(crate) order_id: Uuid,
}

impl Event for StockReleased {
    const TYPE: &'static str = "StockReleased";
    const TOPIC: &'static str = "inventory";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}

/// Shipping sent the parcel of a paid order. The order ends as shipped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderShipped {
    pub(crate) order_id: Uuid,
    pub(crate) parcel: i64,
}

impl Event for OrderShipped {
    const TYPE: &'static str = "OrderShipped";
    const TOPIC: &'static str = "shipping";

    fn key(&self) -> Key {
        self.order_id.into()
    }
}
