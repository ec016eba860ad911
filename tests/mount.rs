//! What only a kernel can show about mailboxes: each test does system calls on a mount of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "mount/accidents.rs"]
mod accidents;
#[path = "mount/bounds.rs"]
mod bounds;
#[path = "mount/files.rs"]
mod files;
#[path = "mount/full.rs"]
mod full;
#[path = "mount/messages.rs"]
mod messages;
#[path = "mount/nodes.rs"]
mod nodes;
#[path = "mount/pieces.rs"]
mod pieces;
#[path = "mount/queueing.rs"]
mod queueing;
#[path = "mount/removal.rs"]
mod removal;
#[path = "mount/tools.rs"]
mod tools;
