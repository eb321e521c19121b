//! Class 14: messages of hostile sizes and forms.

use std::time::Duration;

use tidelock::{database::postgres::Postgres, message::MessageId};
use tidelock_campaign::{
    Result,
    identity::{HEADER, Identity, copies},
    tables,
};

use crate::{
    checker::{Aside, judge_aside},
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Inject, Ongoing, Part},
    history::now,
    kafka::{Parcel, produce},
    role::{Role, Scene},
    world::World,
};

/// Who writes them.
const CLERK: &str = "forms";
/// How long they may take to be written, and to come where they belong.
const WITHIN: Duration = Duration::from_secs(60);
/// Under the topic's limit, ordinary batches are too large and ordinary records are not.
const TOPIC_LIMIT: &str = "20000";
const LIMIT: &str = "max.message.bytes";
/// Quarantined messages of the run's own topics and others.
const HELD: &str = "SELECT count(*) FROM tidelock.quarantine WHERE state = 'held'";

pub(super) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "odd-forms",
            "0 bytes, no key, no payload, a key of 0 and one of 5000 bytes, every byte there is, headers of 1 MB, 5000 headers",
            EXACTLY_ONCE,
            &[Part::Writers],
            Box::new(|world, _| {
                world.crew.hire_an_outlaw(CLERK, Role::Forms { kind: "odd", count: 2 })?;
                Ok(Ongoing::new("22 messages", written).after_others())
            }),
        ),
        fault(
            "over-the-limit",
            "payloads and headers over every limit, a topic that cannot be, and what comes behind them under their keys",
            "they and what is behind them end in the quarantine, also when they are released; all else as ever",
            &[Part::Alone],
            Box::new(|world, _| {
                write(world, "refused", 1)?;
                quarantined(world, "over-the-limit")?;
                Ok(Ongoing::new("8 messages", |world| ask_again(world, "over-the-limit")))
            }),
        ),
        fault(
            "long-key-refused",
            "a message over the limit whose key has 5000 bytes, and one behind it",
            "both end in the quarantine; all else as ever",
            &[Part::Alone],
            Box::new(|world, _| {
                write(world, "long-key", 1)?;
                quarantined(world, "long-key-refused")?;
                Ok(Ongoing::new("2 messages", |_| Ok(())))
            }),
        ),
        fault(
            "topic-limit",
            "the topic takes less than a batch and less than some messages; then again more, and they are released",
            "they and what is behind them come in order after the release; all else as ever",
            &[Part::Alone],
            Box::new(|world, _| {
                world.owe(LIMIT, |world| Ok(world.lab.cluster().set_topic(tables::INPUT, LIMIT, None)?));
                world.lab.cluster().set_topic(tables::INPUT, LIMIT, Some(TOPIC_LIMIT))?;
                world.sleep(Duration::from_secs(1));
                let before = owed(world)?;
                write(world, "bulky", 2)?;
                world.demand("topic-limit", "the quarantine of 12 messages", WITHIN, || {
                    owed(world).is_ok_and(|owed| owed >= before + 12)
                });
                Ok(Ongoing::new("12 messages", release_all))
            }),
        ),
        fault(
            "foreign",
            "a producer that knows nothing of the framework: text that is none in keys, payloads and headers, repeated headers, \
             an output that is too large",
            "a group of its own handles each once and in order; the output that is too large ends in the quarantine",
            &[Part::Alone],
            Box::new(|world, _| foreign(world)),
        ),
    ]
}

fn fault(name: &str, doc: &str, must_hold: &'static str, touches: &'static [Part], inject: Inject) -> Fault {
    Fault {
        class: Class::Forms,
        name: name.into(),
        doc: doc.into(),
        must_hold,
        within: (touches == [Part::Writers]).then_some(Duration::from_secs(15)),
        lasts_ms: 1_000..=3_000,
        touches,
        inject,
    }
}

/// Has them written, all of them.
fn write(world: &World, kind: &'static str, count: u64) -> Result<()> {
    world.crew.hire_an_outlaw(CLERK, Role::Forms { kind, count })?;
    written(world)
}

