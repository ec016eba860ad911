//! Mounts that fail, or that reach their limits: the error message, and that nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "bad_mounts/bounds.rs"]
mod bounds;
#[path = "bad_mounts/claim.rs"]
mod claim;
#[path = "bad_mounts/directory.rs"]
mod directory;
#[path = "bad_mounts/limits.rs"]
mod limits;
#[path = "bad_mounts/machine.rs"]
mod machine;
#[path = "cli/place.rs"]
mod place;
#[path = "bad_mounts/sandbox.rs"]
mod sandbox;
