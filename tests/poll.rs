//! poll(2), select(2) and epoll(7) on mailboxes: what is ready, and that whoever polls is woken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in the helpers, too

mod common;

#[path = "poll/epolling.rs"]
mod epolling;
#[path = "poll/polling.rs"]
mod polling;
#[path = "mount/tools.rs"]
mod tools;
