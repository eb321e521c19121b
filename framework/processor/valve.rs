//! Back-pressure: a partition is paused while too much of it waits in memory.

use std::sync::{Arc, Mutex, PoisonError};

use crate::log::{Assignment, Consumer, Received};

/// Counts what waits between the consumer and the handlers of one partition.
pub(crate) struct Valve {
    consumer: Arc<dyn Consumer>,
    at: Assignment,
    max_records: usize,
    max_bytes: usize,
    level: Mutex<Level>,
}

#[derive(Default)]
struct Level {
    records: usize,
    bytes: usize,
    paused: bool,
}

impl Valve {
    pub(crate) fn new(
        consumer: Arc<dyn Consumer>,
        at: Assignment,
        max_records: usize,
        max_bytes: usize,
    ) -> Self {
        Self { consumer, at, max_records, max_bytes, level: Mutex::default() }
    }

    /// Records arrived: pauses above the limits.
    pub(crate) fn arrived(&self, records: &[Received]) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        level.records += records.len();
        level.bytes += records.iter().map(Received::size).sum::<usize>();
        if !level.paused && (level.records > self.max_records || level.bytes > self.max_bytes) {
            level.paused = self.consumer.pause(&self.at).is_ok();
        }
    }

    /// Records were handled or dropped: resumes below half of the limits.
    pub(crate) fn taken<'a>(&self, records: impl IntoIterator<Item = &'a Received>) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            level.records -= 1;
            level.bytes -= record.size();
        }
        if level.paused && level.records <= self.max_records / 2 && level.bytes <= self.max_bytes / 2 {
            level.paused = self.consumer.resume(&self.at).is_err();
        }
    }

    /// A new flow began. What arrived between its start and now may have paused it already, and what is dropped as of
    /// an earlier flow need not suffice to resume it.
    pub(crate) fn opened(&self) {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if level.paused {
            level.paused = self.consumer.resume(&self.at).is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::{error::Result, log::GroupMetadata, message::Headers};

    /// Remembers pauses and resumes.
    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    #[async_trait]
    impl Consumer for Told {
        fn holds(&self, _: &Assignment) -> bool {
            true
        }

        async fn committed(&self, _: &Assignment) -> Result<Option<i64>> {
            Ok(None)
        }

        async fn start(&self, _: &Assignment, _: i64) -> Result<u64> {
            Ok(0)
        }

        fn pause(&self, _: &Assignment) -> Result<()> {
            self.0.lock().unwrap().push("pause");
            Ok(())
        }

        fn resume(&self, _: &Assignment) -> Result<()> {
            self.0.lock().unwrap().push("resume");
            Ok(())
        }

        fn metadata(&self, _: &[Assignment]) -> Result<GroupMetadata> {
            Ok(GroupMetadata(Box::new(())))
        }

        async fn close(&self) {}
    }

    fn records(count: usize, bytes: usize) -> Vec<Received> {
        let record = Received {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            key: None,
            payload: Some(vec![0; bytes].into()),
            headers: Headers::new(),
            time_ms: 0,
        };
        vec![record; count]
    }

    #[test]
    fn pauses_above_the_limits_and_resumes_below_half() {
        let told = Arc::new(Told::default());
        let at = Assignment { topic: "t".into(), partition: 0, epoch: 1 };
        let valve = Valve::new(told.clone(), at, 10, 1_000);
        valve.arrived(&records(10, 1));
        valve.arrived(&records(1, 1));
        valve.arrived(&records(1, 1));
        assert_eq!(*told.0.lock().unwrap(), ["pause"]);
        valve.taken(&records(6, 1));
        assert_eq!(*told.0.lock().unwrap(), ["pause"]);
        valve.taken(&records(1, 1));
        assert_eq!(*told.0.lock().unwrap(), ["pause", "resume"]);
        valve.arrived(&records(1, 2_000));
        assert_eq!(*told.0.lock().unwrap(), ["pause", "resume", "pause"]);
    }

    /// Nothing else would resume it: of a flow that is new, nothing has been taken yet.
    #[test]
    fn what_arrives_before_the_flow_is_known_to_be_open_pauses_nothing_for_ever() {
        let told = Arc::new(Told::default());
        let at = Assignment { topic: "t".into(), partition: 0, epoch: 1 };
        let valve = Valve::new(told.clone(), at, 10, 1_000);
        valve.opened();
        assert!(told.0.lock().unwrap().is_empty());
        valve.arrived(&records(11, 1));
        valve.opened();
        assert_eq!(*told.0.lock().unwrap(), ["pause", "resume"]);
        valve.arrived(&records(1, 1));
        assert_eq!(*told.0.lock().unwrap(), ["pause", "resume", "pause"]);
    }
}
