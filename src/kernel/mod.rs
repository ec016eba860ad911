//! The boundary to the kernel: the only place that knows the FUSE protocol.
//!
//! `session` mounts and shakes hands, `dev` reads requests and writes answers, `request` and `reply` turn bytes into
//! [`crate::op`]'s words and back, `errno` turns errors into numbers. No decision is taken here.

mod abi;
pub mod dev;
mod errno;
mod reply;
pub mod request;
pub mod session;
