//! A right history, by seed: rollbacks, aborted copies, messages without key or payload, faults.

use std::collections::BTreeMap;

use tidelock_checker::{Case, Effect, History, Identity, Progress, Role, Row, Sealed, Topic};

use crate::scene::{IN, OUT, Scene, Told};

/// When the run begins, in milliseconds since 1970.
pub(crate) const BEGIN: u64 = 1_700_000_000_000;
const PARTITIONS: i32 = 4;
const STEPS: u64 = 1_200;

/// Numbers that look like chance and are the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A right history.
pub(crate) fn right(seed: u64) -> Scene {
    let topics = [("in", Role::In), ("out", Role::Out)];
    let topics = topics.map(|(name, role)| Topic { name: name.into(), role });
    let case = Case {
        run: "r1".into(),
        topics: topics.into(),
        ledger: true,
        effects: true,
        history: Some(history()),
        ..Case::default()
    };
    let mut scene = Scene {
        case,
        ledger: Vec::new(),
        effects: Vec::new(),
        records: Vec::new(),
        rolled_back: Vec::new(),
        progress: Vec::new(),
        open: BTreeMap::new(),
    };
    let mut writers = Writers::default();
    let mut dice = Dice::new(seed);
    for step in 0..STEPS {
        writers.transaction(&mut scene, &mut dice, BEGIN + step * 10);
    }
    scene.number();
    scene.watch();
    scene.progress = progress(&scene);
    scene
}

fn history() -> History {
    let mut history = History::default();
    for line in [
        format!(r#"{{"t":{BEGIN},"event":"start","seed":1}}"#),
        format!(
            r#"{{"t":{},"event":"fault","id":1,"class":"broker-kill","what":"kafka-2","allows_progress":true,"within_ms":900}}"#,
            BEGIN + 3_000
        ),
        format!(r#"{{"t":{},"event":"healed","id":1}}"#, BEGIN + 4_000),
        format!(
            r#"{{"t":{},"event":"fault","id":2,"class":"database-kill","what":"db","allows_progress":false}}"#,
            BEGIN + 6_000
        ),
        format!(r#"{{"t":{},"event":"healed","id":2}}"#, BEGIN + 7_000),
        format!(r#"{{"t":{},"event":"writers-done"}}"#, BEGIN + STEPS * 10),
    ] {
        history.add(&line).unwrap();
    }
    history
}

/// Every message 40 ms after it was enqueued.
fn progress(scene: &Scene) -> Vec<Progress> {
    let visible = scene.records.iter().filter(|told| told.visible);
    let lines = visible.map(|told| {
        let at = told.says().at;
        Progress {
            t: at + 40,
            last: at + 40,
            topic: scene.case.topics[told.topic].name.clone(),
            partition: told.partition,
            count: 1,
            at_min: at,
            at_max: at,
            offset: told.offset,
        }
    });
    lines.collect()
}

#[derive(Default)]
struct Writers {
    seqs: BTreeMap<u32, u64>,
    txns: BTreeMap<u32, u64>,
    keys: BTreeMap<Vec<u8>, u64>,
}

impl Writers {
    fn transaction(&mut self, scene: &mut Scene, dice: &mut Dice, at: u64) {
        let producer = 1 + dice.below(3) as u32;
        let txn = self.txns.entry(producer).or_default();
        *txn += 1;
        let (txn, of) = (*txn, 1 + dice.below(4) as u32);
        let before = self.keys.clone();
        let commits = dice.below(8) > 0;
        let messages: Vec<_> = (0..of).map(|_| self.message(dice, producer, txn, of, at)).collect();
        if !commits {
            self.keys = before;
            scene.rolled_back.extend(messages);
            return;
        }
        if dice.below(10) == 0 {
            // The relay's first attempt was aborted.
            scene.records.extend(messages.iter().map(|told| Told { visible: false, ..told.clone() }));
        }
        scene.records.extend(messages.iter().cloned());
        messages.iter().for_each(|told| handle(scene, told));
    }

    fn message(&mut self, dice: &mut Dice, producer: u32, txn: u64, of: u32, at: u64) -> Told {
        let seq = self.seqs.entry(producer).or_default();
        *seq += 1;
        let seq = *seq;
        let name = dice.below(25);
        let key = (name > 0).then(|| format!("key-{name}").into_bytes());
        let payload = match dice.below(12) {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some((0..dice.below(60)).map(|_| dice.below(256) as u8).collect()),
        };
        let key_seq = key.clone().map_or(0, |key| {
            let last = self.keys.entry(key).or_default();
            *last += 1;
            *last
        });
        let partition = if key.is_some() { name as i32 % PARTITIONS } else { dice.below(4) as i32 };
        let identity = Identity { run: "r1", producer, seq, key_seq, txn, of, copy: 0, at };
        let header = Some(identity.seal(key.as_deref(), payload.as_deref()));
        Told { topic: IN, partition, offset: 0, key, payload, header, visible: true }
    }
}

/// The row, the effect and the outputs of a message.
fn handle(scene: &mut Scene, told: &Told) {
    let Identity { producer, seq, key_seq, txn, of, .. } = told.says();
    let copies = [0, 2, 1, 1, 1, 1, 1, 1, 1, 1][(seq % 10) as usize];
    scene.ledger.push(Row { producer, seq, key_seq, txn, of, copies });
    let crc = Sealed::read(told.header.as_deref().unwrap().as_bytes()).unwrap().crc;
    scene.effects.push(Effect { producer, seq, crc });
    for copy in 0..copies {
        let mut output = Told { topic: OUT, ..told.clone() };
        output.say(|identity| identity.copy = copy);
        scene.records.push(output);
    }
}
