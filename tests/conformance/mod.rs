//! The contracts of both seams, clause by clause, on every implementation of each.
//!
//! A clause is an async function; [`clauses!`] makes a test of it for each implementation, named by implementation and
//! clause, and a row of the table that this command prints:
//!
//! `cargo test --all-features --test main conformance::table -- --ignored --nocapture`

mod log;
mod table;

pub(crate) use log::{Member, committed, next_of, record, sent, text, unique, within};

/// A clause under one implementation: its subject, its name, and its test.
type Row = (&'static str, &'static str, fn());

/// Makes a test of each clause, by the `prove` of the module around it, and lists them all.
macro_rules! clauses {
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
use clauses;
