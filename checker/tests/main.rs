//! The judge is judged: right histories are clean, and each wrong one is caught for what it is.
#![expect(clippy::unwrap_used, reason = "tests")]

mod memory;
mod right;
mod scene;
mod wrong;
