//! The role `side`: a processor of a topic that a fault has for itself, in a group of its own. One row for each record.

use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use tidelock::{
    database::postgres::Postgres,
    error::BoxError,
    handler::{Context, Handler, Outcome},
    log::kafka::Kafka,
    message::Message,
    pipeline::Pipeline,
    processor::Processor,
};
use tidelock_campaign::Result;

use crate::{
    handler::{Inbound, TOPICS},
    pipeline,
};

#[derive(Args)]
pub(crate) struct Options {
    /// What it reads
    #[arg(long)]
    topic: String,
    /// Its group
    #[arg(long)]
    group: String,
}

/// Notes what it is given: `LIFE N` in the payload.
struct Keeper {
    group: String,
}

#[async_trait]
impl Handler<Postgres> for Keeper {
    type Event = Inbound;

    async fn handle(
        &self,
        message: &Message<Inbound>,
        context: &mut Context<'_, Postgres>,
    ) -> std::result::Result<Outcome, BoxError> {
        let text = str::from_utf8(message.event.payload.as_deref().unwrap_or_default())?;
        let (life, n) = text.split_once(' ').ok_or("a payload that is not LIFE N")?;
        sqlx::query(
            "INSERT INTO campaign.side (\"group\", topic, partition, \"offset\", life, n) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&self.group)
        .bind(&*message.topic)
        .bind(message.partition)
        .bind(message.offset)
        .bind(life.parse::<i32>()?)
        .bind(n.parse::<i64>()?)
        .execute(context.connection())
        .await?;
        Ok(Outcome::Done)
    }
}

/// It stays when it has given up: whoever started it reads in its log what it says.
pub(crate) async fn run(options: Options) -> Result<()> {
    let told = crate::told_to_stop();
    TOPICS.get_or_init(|| (options.topic.clone(), String::new()));
    let settings = crate::settings()?;
    let database = pipeline::connect(&settings.database).await?;
    let keeper = Keeper { group: options.group.clone() };
    let pipeline = Pipeline::builder(Kafka::new(settings.kafka)?, database)
        .processor_defaults(settings.processor)
        .processor(Processor::new(&options.group).handle(keeper))
        .build()?;
    pipeline::serve(pipeline, &told, Duration::MAX).await
}
