//! Many writers and readers on a small mailbox, killed at random, and a checker of what each of them wrote down.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "history/checker.rs"]
mod checker;
#[path = "history/runs.rs"]
mod runs;
#[path = "mount/tools.rs"]
mod tools;
