//! Whether every topic of a group can still be seen. A member hears once at most of one that is gone, or that it may not
//! see: partitions of the others go on, and nothing else would tell that this one is not read.

use std::{sync::Arc, time::Duration};

use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::{
    health::{Entry, Health, State},
    log::Log,
};

const EVERY: Duration = Duration::from_secs(30);
/// How soon a topic that was not seen is looked for again. Once it is missed is not enough: brokers that have just started
/// know of none.
const AGAIN: Duration = Duration::from_secs(5);

/// Looks for each topic as long as the handle lives. One that is not there has a line of its own in health.
pub(crate) fn watch(
    log: Arc<dyn Log>,
    topics: &[String],
    health: &Health,
    component: &str,
) -> AbortOnDropHandle<()> {
    let looks = topics.iter().map(|topic| {
        let entry = health.entry(format!("{component} topic {topic}"));
        look(log.clone(), topic.clone(), entry)
    });
    let looks = futures_util::future::join_all(looks.collect::<Vec<_>>());
    AbortOnDropHandle::new(tokio::spawn(async move { drop(looks.await) }))
}

/// Ends where the log's topics have no ids: it has no rights either, and loses none.
async fn look(log: Arc<dyn Log>, topic: String, entry: Entry) {
    let mut missed = false;
    loop {
        tokio::time::sleep(if missed { AGAIN } else { EVERY }).await;
        match log.topic_id(&topic).await {
            Ok(None) => return,
            Ok(Some(_)) => {
                entry.remove();
                missed = false;
            }
            Err(error) => {
                if missed {
                    warn!(topic, %error, "the topic cannot be seen, nothing of it is read");
                    entry.set(State::Recovering(error.to_string()));
                }
                missed = true;
            }
        }
    }
}