/// Waits for whoever writes them.
fn written(world: &World) -> Result<()> {
    world.demand(CLERK, "that all were written", WITHIN, || world.crew.ended_well(CLERK));
    world.crew.dismiss_at_once(CLERK);
    Ok(())
}

/// Everything that the ledger says is refused is in the quarantine, and nothing else but what `owed` counts.
fn quarantined(world: &World, whom: &str) -> Result<()> {
    let refused = world.db.number("SELECT count(*) FROM campaign.ledger WHERE refused")?;
    let what = format!("the quarantine of {refused} messages");
    world.demand(whom, &what, WITHIN, || world.db.number(HELD).is_ok_and(|held| held == refused));
    Ok(())
}

/// Messages in the quarantine that came there because the topic's limit was lowered.
fn owed(world: &World) -> Result<i64> {
    let refused = "SELECT count(*) FROM campaign.ledger WHERE refused";
    Ok(world.db.number(HELD)? - world.db.number(refused)?)
}

/// Asks for the release of everything that is refused for good: it is refused again.
fn ask_again(world: &World, whom: &str) -> Result<()> {
    world.db.run("UPDATE tidelock.quarantine SET release_asked = true WHERE state = 'held'")?;
    let asked = "SELECT count(*) FROM tidelock.quarantine WHERE release_asked OR state <> 'held'";
    world.demand(whom, "that what was released is held again", WITHIN, || {
        world.db.number(asked).is_ok_and(|asked| asked == 0)
    });
    quarantined(world, whom)
}

/// Lifts the limit and releases what it held back, as an operator would: by the message's id.
fn release_all(world: &World) -> Result<()> {
    world.pay(LIMIT)?;
    world.sleep(Duration::from_secs(1));
    let bulky = "SELECT message_id FROM tidelock.quarantine q WHERE state = 'held' AND starts_with(encode(key, 'escape'), 'Bulky-') \
         AND NOT EXISTS (SELECT FROM tidelock.quarantine o WHERE o.key = q.key AND o.entry < q.entry) ORDER BY entry";
    let rows = world.db.rows(bulky)?;
    let config = tidelock::database::postgres::PostgresConfig {
        url: world.db.url().to_owned().into(),
        ..Default::default()
    };
    world.db.block_on(async {
        let postgres = Postgres::connect(config).await?;
        for row in &rows {
            let id: sqlx::types::Uuid = sqlx::Row::get(row, 0);
            postgres.release(MessageId::from(id)).await?;
        }
        Result::<()>::Ok(())
    })?;
    world.demand("topic-limit", "that all that was released left the quarantine", WITHIN, || {
        owed(world).is_ok_and(|owed| owed == 0)
    });
    Ok(())
}

/// Records of each form, in rounds.
const ROUNDS: u64 = 20;

/// What a foreign producer sends in a round; the key is that of the form in all rounds.
fn forms() -> Vec<Parcel> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let bytes = || Some((0..=255).rev().collect::<Vec<u8>>());
    let named = |name: &str, value| (name.to_owned(), value);
    let base = || Parcel { key: text("base"), payload: text("payload"), headers: vec![] };
    vec![
        Parcel { key: bytes(), payload: bytes(), ..base() },
        Parcel { key: Some(vec![]), payload: Some(vec![]), ..base() },
        Parcel { key: None, ..base() },
        Parcel { key: text("tombstone"), payload: None, ..base() },
        Parcel {
            key: text("wild headers"),
            headers: vec![
                named("x", bytes()),
                named("", None),
                named("ce_id", bytes()),
                named("traceparent", bytes()),
            ],
            ..base()
        },
        Parcel {
            key: text("repeated headers"),
            headers: vec![
                named("x", text("1")),
                named("x", None),
                named("x", text("3")),
                named(HEADER, text("not the last one")),
                named("ce_id", text("one")),
                named("ce_id", text("two")),
                named("ce_type", text("Other")),
                named("ce_type", text("Parcel")),
            ],
            ..base()
        },
        Parcel { key: text("a type that is no text"), headers: vec![named("ce_type", bytes())], ..base() },
        Parcel {
            key: text("headers of 1 MB"),
            headers: (0..10).map(|number| named(&format!("h{number}"), Some(vec![0xff; 100_000]))).collect(),
            ..base()
        },
    ]
}

