//! The protocol as explicit-state models: every order of steps, crashes, late and duplicated requests within bounds.
//!
//! [`relay`] follows `framework/relay`, [`processor`] follows `framework/processor`, both on the [`kafka`] that they
//! share. Each rule of the protocol is a switch. With all of them on nothing may be found; each left out alone must be
//! noticed. `TIDELOCK_MODEL=large` takes larger bounds, for runs by hand with `--release`.
//!
//! Always checked: no loss, no duplicate, no order turned round, nothing published that is not there, and in every state
//! that is not the end there is a step that needs no fault. [`ends`] shows that such steps never go round in a circle, so
//! that whatever happened, a way without further faults ends well.
#![expect(clippy::print_stdout, reason = "states counted, and the paths to what was found")]

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    hash::Hash,
    time::Instant,
};

use stateright::{Checker as _, HasDiscoveries, Model};

mod kafka;
mod processor;
mod relay;

/// Whether the environment asks for larger bounds.
fn large() -> bool {
    std::env::var("TIDELOCK_MODEL").is_ok_and(|value| value == "large")
}

/// A model whose paths can be read.
trait Told: Model {
    /// The actions that need no fault.
    fn progress(&self, state: &Self::State, actions: &mut Vec<Self::Action>);

    /// What the action does in that state.
    fn tell(&self, state: &Self::State, action: &Self::Action) -> String;
}

/// Explores breadth first until nothing is left, or one of `enough` was violated; where that is empty, anything.
/// Answers the number of unique states and what was violated.
fn explore<M>(what: &str, model: M, enough: &[&'static str]) -> (usize, BTreeSet<&'static str>)
where
    M: Told + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let started = Instant::now();
    let finish = match enough {
        [] => HasDiscoveries::Any,
        _ => HasDiscoveries::AnyOf(enough.iter().copied().collect()),
    };
    let checker = model.checker().threads(2).finish_when(finish).spawn_bfs().join();
    let states = checker.unique_state_count();
    let took = started.elapsed().as_secs_f32();
    println!("{what}: {states} states, depth {}, {took:.1} s", checker.max_depth());
    let found = checker.discoveries();
    for (name, path) in &found {
        let steps = path.clone().into_vec().into_iter();
        let steps = steps.filter_map(|(state, action)| Some(checker.model().tell(&state, &action?)));
        println!("  not {name:?}: {}", steps.collect::<Vec<_>>().join(", "));
    }
    (states, found.into_keys().collect())
}

/// Every way of steps that need no fault is finite: the states can be taken away one by one, each when none of its
/// successors is left.
#[track_caller]
fn ends<M>(what: &str, model: &M)
where
    M: Told,
    M::State: Clone + Eq + Hash,
{
    let mut states: HashMap<M::State, usize> = HashMap::new();
    let mut found = model.init_states();
    states.extend(found.iter().cloned().zip(0..));
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); found.len()];
    let mut open = vec![0; found.len()];
    let mut actions = Vec::new();
    let mut next = 0;
    while next < found.len() {
        let state = found[next].clone();
        model.progress(&state, &mut actions);
        let free = actions.len();
        model.actions(&state, &mut actions);
        for (place, action) in actions.drain(..).enumerate() {
            let Some(successor) = model.next_state(&state, action) else { continue };
            let index = *states.entry(successor).or_insert_with_key(|successor| {
                found.push(successor.clone());
                before.push(Vec::new());
                open.push(0);
                found.len() - 1
            });
            if place < free {
                before[index].push(next);
                open[next] += 1;
            }
        }
        next += 1;
    }
    let mut ended: Vec<usize> = (0..found.len()).filter(|index| open[*index] == 0).collect();
    let mut count = 0;
    while let Some(index) = ended.pop() {
        count += 1;
        for &earlier in &before[index] {
            open[earlier] -= 1;
            if open[earlier] == 0 {
                ended.push(earlier);
            }
        }
    }
    println!("{what}: {count} states end");
    assert_eq!(count, found.len(), "{what}: the others go round in circles");
}

/// Nothing is violated, and as much is explored as it used to be.
#[track_caller]
fn holds<M>(what: &str, model: M, at_least: usize)
where
    M: Told + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let (states, found) = explore(what, model, &[]);
    assert!(found.is_empty(), "{what}: violated {found:?}");
    assert!(states >= at_least, "{what}: {states} states, expected at least {at_least}");
}

/// That property is violated.
#[track_caller]
fn breaks<M>(what: &str, model: M, property: &'static str)
where
    M: Told + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let (_, found) = explore(what, model, &[property]);
    assert!(found.contains(property), "{what}: {property:?} was not violated");
}

/// None of these properties is violated, whatever becomes of the others.
#[track_caller]
fn holds_but<M>(what: &str, model: M, properties: &[&'static str])
where
    M: Told + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let (_, found) = explore(what, model, properties);
    let violated: Vec<_> = properties.iter().filter(|property| found.contains(*property)).collect();
    assert!(violated.is_empty(), "{what}: violated {violated:?}");
}
