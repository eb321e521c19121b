//! A topic, a group and subjects that a fault has for itself, and what became of the records.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use sqlx::Row as _;
use tidelock_campaign::Result;

use crate::{role::Role, world::World};

/// How long records of a topic of its own may take until they are handled, on a machine that has other work.
const HANDLED_WITHIN: Duration = Duration::from_secs(60);

/// One topic and one group.
pub(super) struct Side {
    pub(super) topic: String,
    pub(super) group: String,
    members: Vec<String>,
}

/// What the rows say of one life of the topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Handled {
    /// Rows.
    pub(super) rows: i64,
    /// Different records among them.
    pub(super) records: i64,
}

/// What a member says of itself in its log.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) at: SystemTime,
    pub(super) text: String,
}

impl Side {
    /// A topic that nobody has used, which does not exist yet; what of it is left goes at the end of the fault.
    pub(super) fn new(world: &World, name: &str) -> Self {
        let number = world.side();
        let topic = format!("campaign.{name}.{number}");
        world.owe(&topic, {
            let (topic, prefix) = (topic.clone(), format!("{name}-{number}-"));
            move |world| {
                world.crew.names(&prefix).iter().for_each(|member| world.crew.dismiss_at_once(member));
                match world.cluster.exists(&topic)? {
                    true => world.db.block_on(world.cluster.delete(&topic)),
                    false => Ok(()),
                }
            }
        });
        Self { topic, group: format!("{name}-{number}"), members: Vec::new() }
    }

    /// So many more members of that group: this side's own, or another one beside it.
    pub(super) fn hire(&mut self, world: &World, group: &str, count: usize) -> Result<()> {
        for _ in 0..count {
            let name = format!("{}-{}", self.group, self.members.len() + 1);
            let role = Role::Side { topic: self.topic.clone(), group: group.to_owned() };
            world.crew.hire_an_outlaw(&name, role)?;
            self.members.push(name);
        }
        Ok(())
    }

    pub(super) fn create(&self, world: &World, partitions: i32) -> Result<()> {
        world.db.block_on(world.cluster.create(&[self.topic.as_str()], partitions))
    }

    pub(super) fn delete(&self, world: &World) -> Result<()> {
        world.db.block_on(world.cluster.delete(&self.topic))
    }

    /// kill -9 of every member, who are forgotten.
    pub(super) fn kill(&mut self, world: &World) {
        self.members.drain(..).for_each(|member| world.crew.dismiss_at_once(&member));
    }

    pub(super) fn handled(&self, world: &World, group: &str, life: u32) -> Result<Handled> {
        let rows = world.db.rows(format!(
            "SELECT count(*), count(DISTINCT n) FROM campaign.side \
             WHERE \"group\" = '{group}' AND topic = '{}' AND life = {life}",
            self.topic
        ))?;
        let row = rows.first().ok_or("no row")?;
        Ok(Handled { rows: row.try_get(0)?, records: row.try_get(1)? })
    }

    /// Waits until a group has handled so many records of a life of the topic; what it has handled then.
    pub(super) fn wait_handled(&self, world: &World, group: &str, life: u32, count: i64) -> Result<Handled> {
        // Not cut short by Ctrl-C: what is judged must be complete.
        let deadline = Instant::now() + HANDLED_WITHIN;
        loop {
            let handled = self.handled(world, group, life)?;
            if handled.records >= count || Instant::now() > deadline {
                return Ok(handled);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What its members say of themselves, all of it.
    pub(super) fn said(&self, world: &World) -> String {
        self.members.iter().map(|member| world.log_of(member)).collect()
    }

    /// The first state of a component that has given up, from then on.
    pub(super) fn failed(&self, world: &World, since: SystemTime) -> Option<Said> {
        quote(&self.said(world), "Failed(\"", since)
    }

    /// What a member says of the topic when it is not there, from then on.
    pub(super) fn missing(&self, world: &World, since: SystemTime) -> Option<Said> {
        quote(&self.said(world), &format!(" topic {}\": Recovering(\"", self.topic), since)
    }

    /// Ends the members and the topic.
    pub(super) fn end(self, world: &World) -> Result<()> {
        self.members.iter().for_each(|member| world.crew.dismiss_if_there(member));
        world.pay(&self.topic)
    }
}

/// The first line since then that has this, from there on, not more of it than a reader needs. One without a time counts as
/// written now.
fn quote(said: &str, from: &str, since: SystemTime) -> Option<Said> {
    said.lines().find_map(|line| {
        let text = line[line.find(from)?..].chars().take(400).collect();
        let at = line.split(' ').next().and_then(|at| humantime::parse_rfc3339(at).ok());
        Some(Said { at: at.unwrap_or_else(SystemTime::now), text }).filter(|said| said.at >= since)
    })
}

/// The next offset of a group's fence, by partition.
pub(super) fn fences(world: &World, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let rows = world.db.rows(format!(
        "SELECT partition, next_offset FROM tidelock.fence WHERE \"group\" = '{group}' AND topic = '{topic}'"
    ))?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_is_no_answer() {
        let at = |at| humantime::parse_rfc3339(at).unwrap();
        let log = "2026-11-22T14:00:00.100000Z  INFO health {\"a\": Failed(\"early\")}\n\
                   2026-11-22T14:00:05.200000Z  INFO health {\"a\": Failed(\"late\")}\n";
        let said = quote(log, "Failed(\"", at("2026-11-22T14:00:01Z")).unwrap();
        assert_eq!((said.at, said.text.as_str()), (at("2026-11-22T14:00:05.2Z"), "Failed(\"late\")}"));
        assert!(quote(log, "Failed(\"", at("2026-11-22T14:00:06Z")).is_none());
        assert_eq!(
            quote("Failed(\"no time\")", "Failed(\"", SystemTime::UNIX_EPOCH).unwrap().text,
            "Failed(\"no time\")"
        );
    }
}
