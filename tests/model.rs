//! Random operations against simple references: the queue against one made of plain vectors, the whole tree against a
//! ledger of names, references and unanswered requests.
//!
//! A failure prints the shortest history that shows it, and keeps its seed in `tests/model/regressions.txt`, from where
//! it is tried first the next time. `PROPTEST_CASES=100000` looks longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's failure is its report
#![allow(unreachable_pub)] // modules of a test program have no other users

#[path = "model/mailbox.rs"]
mod mailbox;
#[path = "model/plain.rs"]
mod plain;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/script.rs"]
mod script;
#[path = "model/tree.rs"]
mod tree;
#[path = "model/world.rs"]
mod world;

use proptest::test_runner::{Config, FileFailurePersistence};

/// `cases` histories, or as many as `PROPTEST_CASES` says.
fn config(cases: u32) -> Config {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { cases };
    let kept = FileFailurePersistence::Direct("tests/model/regressions.txt");
    Config { cases, failure_persistence: Some(Box::new(kept)), max_shrink_iters: 50_000, ..Config::default() }
}
