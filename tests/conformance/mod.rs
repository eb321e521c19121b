//! The contracts of both seams, clause by clause, on every implementation of each.
//!
//! A clause is an async function; a macro makes a test of it for each implementation, named by implementation and
//! clause, and a row of the table that this command prints:
//!
//! `cargo test --all-features --test main conformance::table -- --ignored --nocapture`

mod database;
mod log;
mod table;

pub(crate) use database::made;
pub(crate) use log::{Member, committed, next_of, record, seen, sent, text, unique, within};

/// A clause under one implementation: its subject, its name, and its test.
type Row = (&'static str, &'static str, fn());

/// Makes a test of each clause of a log, by the `prove` of the module around it, and lists them all.
macro_rules! log_tests {
    ($($subject:ident { $($clause:ident,)+ })+) => {
        $($(
            #[test]
            fn $clause() {
                prove(super::$subject::$clause);
            }
        )+)+

        pub(in crate::conformance) const ALL: &[$crate::conformance::Row] =
            &[$($((stringify!($subject), stringify!($clause), $clause),)+)+];
    };
}
use log_tests;

/// The same with the clauses of a database, for the `Own` of the module around it.
macro_rules! database_tests {
    ($($subject:ident { $($clause:ident,)+ })+) => {
        $($(
            #[test]
            fn $clause() {
                $crate::conformance::block_on(super::$subject::$clause::<Own>());
            }
        )+)+

        pub(in crate::conformance) const ALL: &[$crate::conformance::Row] =
            &[$($((stringify!($subject), stringify!($clause), $clause),)+)+];
    };
}
use database_tests;

/// On a runtime of one thread.
fn block_on<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(what)
}
