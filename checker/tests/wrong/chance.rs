//! Whatever single thing is bent by chance, the history is not clean.

use crate::{
    right::{Dice, right},
    scene::Scene,
};

/// Bends one thing; says what, or nothing if it makes no difference.
fn bend(scene: &mut Scene, dice: &mut Dice) -> Option<&'static str> {
    let visible = scene.find(|told| told.visible);
    let at = visible[dice.below(visible.len() as u64) as usize];
    let told = &mut scene.records[at];
    match dice.below(6) {
        0 => {
            scene.records.remove(at);
            Some("a record less")
        }
        1 => {
            let copy = told.clone();
            let to = dice.below(scene.records.len() as u64) as usize;
            scene.records.insert(to, copy);
            Some("a record twice")
        }
        2 => {
            told.visible = false;
            Some("a record hidden")
        }
        3 => {
            let payload = told.payload.as_mut().filter(|payload| !payload.is_empty())?;
            let byte = dice.below(payload.len() as u64) as usize;
            payload[byte] ^= 1 << dice.below(8);
            Some("a bit of a payload")
        }
        4 => {
            let header = told.header.as_mut().unwrap();
            let mut bytes = header.clone().into_bytes();
            let byte = dice.below(bytes.len() as u64) as usize;
            bytes[byte] ^= 1;
            *header = String::from_utf8(bytes).unwrap();
            Some("a bit of a header")
        }
        _ => {
            let effect = dice.below(scene.effects.len() as u64) as usize;
            scene.effects[effect].crc ^= 1 << dice.below(32);
            Some("a bit of an effect")
        }
    }
}

#[test]
fn whatever_is_bent_is_noticed() {
    let mut scenes: Vec<_> = (1..=5).map(right).collect();
    let mut dice = Dice::new(7);
    for round in 0..300 {
        let index = dice.below(scenes.len() as u64) as usize;
        let mut scene = scenes[index].clone();
        if let Some(what) = bend(&mut scene, &mut dice) {
            let report = scene.judge_afresh();
            assert!(!report.clean, "round {round}: {what}: {report}");
        }
        scenes[index].number();
    }
}
