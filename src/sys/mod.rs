//! What needs the system beyond the safe crates: memory files, and every `unsafe` block of the program, each argued.

pub mod descriptors;
pub mod fuse_device;
pub mod fuse_ring;
pub mod heap;
pub mod memfd;
pub mod signals;
pub mod write_back;
