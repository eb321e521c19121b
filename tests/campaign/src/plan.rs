//! The schedule: which faults, in which order, for how long. A pure function of the list of faults, the seed, the number and the
//! classes.

use std::{fmt, time::Duration};

use fastrand::Rng;

use crate::{class::Class, fault::Fault};

/// The shortest and the longest pause between two faults, in ms.
const PAUSE_MS: (u64, u64) = (500, 3000);

/// One fault of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) number: u64,
    /// Where it stands in the table of faults.
    pub(crate) fault: usize,
    pub(crate) name: String,
    pub(crate) class: Class,
    /// How long after the one before was got over.
    pub(crate) pause: Duration,
    /// How long it is left before it is healed.
    pub(crate) lasts: Duration,
    /// For what it chooses by itself.
    pub(crate) seed: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, name, class, pause, lasts, seed, .. } = self;
        let (pause, lasts) = (pause.as_secs_f64(), lasts.as_secs_f64());
        write!(
            out,
            "{number:4}  {:12} {name:36} after {pause:4.1} s, for {lasts:5.1} s, seed {seed:016x}",
            class.name()
        )
    }
}

/// Whether a class is among those that were asked for: all, if none was.
pub(crate) fn chosen(class: Class, classes: &[Class]) -> bool {
    classes.is_empty() || classes.contains(&class)
}

/// The schedule. Classes take turns in an order that is shuffled anew each round, and so do the faults of each class:
/// none comes again before all of its class have been there.
pub(crate) fn plan(faults: &[Fault], seed: u64, count: usize, classes: &[Class]) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let mut decks: Vec<Deck> = Class::ALL
        .iter()
        .filter(|class| chosen(**class, classes))
        .map(|class| (0..faults.len()).filter(|at| faults[*at].class == *class).collect::<Vec<_>>())
        .filter(|of_class| !of_class.is_empty())
        .map(Deck::new)
        .collect();
    let mut order = Deck::new((0..decks.len()).collect());
    let mut steps = Vec::new();
    while steps.len() < count && !decks.is_empty() {
        let at = decks[order.deal(&mut rng)].deal(&mut rng);
        steps.push(Step::new(&mut rng, faults, steps.len(), at));
    }
    steps
}

/// Every fault once, in shuffled order.
pub(crate) fn each(faults: &[Fault], seed: u64, classes: &[Class]) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let mut order: Vec<_> = (0..faults.len()).filter(|at| chosen(faults[*at].class, classes)).collect();
    rng.shuffle(&mut order);
    order.into_iter().enumerate().map(|(before, at)| Step::new(&mut rng, faults, before, at)).collect()
}

impl Step {
    fn new(rng: &mut Rng, faults: &[Fault], before: usize, at: usize) -> Self {
        let fault = &faults[at];
        Self {
            number: before as u64 + 1,
            fault: at,
            name: fault.name.clone(),
            class: fault.class,
            pause: Duration::from_millis(rng.u64(PAUSE_MS.0..=PAUSE_MS.1)),
            lasts: Duration::from_millis(rng.u64(fault.lasts_ms.clone())),
            seed: rng.u64(..),
        }
    }
}

/// About how long the schedule takes, on two cores.
pub(crate) fn about(steps: &[Step]) -> Duration {
    const INJECT_AND_RECOVER: Duration = Duration::from_secs(4);
    steps.iter().map(|step| step.pause + step.lasts + INJECT_AND_RECOVER).sum()
}

/// Cards that are dealt in a shuffled order, and shuffled again when all were dealt.
struct Deck {
    cards: Vec<usize>,
    dealt: usize,
}

impl Deck {
    fn new(cards: Vec<usize>) -> Self {
        let dealt = cards.len();
        Self { cards, dealt }
    }

    fn deal(&mut self, rng: &mut Rng) -> usize {
        if self.dealt == self.cards.len() {
            rng.shuffle(&mut self.cards);
            self.dealt = 0;
        }
        self.dealt += 1;
        self.cards[self.dealt - 1]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::faults;

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let faults = faults::all();
        let one = plan(&faults, 7, 200, &[]);
        assert_eq!(one, plan(&faults::all(), 7, 200, &[]));
        assert_ne!(one, plan(&faults, 8, 200, &[]));
        assert_eq!(one[..50], plan(&faults, 7, 50, &[])[..], "a longer schedule begins like a shorter one");
    }

    #[test]
    fn every_fault_of_a_class_comes_before_one_comes_again() {
        let faults = faults::all();
        for class in faults.iter().map(|fault| fault.class).collect::<HashSet<_>>() {
            let of_class = faults.iter().filter(|fault| fault.class == class).count();
            let steps = plan(&faults, 3, of_class, &[class]);
            assert!(steps.iter().all(|step| step.class == class));
            assert_eq!(steps.iter().map(|step| step.fault).collect::<HashSet<_>>().len(), of_class);
        }
    }

    #[test]
    fn each_is_every_fault_once() {
        let faults = faults::all();
        let steps = each(&faults, 5, &[]);
        assert_eq!(steps.len(), faults.len());
        assert_eq!(steps.iter().map(|step| step.fault).collect::<HashSet<_>>().len(), faults.len());
        assert!(each(&faults, 5, &[Class::Disk]).iter().all(|step| step.class == Class::Disk));
    }

    #[test]
    fn durations_are_those_of_the_fault() {
        let faults = faults::all();
        for step in plan(&faults, 1, 300, &[]) {
            let lasts = u64::try_from(step.lasts.as_millis()).unwrap();
            assert!(faults[step.fault].lasts_ms.contains(&lasts), "{step}");
        }
    }
}
