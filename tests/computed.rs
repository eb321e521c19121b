//! What computes rather than waits: the model of the protocol, and simulated histories of the real relay and processor. A target
//! of its own, which `./check` compiles with optimisation.
#![expect(clippy::unwrap_used, reason = "tests")]

mod model;
mod simulation;
#[path = "crash/verdict.rs"]
mod verdict;
