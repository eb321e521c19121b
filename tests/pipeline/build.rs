//! What is refused before anything starts.

use serde::{Deserialize, Serialize};
use tidelock::{
    database::NoDatabase,
    error::Kind,
    log::kafka::{Kafka, KafkaConfig},
    pipeline::{Builder, Pipeline},
    prelude::*,
    processor::{ProcessorConfig, StartAt},
};

#[derive(Serialize, Deserialize)]
struct Tick;

impl Event for Tick {
    const TYPE: &'static str = "Tick";
    const TOPIC: &'static str = "build.ticks";

    fn key(&self) -> Key {
        Key::NONE
    }
}

struct Ignore;

#[async_trait]
impl Handler<NoDatabase> for Ignore {
    type Event = Tick;

    async fn handle(&self, _: &Message<Tick>, _: &mut Context<'_, NoDatabase>) -> Result<Outcome, BoxError> {
        Ok(Outcome::Done)
    }
}

fn builder() -> Builder<NoDatabase> {
    let config = KafkaConfig { brokers: "127.0.0.1:1".to_owned(), ..KafkaConfig::default() };
    Pipeline::builder(Kafka::new(config).unwrap(), NoDatabase)
}

/// What an absent offset means is known only to a database.
#[tokio::test]
async fn without_a_database_nothing_starts_at_the_end() {
    let latest = ProcessorConfig { start: StartAt::Latest, ..ProcessorConfig::default() };
    let processor = || Processor::new("group").handle(Ignore);
    for wrong in [
        builder().processor(processor().config(latest.clone())),
        builder().processor_defaults(latest.clone()).processor(processor()),
    ] {
        let error = wrong.build().err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("no database and start = latest"), "{error}");
    }
    let own = processor().config(ProcessorConfig::default());
    builder().processor_defaults(latest).processor(own).build().unwrap();
}

#[tokio::test]
async fn a_group_has_one_processor() {
    let ignore = |group: &str| Processor::new(group).handle(Ignore);
    builder().processor(ignore("one")).processor(ignore("other")).build().unwrap();
    let twice = builder().processor(ignore("one")).processor(ignore("other")).processor(ignore("one"));
    let error = twice.build().err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("two processors of group \"one\""), "{error}");
}
