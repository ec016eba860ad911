//! The boundary to the kernel: the only place that knows the FUSE protocol.
//!
//! `session` mounts and shakes hands; `dev` and `uring` receive requests and send answers, over the device or over rings;
//! `request` and `reply` turn bytes into [`crate::op`]'s words and back, `errno` turns errors into numbers. `transport`
//! joins them. No decision is taken here.

mod abi;
mod cpus;
pub mod dev;
mod errno;
pub mod mount_table;
mod queue;
mod reply;
mod reply_path;
pub mod request;
pub mod rings;
pub mod session;
mod sleep;
pub mod transport;
pub mod uring;
