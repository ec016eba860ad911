//! The boundary to the kernel: the only part of the program that knows the FUSE protocol.
//!
//! `session` mounts and negotiates. `dev` and `uring` receive requests and send answers, over `/dev/fuse` or over
//! `io_uring`; `rings` sets up the latter, and `run_policy` keeps its callers on their CPU. `request` and `reply` convert
//! between bytes and the types of [`crate::op`]; `errno` converts errors to numbers.
//! `order` knows which requests came before others. `transport` connects them to the tree. Policy is decided in the tree, not here.

mod abi;
mod cpus;
pub mod dev;
mod errno;
pub mod left;
pub mod mount_table;
mod order;
mod queue;
pub mod read_buffer;
mod reply;
mod reply_path;
mod reply_queue;
pub mod request;
mod resent;
pub mod rings;
pub mod run_policy;
mod saved_ring;
mod sched_group;
pub mod scheduling;
pub mod session;
mod sleep;
mod standstill;
pub mod transport;
mod unclosed;
pub mod uring;
