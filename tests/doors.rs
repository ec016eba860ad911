//! `control/mailboxes/<name>/` through a real kernel: its doors, single messages, settings, leases, requests and times.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too
// A path in Rust's quotes is one in Python's.
#![allow(clippy::unnecessary_debug_formatting)]

mod common;

#[path = "doors/clock.rs"]
mod clock;
#[path = "doors/config.rs"]
mod config;
#[path = "doors/examples.rs"]
mod examples;
#[path = "doors/full.rs"]
mod full;
#[path = "doors/input.rs"]
mod input;
#[path = "doors/leases.rs"]
mod leases;
#[path = "doors/lines.rs"]
mod lines;
#[path = "doors/many.rs"]
mod many;
#[path = "doors/memory.rs"]
mod memory;
#[path = "doors/messages.rs"]
mod messages;
#[path = "doors/once.rs"]
mod once;
#[path = "doors/purge.rs"]
mod purge;
#[path = "doors/races.rs"]
mod races;
#[path = "doors/rights.rs"]
mod rights;
#[path = "doors/rpc.rs"]
mod rpc;
#[path = "doors/time.rs"]
mod time;
#[path = "mount/tools.rs"]
mod tools;
#[path = "doors/waiting.rs"]
mod waiting;
#[path = "doors/ways.rs"]
mod ways;
