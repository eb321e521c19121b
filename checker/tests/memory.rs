//! A million messages: bytes and time for each.

use std::time::Instant;

use tidelock_checker::{
    Bounds, Case, Effect, Evidence, Identity, Progress, Record, Result, Role, Row, Sealed, Topic, View,
    examine,
};

const MESSAGES: u64 = 1_000_000;
const PRODUCERS: u64 = 10;
const KEYS: u64 = 1_000;
/// For each message: ledger, input, effect, two copies owed and two heard, and its transaction: 8 bits, and digests.
const BYTES_PER_MESSAGE: f64 = 1.1;
/// For each key of each topic: its hash, its last number, copy and partition, in a table with room to grow.
const BYTES_PER_KEY: f64 = 80.0;

/// Makes messages up as they are asked for, and keeps none.
struct Stream;

fn message(number: u64) -> (Identity<'static>, [u8; 8]) {
    let (producer, seq) = ((number % PRODUCERS) as u32, number / PRODUCERS + 1);
    let key = number % KEYS;
    let txn = (seq + 1) / 2;
    let identity =
        Identity { run: "r", producer, seq, key_seq: number / KEYS + 1, txn, of: 2, copy: 0, at: 1 };
    (identity, key.to_le_bytes())
}

fn copies(seq: u64) -> u32 {
    [0, 2, 1, 1, 1, 1, 1, 1, 1, 1][(seq % 10) as usize]
}

impl Evidence for Stream {
    fn ledger(&mut self, each: &mut dyn FnMut(Row)) -> Result<()> {
        (0..MESSAGES).map(|number| message(number).0).for_each(|identity| {
            let Identity { producer, seq, key_seq, txn, of, .. } = identity;
            each(Row { producer, seq, key_seq, txn, of, copies: copies(seq) });
        });
        Ok(())
    }

    fn effects(&mut self, each: &mut dyn FnMut(Effect)) -> Result<()> {
        for (identity, key) in (0..MESSAGES).map(message) {
            let header = identity.seal(Some(&key), Some(b"payload"));
            let crc = Sealed::read(header.as_bytes()).unwrap().crc;
            each(Effect { producer: identity.producer, seq: identity.seq, crc });
        }
        Ok(())
    }

    fn records(&mut self, view: View, each: &mut dyn FnMut(&Record<'_>)) -> Result<Vec<Bounds>> {
        let mut ends = [0; 2];
        for (mut identity, key) in (0..MESSAGES).map(message) {
            let outputs = (0..copies(identity.seq)).map(|copy| (1, copy));
            for (topic, copy) in [(0, 0)].into_iter().chain(outputs) {
                let offset = ends[topic];
                ends[topic] += 1;
                if view == View::All {
                    let record =
                        Record { topic, partition: 0, offset, key: None, payload: None, header: None };
                    each(&record);
                    continue;
                }
                identity.copy = copy;
                let header = identity.seal(Some(&key), Some(b"payload"));
                let (payload, header) = (Some(b"payload".as_slice()), Some(header.as_bytes()));
                each(&Record { topic, partition: 0, offset, key: Some(&key), payload, header });
            }
        }
        let ends = ends.into_iter().enumerate();
        Ok(ends.map(|(topic, end)| Bounds { topic, partition: 0, low: 0, stable: end, end }).collect())
    }

    fn progress(&mut self, _: &mut dyn FnMut(&Progress)) -> Result<()> {
        Ok(())
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

#[test]
fn a_million_messages_take_a_byte_each() {
    let topics = [("in", Role::In), ("out", Role::Out)];
    let topics = topics.map(|(name, role)| Topic { name: name.into(), role }).into();
    let case = Case { run: "r".into(), topics, ledger: true, effects: true, ..Case::default() };
    let (began, before) = (Instant::now(), resident());
    let report = examine(&case, &mut Stream).unwrap();
    let (took, grown) = (began.elapsed().as_secs_f64(), resident() - before);
    assert!(report.clean, "{report}");
    let bytes = report.figures.memory as f64;
    let messages = MESSAGES as f64;
    println!(
        "{:.2} bytes a message, process {:.1} MB more, {:.0} messages/s with ledger, effect, copy and hidden view",
        bytes / messages,
        grown / 1e6,
        messages / took
    );
    let bound = messages * BYTES_PER_MESSAGE + 2.0 * KEYS as f64 * BYTES_PER_KEY;
    assert!(bytes < bound, "{bytes} of {bound}");
}
