//! Class 18: several faults at once, from a seed.

use std::time::Duration;

use fastrand::Rng;
use tidelock_campaign::Result;

use crate::{
    class::Class,
    fault::{EXACTLY_ONCE, Fault, Ongoing, Part},
    world::World,
};

pub(super) fn faults() -> Vec<Fault> {
    (2..=5)
        .map(|count| Fault {
            class: Class::Composition,
            name: format!("{count}-at-once"),
            doc: format!("{count} faults of other classes, overlapping, healed in any order, but last those that wait for what others keep them from"),
            must_hold: EXACTLY_ONCE,
            within: None,
            lasts_ms: 1_000..=15_000,
            touches: &[Part::Alone],
            inject: Box::new(move |world, rng| compose(world, rng, count)),
        })
        .collect()
}

fn compose(world: &World, rng: &mut Rng, count: usize) -> Result<Ongoing> {
    let faults = super::singles();
    let chosen = choose(&faults, rng, count);
    let (mut names, mut ongoing, mut all) = (Vec::new(), Vec::new(), true);
    for at in chosen {
        let mut own = Rng::with_seed(rng.u64(..));
        world.sleep(Duration::from_millis(rng.u64(0..1500)));
        match (faults[at].inject)(world, &mut own) {
            Ok(fault) => {
                let missed = if fault.came_about { "" } else { "; missed" };
                names.push(format!("{} ({}{missed})", faults[at].name, fault.what));
                all &= fault.came_about;
                ongoing.push(fault);
            }
            // Another one took away what it needs.
            Err(failure) => {
                names.push(format!("{} (not possible: {failure})", faults[at].name));
                all = false;
            }
        }
    }
    rng.shuffle(&mut ongoing);
    ongoing.sort_by_key(|fault: &Ongoing| fault.waits);
    let mut own = Rng::with_seed(rng.u64(..));
    Ok(Ongoing::new(names.join(" + "), move |world| {
        let mut outcome = Ok(());
        for fault in ongoing {
            let healed = fault.heal(world);
            outcome = outcome.and(healed);
            world.sleep(Duration::from_millis(own.u64(0..1000)));
        }
        outcome
    })
    .only_if(all))
}

/// So many faults that do not share a part of the system.
fn choose(faults: &[Fault], rng: &mut Rng, count: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..faults.len()).collect();
    rng.shuffle(&mut order);
    let mut taken: Vec<Part> = vec![Part::Alone];
    let mut chosen = Vec::new();
    for at in order {
        if chosen.len() < count && !faults[at].touches.iter().any(|part| taken.contains(part)) {
            taken.extend(faults[at].touches);
            chosen.push(at);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_not_shared() {
        let faults = super::super::singles();
        for seed in 0..200 {
            let chosen = choose(&faults, &mut Rng::with_seed(seed), 5);
            let parts: Vec<_> = chosen.iter().flat_map(|at| faults[*at].touches).collect();
            for (at, part) in parts.iter().enumerate() {
                assert!(!parts[..at].contains(part) && **part != Part::Alone);
            }
        }
    }
}
