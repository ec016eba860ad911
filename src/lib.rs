//! ipcfs: inter-process communication as files.
//!
//! A FUSE daemon that mounts `mailboxes/` (a write sends one message, a read receives one), `topics/` (each
//! reader gets a copy), `segments/` (shared memory
//! to mmap) and `control/` (the operator's side). A request goes one way:
//!
//! ```text
//! /dev/fuse → kernel::dev → kernel::request → tree → mailbox | topic | segment | locks | control
//!                 ▲                                        │
//!                 └──────────── op::Effects ───────────────┘
//! ```
//!
//! The domain (`tree` and below) never blocks, does no I/O and never asks the time; a caller who has to wait is an entry
//! in a queue, and its answer an effect of the request that ends the wait. `docs/ARCHITECTURE.md` is the long form.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
mod framing;
pub mod kernel;
pub mod locks;
pub mod mailbox;
pub mod op;
pub mod segment;
pub mod sys;
pub mod topic;
pub mod tree;
