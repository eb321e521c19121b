//! What the campaign asks the cluster: the room where `rdkafka` is named.

mod foreign;
mod pulse;
mod side;

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tidelock_campaign::{Result, tables};

pub(crate) use foreign::{Parcel, produce};
pub(crate) use pulse::Pulse;

/// Partitions of each topic.
pub(crate) const PARTITIONS: i32 = 4;
const WAIT: Duration = Duration::from_secs(10);

/// Which partition something of the cluster's own is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Leads a partition of the input.
    Data,
    /// Leads a partition of the transaction log: coordinates transactions.
    Transactions,
    /// Coordinates the processor's group.
    Group,
}

/// A client of the brokers, not by way of the proxies.
pub(crate) struct Cluster {
    brokers: String,
    outsider: BaseConsumer,
    member: BaseConsumer,
}

impl Cluster {
    pub(crate) fn new(brokers: String) -> Result<Self> {
        let outsider = client(&brokers, "campaign.outsider", "read_uncommitted")?;
        let member = client(&brokers, tables::GROUP, "read_committed")?;
        Ok(Self { brokers, outsider, member })
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Creates topics with as many partitions as the input has, on every broker.
    pub(crate) async fn create_topics(&self, names: &[&str]) -> Result<()> {
        self.create(names, PARTITIONS).await
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?)
    }

    /// Creates topics, on every broker.
    pub(crate) async fn create(&self, names: &[&str], partitions: i32) -> Result<()> {
        let admin = self.admin()?;
        let deadline = Instant::now() + 3 * WAIT;
        for name in names {
            let topic =
                NewTopic::new(name, partitions, TopicReplication::Fixed(3)).set("min.insync.replicas", "2");
            loop {
                let answer = admin.create_topics([&topic], &AdminOptions::new()).await?;
                match answer.into_iter().next() {
                    None | Some(Ok(_)) => break,
                    Some(Err((name, code))) if Instant::now() > deadline => {
                        return Err(format!("topic {name} is not created: {code}").into());
                    }
                    Some(Err(_)) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        }
        Ok(())
    }

    /// The committed offsets of the processor's group, by partition; `None`: there is none.
    pub(crate) fn committed(&self) -> Result<Vec<Option<i64>>> {
        offsets(&self.member, tables::INPUT)
    }

    /// The same of another group.
    pub(crate) fn committed_of(&self, group: &str, topic: &str) -> Result<Vec<Option<i64>>> {
        offsets(&client(&self.brokers, group, "read_committed")?, topic)
    }
}

fn client(brokers: &str, group: &str, isolation: &str) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("reconnect.backoff.max.ms", "500")
        .set("log_level", "2")
        .create()?)
}

fn offsets(member: &BaseConsumer, topic: &str) -> Result<Vec<Option<i64>>> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(topic, partition);
    }
    let committed = member.committed_offsets(list, WAIT)?;
    let offset = |offset| if let Offset::Offset(at) = offset { Some(at) } else { None };
    Ok(committed.elements().iter().map(|element| offset(element.offset())).collect())
}
