//! Outputs that go to the quarantine: those that the log refused for good, and those that wait behind others of their key.

use std::collections::HashSet;

use tracing::{error, info};

use super::partition::Partition;
use crate::{
    database::{Database, HeldKey, Quarantined, Submitted, Unit},
    error::Result,
    failpoint::{Point, hit},
    log::{Record, Refusal, codec},
    message::MessageId,
    telemetry,
};

impl<D: Database> Partition<D> {
    /// Moves refused outputs from the fence row to the quarantine, unless the row holds something else by now: a
    /// verdict that is older than the row says nothing of what is in it.
    ///
    /// All of a key goes together. Nothing of the batch is published yet: an earlier output that stayed could be refused
    /// only later, or be published after a later one that was released in between.
    pub(crate) async fn quarantine(&self, refusals: &[Refusal], batch: &Submitted) -> Result<()> {
        let (kept, held) = part(codec::decode(&batch.pending)?, refusals)?;
        let kept = codec::encode(&kept)?;
        hit(Point::P9);
        if self.is_published(batch).await? {
            return Ok(());
        }
        if self.shared.database.quarantine_outputs(&self.key, batch, kept, &held).await? {
            metrics::counter!(telemetry::QUARANTINED, "origin" => "output").increment(held.len() as u64);
            for each in &held {
                error!(
                    processor = self.name(), id = %each.id, topic = %each.topic, reason = each.reason,
                    "an output went to the quarantine; release it once the reason is gone"
                );
            }
        }
        Ok(())
    }

    /// Whether they came through all the same: whoever made them may have been sending them while we claimed them.
    async fn is_published(&self, batch: &Submitted) -> Result<bool> {
        let consumer = &self.shared.consumer;
        Ok(D::FENCED && consumer.committed(&self.at).await? == Some(batch.next_offset))
    }

    /// The outputs that are sent, and those that wait in the quarantine behind others of their key.
    pub(crate) async fn behind(
        &self,
        unit: &mut D::Unit,
        outputs: Vec<Record>,
    ) -> Result<(Vec<Record>, Vec<Quarantined>)> {
        let keys: HashSet<HeldKey> = outputs.iter().filter_map(held_key).collect();
        if keys.is_empty() {
            return Ok((outputs, Vec::new()));
        }
        let keys: Vec<HeldKey> = keys.into_iter().collect();
        let held = unit.held_outputs(&keys).await?;
        let reason = "behind an earlier message of the same key";
        divide(outputs, |_, key| key.is_some_and(|key| held.contains(key)).then(|| reason.to_owned()))
    }

    /// Says what a committed batch has held back.
    pub(crate) fn report_held(&self, held: &[Quarantined]) {
        if held.is_empty() {
            return;
        }
        metrics::counter!(telemetry::QUARANTINED, "origin" => "output").increment(held.len() as u64);
        info!(
            processor = self.name(),
            count = held.len(),
            "outputs wait in the quarantine behind others of their key"
        );
    }
}

/// What stays, and what goes: the refused, and whatever else has a key of theirs.
fn part(outputs: Vec<Record>, refusals: &[Refusal]) -> Result<(Vec<Record>, Vec<Quarantined>)> {
    let refused = refusals.iter().filter_map(|refusal| outputs.get(refusal.index));
    let keys: HashSet<HeldKey> = refused.filter_map(held_key).collect();
    divide(outputs, |index, key| match refusals.iter().find(|refusal| refusal.index == index) {
        Some(refusal) => Some(refusal.reason.clone()),
        None if key.is_some_and(|key| keys.contains(key)) => {
            Some("with a refused message of the same key".to_owned())
        }
        None => None,
    })
}

fn divide(
    outputs: Vec<Record>,
    reason: impl Fn(usize, Option<&HeldKey>) -> Option<String>,
) -> Result<(Vec<Record>, Vec<Quarantined>)> {
    let (mut kept, mut held) = (Vec::with_capacity(outputs.len()), Vec::new());
    for (index, output) in outputs.into_iter().enumerate() {
        match reason(index, held_key(&output).as_ref()) {
            None => kept.push(output),
            Some(reason) => held.push(quarantined(output, reason)?),
        }
    }
    Ok((kept, held))
}

fn held_key(output: &Record) -> Option<HeldKey> {
    Some(HeldKey { topic: output.topic.clone(), key: output.key.clone()? })
}

fn quarantined(output: Record, reason: String) -> Result<Quarantined> {
    Ok(Quarantined {
        id: output.headers.message_id().unwrap_or_else(MessageId::new),
        topic: output.topic.clone(),
        key: output.key.clone(),
        record: codec::encode(&[output])?,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Headers;

    #[test]
    fn a_refused_output_takes_its_key_along_and_one_without_a_key_nothing() {
        let output = |topic: &str, key: Option<&'static str>| Record {
            topic: topic.into(),
            partition: None,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            payload: None,
            headers: Headers::new(),
            time_ms: None,
        };
        let outputs = [
            ("t", Some("a")),
            ("t", None),
            ("t", Some("a")),
            ("u", Some("a")),
            ("t", None),
            ("t", Some("b")),
            ("t", Some("a")),
        ];
        let outputs: Vec<Record> = outputs.map(|(topic, key)| output(topic, key)).into();
        let refused = |index: usize| Refusal::new(index, index.to_string());
        let (kept, held) = part(outputs.clone(), &[refused(2), refused(4)]).unwrap();
        assert_eq!(kept, [1, 3, 5].map(|index| outputs[index].clone()));
        let reasons: Vec<&str> = held.iter().map(|each| each.reason.as_str()).collect();
        let with = "with a refused message of the same key";
        assert_eq!(reasons, [with, "2", "4", with]);
    }
}
