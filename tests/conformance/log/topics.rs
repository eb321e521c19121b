//! Topics as they must be.

use tidelock::{
    error::Kind,
    log::{Cleanup, TopicSpec},
};

use super::{Limits, LogUnderTest, topic, unique};

pub(super) async fn a_log_of_ours_will_do(under: &dyn LogUnderTest) {
    under.log(Limits::default()).await.check().await.expect("nothing is wrong");
}

pub(super) async fn a_topic_is_created_once(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let spec = TopicSpec { name: unique("orders"), partitions: Some(3), cleanup: Cleanup::Compact };
    let (first, second) = tokio::join!(log.topic(&spec), log.topic(&spec));
    assert_eq!((first.expect("created"), second.expect("created")), (3, 3));
    let any = TopicSpec { partitions: None, cleanup: Cleanup::Any, ..spec.clone() };
    assert_eq!(log.topic(&any).await.expect("there"), 3);
    let default = TopicSpec { name: unique("default"), ..any };
    assert_eq!(log.topic(&default).await.expect("created"), 6);
}

pub(super) async fn a_topic_keeps_its_id(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let (one, two) = (topic(&*log, 3, Cleanup::Any).await, topic(&*log, 3, Cleanup::Any).await);
    let id = log.topic_id(&one).await.expect("an answer");
    assert_eq!(log.topic_id(&one).await.expect("an answer"), id);
    assert!(id.is_none() || log.topic_id(&two).await.expect("an answer") != id);
}

pub(super) async fn another_count_of_partitions_is_refused(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let name = topic(&*log, 3, Cleanup::Any).await;
    let wrong = TopicSpec { name: name.clone(), partitions: Some(6), cleanup: Cleanup::Any };
    let error = log.topic(&wrong).await.expect_err("another count");
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(error.to_string(), format!("topic {name:?} has 3 partitions, config expects 6"));
}

pub(super) async fn a_topic_that_is_not_compacted_is_refused(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    let name = topic(&*log, 2, Cleanup::Any).await;
    let compacted = TopicSpec { name, partitions: None, cleanup: Cleanup::Compact };
    let error = log.topic(&compacted).await.expect_err("not compacted");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("cleanup.policy=delete"), "{error}");
    let kept = topic(&*log, 2, Cleanup::Compact).await;
    let any = TopicSpec { name: kept, partitions: None, cleanup: Cleanup::Any };
    assert_eq!(log.topic(&any).await.expect("whatever it is configured for"), 2);
}

pub(super) async fn an_absent_topic_is_not_created_unless_allowed(under: &dyn LogUnderTest) {
    let log = under.log(Limits { create_topics: false, ..Limits::default() }).await;
    let absent = TopicSpec { name: unique("absent"), partitions: Some(1), cleanup: Cleanup::Any };
    for _ in 0..2 {
        let error = log.topic(&absent).await.expect_err("not created");
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}

pub(super) async fn a_topic_without_a_legal_name_is_refused(under: &dyn LogUnderTest) {
    let log = under.log(Limits::default()).await;
    for name in
        ["a b".to_owned(), "a/b".to_owned(), "x".repeat(250), String::new(), ".".to_owned(), "..".to_owned()]
    {
        let illegal = TopicSpec { name: name.clone(), partitions: Some(1), cleanup: Cleanup::Any };
        let error = log.topic(&illegal).await.expect_err("no legal name");
        assert_eq!(error.kind(), Kind::Config, "{name:?}: {error}");
    }
}
