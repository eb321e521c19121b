//! Class 8 too: a database that a standby or a backup takes the place of. The run would end with it, so a relay and a
//! processor with a server, topics and a group of their own suffer it beside the run.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use sqlx::Row as _;
use tidelock_campaign::{
    Result,
    identity::{HEADER, Identity},
    tables,
};
use tidelock_lab::{Backup, Lab, Standby};

use crate::{
    checker::{Aside, judge_aside},
    class::Class,
    database::Db,
    fault::{Fault, Ongoing, Part},
    history::now,
    kafka::{Parcel, produce},
    role::{Role, Scene},
    world::World,
};

/// Messages of each part of the story, and their rate.
const MESSAGES: i64 = 150;
const RATE: f64 = 100.0;
const WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until every component that must has refused.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// How long those that refused are watched for what they must not do.
const WATCHED: Duration = Duration::from_secs(3);
const SHARDS: u32 = 2;
/// The number of a producer that has nothing to do with the database, and of its messages: some for every partition.
const STRANGER: u32 = 1_000_000;
const STRANGERS: u64 = 120;

/// What takes the server's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// A synchronous standby, while messages flow.
    Synchronous,
    /// A standby that has not followed for a while.
    Behind,
    /// An older state of the server itself.
    Backup,
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "failover-to-a-standby",
            "beside the run: a synchronous standby is promoted while messages flow",
            "no acknowledged commit is lost; the relay says that it is another timeline, and publishes nothing more",
            Successor::Synchronous,
        ),
        fault(
            "failover-that-lost-commits",
            "beside the run: a standby is promoted that lacks commits whose messages were published and handled",
            "the relay says that it is another timeline, the partitions that lack commits say so: nothing more is published \
             or handled",
            Successor::Behind,
        ),
        fault(
            "restored-from-a-backup",
            "beside the run: the server is put back to a backup under a running relay and processor",
            "the relay and the partitions that lack commits say that it was restored: nothing more is published or handled",
            Successor::Backup,
        ),
    ]
}

fn fault(name: &'static str, doc: &str, must_hold: &'static str, successor: Successor) -> Fault {
    Fault {
        class: Class::Database,
        name: name.into(),
        doc: doc.into(),
        must_hold,
        // The run is not touched by it.
        within: Some(Duration::from_secs(15)),
        lasts_ms: 0..=500,
        touches: &[Part::Alone],
        inject: Box::new(move |world, _| {
            let stage = Stage::set(world, name)?;
            let refused = stage.play(world, successor)?;
            Ok(Ongoing::new(refused, move |world| stage.strike(world)))
        }),
    }
}

fn writer(scene: &str) -> String {
    format!("{scene}-writer")
}

/// A scene with a server of its own.
pub(super) struct Stage {
    fault: &'static str,
    lab: Arc<Lab>,
    /// Past the proxy, to the first server.
    pub(super) db: Db,
    pub(super) scene: Scene,
    settings: Vec<(String, String)>,
}

impl Stage {
    /// With everything in its place, and relay and processor at work under the group's name.
    pub(super) fn set(world: &World, fault: &'static str) -> Result<Self> {
        let stage = Self::bare(world, fault)?;
        stage.db.prepare()?;
        stage.works(world, &stage.scene.group, None)?;
        Ok(stage)
    }

    /// With a server and topics, and nobody there.
    pub(super) fn bare(world: &World, fault: &'static str) -> Result<Self> {
        let lab = Arc::new(Lab::builder().kafka(false).proxied(true).start()?);
        let db = world.db.aside(lab.database_url())?;
        let scene = Scene::new(&world.scene(), tables::EFFECTS);
        world.db.block_on(world.cluster.create_topics(&[&scene.input, &scene.output]))?;
        let settings = vec![
            ("TIDELOCK_DATABASE_URL".to_owned(), lab.proxied_database_url()),
            ("TIDELOCK_RELAY_NAME".to_owned(), scene.group.clone()),
        ];
        let of_scene = scene.group.clone();
        world.owe(scene.group.clone(), move |world| {
            world.crew.names(&of_scene).iter().for_each(|name| world.crew.dismiss_at_once(name));
            Ok(())
        });
        Ok(Self { fault, lab, db, scene, settings })
    }

    /// Relay and processor, of that program if it is not that of all.
    pub(super) fn works(&self, world: &World, name: &str, program: Option<PathBuf>) -> Result<()> {
        let role = Role::Aside { scene: self.scene.clone(), relay: true };
        world.crew.hire_aside(name, role, self.settings.clone(), program)
    }