fn foreign(world: &World) -> Result<Ongoing> {
    let name = world.scene();
    let scene = Scene::new(&name, tables::SIDE_EFFECTS);
    world.db.block_on(world.cluster.create_topics(&[&scene.input, &scene.output]))?;
    let forms = forms();
    let (mut parcels, mut rows) = (Vec::new(), Vec::new());
    let mut seq = 0;
    for round in 1..=ROUNDS {
        for form in &forms {
            seq += 1;
            let mut parcel = form.clone();
            let key_seq = if parcel.key.is_some() { round } else { 0 };
            seal(world, &mut parcel, seq, key_seq);
            rows.push((seq, key_seq, copies(seq, parcel.payload.is_some())));
            parcels.push(parcel);
        }
    }
    // A broker takes it from a stranger, and not from the framework: its output is refused.
    seq += 1;
    let mut large =
        Parcel { key: Some(b"large".to_vec()), payload: Some(vec![7; 1_030_000]), headers: vec![] };
    seal(world, &mut large, seq, 1);
    let refused = i64::from(copies(seq, true));
    rows.push((seq, 1, 0));
    parcels.push(large);
    produce(world.cluster.brokers(), &scene.input, &parcels)?;
    let count = parcels.len();
    world.crew.hire_aside(
        &name,
        Role::Aside { scene: scene.clone(), relay: false },
        vec![("TIDELOCK_PROCESSOR_START".into(), "earliest".into())],
        None,
    )?;
    let what = format!("{count} messages in {name}");
    Ok(Ongoing::new(what, move |world| {
        let handled = format!("SELECT count(*) FROM {}", scene.effects);
        let all = i64::try_from(count)?;
        world.demand(&name, &format!("the effect of {count} messages"), WITHIN, || {
            world.db.number(&*handled).is_ok_and(|handled| handled >= all)
        });
        let held = format!("SELECT count(*) FROM tidelock.quarantine WHERE topic = '{}'", scene.output);
        world.demand(&name, &format!("the quarantine of {refused} outputs"), WITHIN, || {
            world.db.number(&*held).is_ok_and(|held| held == refused)
        });
        // What was aborted with the refused ones is sent again.
        world.demand(&name, "that all outputs are sent", WITHIN, || sent(world, &scene).unwrap_or(false));
        world.crew.dismiss(&name)?;
        let values: Vec<_> = rows
            .iter()
            .map(|(seq, key_seq, copies)| format!("(1, {seq}, {key_seq}, {seq}, 1, {copies})"))
            .collect();
        let ledger = format!("SELECT * FROM (VALUES {}) AS ledger", values.join(", "));
        let aside = Aside { database: world.db.url(), ledger: Some(&ledger), effects: true, partly: false };
        judge_aside(world, &name, &scene, &aside)?;
        // The quarantine is compared with the run's own ledger elsewhere, and the effects are of this scene alone.
        world.db.run(format!("DELETE FROM tidelock.quarantine WHERE topic = '{}'", scene.output))?;
        world.db.run(format!("DELETE FROM {}", scene.effects))?;
        Ok(())
    }))
}

/// Whether the group's offsets are those of the fence rows: then the outputs of the last batches are published.
fn sent(world: &World, scene: &Scene) -> Result<bool> {
    let committed = world.cluster.committed_of(&scene.group, &scene.input)?;
    let fences = super::side::fences(world, &scene.group, &scene.input)?;
    Ok(fences.iter().all(|(partition, next)| committed.get(*partition as usize) == Some(&Some(*next))))
}

/// Adds the header that says which it is, as the last one.
fn seal(world: &World, parcel: &mut Parcel, seq: u64, key_seq: u64) {
    let run = world.run.clone();
    let identity = Identity { run, producer: 1, seq, key_seq, txn: seq, of: 1, copy: 0, at: now() };
    let header = identity.header(parcel.key.as_deref(), parcel.payload.as_deref());
    parcel.headers.push((HEADER.to_owned(), Some(header.into_bytes())));
}
