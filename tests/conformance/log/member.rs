//! A group member and what it was told.

use std::{future::Future, sync::Arc, time::Duration};

use tidelock::log::{
    Assignment, Assignor, Consumer, ConsumerEvent, ConsumerEvents, Handback, Log, Received, Subscription,
};

use super::within;

pub(crate) struct Member {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) events: ConsumerEvents,
}

impl Member {
    pub(crate) async fn join(log: &dyn Log, group: &str, topic: &str, assignor: Assignor) -> Self {
        Self::named(log, group, topic, assignor, None).await
    }

    pub(crate) async fn named(
        log: &dyn Log,
        group: &str,
        topic: &str,
        assignor: Assignor,
        instance: Option<&str>,
    ) -> Self {
        let subscription = Subscription {
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            instance: instance.map(str::to_owned),
            assignor,
        };
        let (consumer, events) = log.consumer(&subscription).await.expect("consumer");
        Self { consumer, events }
    }

    /// Closes without listening: whoever listens is asked for a handback first.
    pub(crate) async fn close(self) {
        drop(self.events);
        self.consumer.close().await;
    }

    #[track_caller]
    pub(crate) fn event(&mut self) -> impl Future<Output = ConsumerEvent> {
        let next = within(90, self.events.recv());
        async { next.await.expect("events ended") }
    }

    #[track_caller]
    pub(crate) fn assigned(&mut self) -> impl Future<Output = Vec<Assignment>> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Assigned(partitions) => partitions,
                other => panic!("expected an assignment, got {other:?}"),
            }
        }
    }

    /// Assignments until there are that many partitions: a cooperative member is told first that it gets nothing yet.
    pub(crate) async fn gained(&mut self, count: usize) -> Vec<Assignment> {
        let mut gained = Vec::new();
        while gained.len() < count {
            gained.extend(self.assigned().await);
        }
        assert_eq!(gained.len(), count, "{gained:?}");
        gained
    }

    #[track_caller]
    pub(crate) fn revoked(&mut self) -> impl Future<Output = (Vec<Assignment>, bool, Handback)> {
        let event = self.event();
        async {
            match event.await {
                ConsumerEvent::Revoked { partitions, lost, handback } => (partitions, lost, handback),
                other => panic!("expected a revocation, got {other:?}"),
            }
        }
    }

    /// Nothing is told for that long, but that nothing was assigned.
    pub(crate) async fn quiet(&mut self, seconds: u64) {
        self.hears(seconds, |_| false).await;
    }

    /// For so long nothing happens, but that it may be told why it has no place in the group.
    pub(crate) async fn left_out(&mut self, seconds: u64) {
        self.hears(seconds, |event| matches!(event, ConsumerEvent::Denied(_))).await;
    }

    async fn hears(&mut self, seconds: u64, may: impl Fn(&ConsumerEvent) -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while let Ok(event) = tokio::time::timeout_at(until, self.events.recv()).await {
            let nothing = matches!(&event, Some(ConsumerEvent::Assigned(none)) if none.is_empty());
            assert!(nothing || event.as_ref().is_some_and(&may), "{event:?}");
        }
    }

    /// Records of one partition until `enough`.
    pub(crate) async fn records(
        &mut self,
        from: &Assignment,
        enough: impl Fn(&[Received]) -> bool,
    ) -> Vec<Received> {
        let mut all = Vec::new();
        while !enough(&all) {
            match self.event().await {
                ConsumerEvent::Records { assignment, records, .. } => {
                    assert_eq!(assignment, *from);
                    all.extend(records);
                }
                other => panic!("expected records, got {other:?}"),
            }
        }
        all
    }
}
