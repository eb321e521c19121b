//! Class 4: requests of transactions late, twice, not at all, or without their answer.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tidelock_lab::proxy::{Action, Rule, request};

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::World,
};

/// Whoever lost an answer looks what became of it and goes on: a new producer, at worst after the transaction time-out.
const GOES_ON: Duration = Duration::from_secs(15);
/// How long is waited for the first request of the kind.
const COMES_WITHIN: Duration = Duration::from_secs(10);
/// How long the last copy may be on its way when the fault ends: longer than it is kept back.
const ARRIVED_WITHIN: Duration = Duration::from_secs(8);
/// The share of commits whose answer is lost so that new producers are initialised at all.
const ROTATED: f64 = 0.1;

/// Name, the request, the largest share of them that suffers.
const REQUESTS: [(&str, &str, i16, f64); 6] = [
    ("end-txn", "EndTxn", request::END_TXN, 0.3),
    ("add-partitions", "AddPartitionsToTxn", request::ADD_PARTITIONS_TO_TXN, 0.2),
    ("add-offsets", "AddOffsetsToTxn", request::ADD_OFFSETS_TO_TXN, 0.3),
    ("offset-commit", "TxnOffsetCommit", request::TXN_OFFSET_COMMIT, 0.3),
    ("init-producer", "InitProducerId", request::INIT_PRODUCER_ID, 0.5),
    ("produce", "Produce", request::PRODUCE, 0.1),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Unanswered,
    Late,
    Doubled,
    Dropped,
}

const FORMS: [(&str, &str, Form); 4] = [
    ("unanswered", "arrive, and the connection is reset before the answer", Form::Unanswered),
    ("late", "lead to a reset, and arrive up to 3 s later on another connection", Form::Late),
    ("doubled", "arrive, and up to 3 s later a copy of them", Form::Doubled),
    ("dropped", "vanish, and the client waits for the answer until its time-out", Form::Dropped),
];

impl Form {
    fn action(self, rng: &mut Rng) -> Action {
        let up_to = |rng: &mut Rng, ms| Duration::from_millis(rng.u64(0..=ms));
        match self {
            Self::Unanswered => Action::LoseAnswer(up_to(rng, 300)),
            Self::Late => Action::Late(Some(up_to(rng, 3_000))),
            Self::Doubled => Action::Duplicate(up_to(rng, 3_000)),
            Self::Dropped => Action::Drop,
        }
    }

    /// Whether the proxy sends something of its own.
    fn copies(self) -> bool {
        matches!(self, Self::Late | Self::Doubled)
    }
}

/// What DESIGN.md says of a copy that nobody but the network knows of.
const NOT_LOST: &str = "nothing is lost; a message may come twice, and a group's offset may go back for a moment, when the \
     copy comes inside another transaction of the same producer epoch (DESIGN.md, \"What can still happen\")";

pub(super) fn faults() -> Vec<Fault> {
    every().into_iter().filter(|fault| fault.must_hold == EXACTLY_ONCE).collect()
}

/// Copies that come later, of a request that went through undisturbed: no client can tell, and Kafka's protocol V1 has
/// nothing to tell them by. TCP does not do that; the proxy does.
pub(super) fn beyond() -> Vec<Fault> {
    every().into_iter().filter(|fault| fault.must_hold == NOT_LOST).collect()
}

fn every() -> Vec<Fault> {
    let each = |(name, doc, form)| REQUESTS.map(|request| fault(request, name, doc, form));
    FORMS.into_iter().flat_map(each).collect()
}

fn fault((request, kind, key, most): (&str, &str, i16, f64), form: &str, doc: &str, how: Form) -> Fault {
    let unseen = how == Form::Doubled && matches!(key, request::END_TXN | request::TXN_OFFSET_COMMIT);
    let initialises = key == request::INIT_PRODUCER_ID;
    let so_that = if initialises { ", while commits without an answer make for new producers" } else { "" };
    Fault {
        class: Class::Answers,
        name: format!("{request}-{form}"),
        doc: format!("some of the {kind} requests {doc}{so_that}"),
        must_hold: if unseen { NOT_LOST } else { EXACTLY_ONCE },
        // A request that vanishes is waited for until a time-out, and the next one can vanish too.
        within: (how != Form::Dropped).then_some(GOES_ON),
        lasts_ms: 3_000..=20_000,
        touches: &[Part::Requests],
        inject: Box::new(move |world, rng| {
            let share = most * (0.2 + 0.8 * rng.f64());
            let action = how.action(rng);
            let mut rules = armed(world, rng, key, &action, share);
            let helpers = match initialises {
                true => armed(world, rng, request::END_TXN, &Action::LoseAnswer(Duration::ZERO), ROTATED),
                false => Vec::new(),
            };
            let came = world.until(COMES_WITHIN, || sum(&rules, Rule::acted) > 0);
            Ok(Ongoing::new(format!("{:.0} % {action:?}", share * 100.0), move |world| {
                drop(helpers);
                let (matched, acted) = (sum(&rules, Rule::matched), sum(&rules, Rule::acted));
                let arrived =
                    !how.copies() || world.until(ARRIVED_WITHIN, || sum(&rules, Rule::answered) >= acted);
                let answered = sum(&rules, Rule::answered);
                rules.clear();
                world.history.note(
                    "requests",
                    json!({ "matched": matched, "acted": acted, "copies-answered": answered, "all-arrived": arrived }),
                )
            })
            .only_if(came))
        }),
    }
}

/// The rule at every broker.
fn armed(world: &World, rng: &mut Rng, key: i16, action: &Action, share: f64) -> Vec<Rule> {
    let brokers = 0..world.lab.brokers().len();
    brokers
        .map(|at| {
            let proxy = world.lab.kafka_proxy(at);
            proxy.rule(request::one_of([key]), action.clone(), share, rng.u64(..))
        })
        .collect()
}

fn sum(rules: &[Rule], of: fn(&Rule) -> u64) -> u64 {
    rules.iter().map(of).sum()
}
