//! The command `ipcfs` as its users meet it: help, usage, exit codes, and each subcommand on mounts of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "cli/background.rs"]
mod background;
#[path = "cli/config_file.rs"]
mod config_file;
#[path = "cli/endings.rs"]
mod endings;
#[path = "cli/helper.rs"]
mod helper;
#[path = "cli/limits.rs"]
mod limits;
#[path = "cli/log.rs"]
mod log;
#[path = "cli/manual.rs"]
mod manual;
#[path = "cli/message.rs"]
mod message;
#[path = "cli/place.rs"]
mod place;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/top.rs"]
mod top;
#[path = "cli/umount.rs"]
mod umount;
#[path = "cli/usage.rs"]
mod usage;
