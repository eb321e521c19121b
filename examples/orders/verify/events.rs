//! The checks of the topics: each event exactly once, and none that should not be.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use tidelock::prelude::*;
use uuid::Uuid;

use super::Finding;
use crate::{
    events::{
        OrderPlaced, OrderShipped, PaymentAnswered, PaymentResult, StockRejected, StockReleased,
        StockReserved,
    },
    verify_topics::Record,
};

/// Which orders must have the event, by their final state; every other order must not.
const EVENTS: [(&str, &str, &[&str]); 6] = [
    (OrderPlaced::TOPIC, OrderPlaced::TYPE, &["shipped", "rejected", "cancelled", "open"]),
    (StockReserved::TOPIC, StockReserved::TYPE, &["shipped", "cancelled"]),
    (StockRejected::TOPIC, StockRejected::TYPE, &["rejected"]),
    (PaymentAnswered::TOPIC, PaymentAnswered::TYPE, &["shipped", "cancelled"]),
    (StockReleased::TOPIC, StockReleased::TYPE, &["cancelled"]),
    (OrderShipped::TOPIC, OrderShipped::TYPE, &["shipped"]),
];

/// What every event has, and what an answer of payment has.
#[derive(Deserialize)]
struct Body {
    order_id: Uuid,
    result: Option<PaymentResult>,
    amount_cents: Option<i64>,
}

/// `fates`: the final state of every order and what it costs.
pub(super) fn check(records: &[Record], fates: &HashMap<Uuid, (String, i64)>) -> Vec<Finding> {
    let mut seen: HashMap<(&str, &str), HashMap<Uuid, i64>> = HashMap::new();
    let mut ids = HashSet::new();
    let (mut same_id, mut unreadable, mut answers, mut wrong_answers) = (0, 0, 0, 0);
    for record in records {
        // Only payment may be answered by programs that know nothing of our headers.
        let event_type = match record.event_type.as_deref() {
            None if record.topic == PaymentAnswered::TOPIC => PaymentAnswered::TYPE,
            given => given.unwrap_or(""),
        };
        let Ok(body) = serde_json::from_slice::<Body>(&record.payload) else {
            unreadable += 1;
            continue;
        };
        let order = body.order_id;
        unreadable += i64::from(record.key != order.to_string().into_bytes());
        same_id += i64::from(record.id.as_ref().is_some_and(|id| !ids.insert(id)));
        *seen.entry((record.topic, event_type)).or_default().entry(order).or_default() += 1;
        if event_type == PaymentAnswered::TYPE {
            let (state, amount) =
                fates.get(&order).map_or(("", 0), |(state, amount)| (state.as_str(), *amount));
            let expected = match state {
                "shipped" => Some(PaymentResult::Taken),
                "cancelled" => Some(PaymentResult::Declined),
                _ => None,
            };
            answers += 1;
            wrong_answers += i64::from(body.result != expected || body.amount_cents != Some(amount));
        }
    }
    let mut findings = Vec::new();
    for (topic, event_type, states) in EVENTS {
        let counts = seen.remove(&(topic, event_type)).unwrap_or_default();
        let due = |order: &Uuid| fates.get(order).is_some_and(|(state, _)| states.contains(&state.as_str()));
        let missing = fates.keys().filter(|order| due(order) && !counts.contains_key(order));
        let wrong = counts.iter().filter(|(order, count)| **count != 1 || !due(order));
        findings.push(Finding {
            what: format!("topic {topic}: {event_type} exactly once"),
            seen: counts.values().sum(),
            off: (missing.count() + wrong.count()) as i64,
        });
    }
    let finding = |what: &str, seen, off| Finding { what: what.to_owned(), seen, off };
    let others: i64 = seen.values().flat_map(HashMap::values).sum();
    let all = records.len() as i64;
    findings.push(finding("payment answers match the order and its cost", answers, wrong_answers));
    findings.push(finding("records: an event of ours under the key of its order", all, others + unreadable));
    findings.push(finding("message ids: none twice", ids.len() as i64, same_id));
    findings
}