    pub(super) fn writes(&self, world: &World) -> Result<()> {
        let role = Role::AsideWriter { scene: self.scene.clone(), rate: RATE };
        world.crew.hire_aside(&writer(&self.scene.group), role, self.settings.clone(), None)
    }

    pub(super) fn stops_writing(&self, world: &World) {
        world.crew.dismiss_if_there(&writer(&self.scene.group));
    }

    /// Creates or upgrades the framework's tables, by that program.
    pub(super) fn migrates(&self, world: &World, program: Option<PathBuf>) -> Result<()> {
        let name = format!("{}-migration", self.scene.group);
        world.crew.hire_aside(&name, Role::Migrate, self.settings.clone(), program)?;
        world.demand(self.fault, "the end of the migration", WITHIN, || world.crew.ended_well(&name));
        world.crew.dismiss_at_once(&name);
        Ok(())
    }

    /// What the subjects of the scene say.
    pub(super) fn said(&self, world: &World) -> String {
        world.crew.names(&self.scene.group).iter().map(|name| world.log_of(name)).collect()
    }

    /// What is wrong with the scene is a finding; `partly`: not everything needs to have come through.
    pub(super) fn judge(&self, world: &World, partly: bool) -> Result<()> {
        let aside = Aside { database: self.db.url(), ledger: None, effects: true, partly };
        judge_aside(world, self.fault, &self.scene, &aside)
    }

    /// So many more messages from the beginning to the end.
    pub(super) fn flow(&self, world: &World) -> Result<()> {
        let db = &self.db;
        let before = db.ledger()?;
        self.writes(world)?;
        world.demand(self.fault, "that messages were written", WITHIN, || {
            db.ledger().is_ok_and(|rows| rows >= before + MESSAGES)
        });
        world.crew.dismiss(&writer(&self.scene.group))?;
        let rest = "SELECT (SELECT count(*) FROM tidelock.outbox) \
             + (SELECT count(*) FROM campaign.ledger) - (SELECT count(*) FROM campaign.effect)";
        world.demand(self.fault, "that they were handled", WITHIN, || {
            db.number(rest).is_ok_and(|rest| rest == 0)
        });
        // The offsets of the last batch.
        world.sleep(Duration::from_secs(2));
        Ok(())
    }

    /// Nobody is left of it.
    pub(super) fn strike(self, world: &World) -> Result<()> {
        world.pay(&self.scene.group)
    }

    fn play(&self, world: &World, successor: Successor) -> Result<String> {
        let server = self.lab.postgres();
        let (mut standby, mut backup): (Option<Standby>, Option<Backup>) = (None, None);
        let mut ledger = String::new();
        if successor == Successor::Synchronous {
            standby = Some(self.lab.add_standby(server, true)?);
            self.flow(world)?;
            self.writes(world)?;
            world.sleep(Duration::from_secs(3));
        } else {
            self.flow(world)?;
            if successor == Successor::Behind {
                standby = Some(self.lab.add_standby(server, false)?);
                let known = self.db.ledger()?;
                let copied = standby.as_ref().map(Standby::server);
                let count = "SELECT count(*) FROM campaign.ledger";
                world.demand(self.fault, "that the standby has followed", WITHIN, || {
                    copied.is_some_and(|copy| copy.psql(count).is_ok_and(|rows| rows == known.to_string()))
                });
                copied.map(tidelock_lab::Server::kill).transpose()?;
            } else {
                backup = Some(self.lab.back_up(server)?);
            }
            self.flow(world)?;
            ledger = values(&self.db)?;
            // They are in the topic, and nobody handles them.
            let strangers: Vec<_> =
                (1..=STRANGERS).map(|seq| format!(", ({STRANGER}, {seq}, 0, {seq}, 1, 0)")).collect();
            ledger = ledger.replace(") AS ledger", &format!("{}) AS ledger", strangers.concat()));
        }
        if let Some(backup) = &backup {
            self.lab.restore(server, backup)?;
        }
        if let Some(standby) = &standby {
            server.kill()?;
            // The one that has not followed is still dead.
            standby.server().start()?;
            self.lab.promote(standby)?;
        }
        let now = match &standby {
            Some(standby) => {
                world.db.aside(format!("postgres://postgres@{}/postgres", standby.server().address()))?
            }
            None => world.db.aside(self.lab.database_url())?,
        };
        world.crew.dismiss_at_once(&writer(&self.scene.group));
        self.refused(world, successor, &now)?;
        // What is written from now on waits for an operator.
        let (waits, effects) = (now.ledger()?, "SELECT count(*) FROM campaign.effect");
        let handled = now.number(effects)?;
        if successor != Successor::Synchronous {
            self.writes(world)?;
            world.demand(self.fault, "that messages were written to the successor", WITHIN, || {
                now.ledger().is_ok_and(|rows| rows >= waits + 50)
            });
            world.crew.dismiss(&writer(&self.scene.group))?;
        }
        world.sleep(WATCHED);
        if successor != Successor::Synchronous && now.number(effects)? != handled {
            world.crew.find(self.fault, "something was handled after the refusal");
        }
        let aside = match successor {
            // Some of the ledger is not published yet, and will not be.
            Successor::Synchronous => {
                Aside { database: now.url(), ledger: None, effects: true, partly: true }
            }
            _ => Aside { database: now.url(), ledger: Some(&ledger), effects: false, partly: false },
        };
        judge_aside(world, self.fault, &self.scene, &aside)?;
        drop(standby);
        Ok(format!("{} with {waits} messages", self.scene.group))
    }

