//! Every waiting caller can be interrupted and killed, and the end of the mount ends every wait.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "signals/ending.rs"]
mod ending;
#[path = "signals/nameless.rs"]
mod nameless;
#[path = "signals/random.rs"]
mod random;
#[path = "signals/target.rs"]
mod target;
#[path = "mount/tools.rs"]
mod tools;
#[path = "signals/waiting.rs"]
mod waiting;
