//! System calls that no safe crate offers, memory files, and every `unsafe` block of the program, each with its reason.

pub mod bytes;
pub mod child;
pub mod descriptors;
pub mod fuse_device;
pub mod fuse_ring;
pub mod heap;
pub mod history_file;
pub mod memfd;
pub mod process;
mod ring_memory;
pub mod scheduler;
pub mod signals;
pub mod write_back;
