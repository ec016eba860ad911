//! Segments held to the suites of others, each working in a folder in `segments/` as it would in any other. What fails there
//! and does not on tmpfs, in the same run, is in the list in `docs/SEMANTICS.md`, with the reason.
//!
//! With `OUTSIDE=full`, as `scripts/outside` sets it, each suite is run to its full length.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;

#[path = "outside/cpython.rs"]
mod cpython;
#[path = "outside/expected.rs"]
mod expected;
#[path = "outside/pjdfstest.rs"]
mod pjdfstest;
#[path = "outside/programs.rs"]
mod programs;
#[path = "outside/suite.rs"]
mod suite;
