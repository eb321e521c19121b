//! The same calls give the same answers.

use super::{at, join, offset, record, state};
use crate::log::{Assignor, embedded::groups::Proof};

fn run(seed: u64, durable: bool) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut state = state(durable);
    let mut trace = Vec::new();
    let mut epochs = [0; 4];
    for second in 0..400 {
        let now = at(second / 4);
        state.tick(now);
        let number = random.usize(0..4);
        let id = format!("id {number}");
        let answer = match random.u32(0..9) {
            0 => {
                let epoch = state.init(&id);
                epochs[number] = epoch.unwrap_or(epochs[number]);
                format!("{epoch:?}")
            }
            1..4 => {
                let topic = ["plain", "kept"][random.usize(0..2)];
                let mut one = record(topic, 0, &second.to_string());
                one.partition = None;
                if random.bool() {
                    one.key = None;
                }
                format!("{:?}", state.append(&id, epochs[number], vec![one], now))
            }
            4 => format!("{:?}", state.commit(&id, epochs[number], now)),
            5 => format!("{:?}", state.abort(&id, epochs[number])),
            6 => {
                let member = Some(random.u64(0..6)).filter(|member| *member > 0);
                let joining = join("group", member, Assignor::Cooperative, &[]);
                format!("{:?}", state.groups.join(&state.topics, joining, now))
            }
            7 => format!("{:?}", state.groups.beat("group", random.u64(0..6), None, now)),
            _ => {
                let proof = Proof {
                    group: "group".to_owned(),
                    member: random.u64(0..6),
                    instance: None,
                    generation: random.i32(0..4),
                };
                let next = [offset("plain", 0, random.i64(0..9))];
                format!("{:?}", state.add_offsets(&id, epochs[number], &next, &proof, now))
            }
        };
        trace.push(answer);
        let changes = state.take_changes();
        if random.bool() {
            (0..4).for_each(|number| state.complete(&format!("id {number}"), now));
        }
        trace.push(format!("{changes:?} {:?}", state.due()));
    }
    format!("{trace:#?} {state:#?}")
}

#[test]
fn two_runs_are_alike() {
    for seed in 0..20 {
        assert!(run(seed, false) == run(seed, false), "seed {seed}");
        assert!(run(seed, true) == run(seed, true), "seed {seed} with a file");
    }
    assert!(run(1, false) != run(2, false));
}