    /// Waits until both shards and every partition that must have refused, in the subject's own words.
    fn refused(&self, world: &World, successor: Successor, now: &Db) -> Result<()> {
        let reason = match successor {
            Successor::Backup => "restored",
            _ => "on timeline 2",
        };
        let mut wanted: Vec<[String; 3]> = (0..SHARDS)
            .map(|shard| {
                let whose = format!("relay {} shard {shard}", self.scene.group);
                ["the relay stopped".to_owned(), whose, reason.to_owned()]
            })
            .collect();
        let lacking = self.lacking(world, now)?;
        if !lacking.is_empty() {
            // A partition looks at its fence when something comes, and the relay brings nothing any more.
            produce(world.cluster.brokers(), &self.scene.input, &strangers(world))?;
        }
        if lacking.is_empty() && successor != Successor::Synchronous {
            world.crew.find(self.fault, "no partition lacks a commit: nothing was tried");
        }
        if !lacking.is_empty() && successor == Successor::Synchronous {
            world
                .crew
                .find(self.fault, &format!("partitions {lacking:?} lack commits that were acknowledged"));
        }
        wanted.extend(lacking.iter().map(|partition| {
            let whose = format!("{}[{partition}]: the database expects", self.scene.input);
            ["the partition stopped".to_owned(), whose, "restored".to_owned()]
        }));
        let said = |what: &[String; 3]| {
            let log = world.log_of(&self.scene.group);
            log.lines().any(|line| what.iter().all(|part| line.contains(part.as_str())))
        };
        for what in wanted {
            world.demand(self.fault, &format!("that the log says {what:?}"), REFUSED_WITHIN, || said(&what));
        }
        Ok(())
    }

    /// The partitions whose fence is behind the group's committed offset.
    fn lacking(&self, world: &World, now: &Db) -> Result<Vec<i32>> {
        let committed = world.cluster.committed_of(&self.scene.group, &self.scene.input)?;
        let fences = now.rows("SELECT partition, next_offset FROM tidelock.fence")?;
        let fences: BTreeMap<i32, i64> = fences.iter().map(|row| (row.get(0), row.get(1))).collect();
        let behind = |(partition, committed): (i32, &Option<i64>)| {
            let fence = fences.get(&partition).copied().unwrap_or(0);
            committed.is_some_and(|committed| fence < committed).then_some(partition)
        };
        Ok((0..).zip(&committed).filter_map(behind).collect())
    }
}

/// Messages of a producer that has nothing to do with the database, for every partition.
fn strangers(world: &World) -> Vec<Parcel> {
    let parcel = |seq| {
        let key = format!("stranger-{seq}").into_bytes();
        let run = world.run.clone();
        let identity =
            Identity { run, producer: STRANGER, seq, key_seq: 0, txn: seq, of: 1, copy: 0, at: now() };
        let header = identity.header(Some(&key), Some(b"")).into_bytes();
        Parcel { key: Some(key), payload: Some(vec![]), headers: vec![(HEADER.to_owned(), Some(header))] }
    };
    (1..=STRANGERS).map(parcel).collect()
}

/// The ledger as it is now, as a query that needs no table.
fn values(db: &Db) -> Result<String> {
    let rows = db.rows("SELECT producer, seq, key_seq, txn, \"of\", copies FROM campaign.ledger")?;
    let values: Vec<_> = rows
        .iter()
        .map(|row| {
            let (producer, of, copies): (i32, i32, i32) = (row.get(0), row.get(4), row.get(5));
            let (seq, key_seq, txn): (i64, i64, i64) = (row.get(1), row.get(2), row.get(3));
            format!("({producer}, {seq}, {key_seq}, {txn}, {of}, {copies})")
        })
        .collect();
    Ok(format!("SELECT * FROM (VALUES {}) AS ledger", values.join(", ")))
}
