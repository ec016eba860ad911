//! Nobody who waits is beyond the reach of signals, and nobody waits any more once the mount has ended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "signals/ending.rs"]
mod ending;
#[path = "signals/random.rs"]
mod random;
#[path = "signals/target.rs"]
mod target;
#[path = "mount/tools.rs"]
mod tools;
#[path = "signals/waiting.rs"]
mod waiting;
