//! ipcfs: inter-process communication as files.
//!
//! A FUSE daemon that mounts `mailboxes/` (a write sends one message, a read receives one), `topics/` (each reader
//! gets a copy), `segments/` (shared memory to mmap) and `control/` (status and configuration). A request takes this
//! path:
//!
//! ```text
//! /dev/fuse → kernel::dev → kernel::request → tree → mailbox | topic | segment | locks | control
//!                 ▲                                        │
//!                 └──────────── op::Effects ───────────────┘
//! ```
//!
//! The domain (`tree` and below) never blocks, does no I/O and never reads the clock. A caller that has to wait is an
//! entry in a queue; the request that ends the wait answers it. `docs/ARCHITECTURE.md` has the details.

pub mod accounts;
pub mod cli;
mod codec;
pub mod config;
pub mod control;
pub mod daemon;
pub mod engine;
mod framing;
mod handover;
pub mod history;
pub mod journal;
pub mod kernel;
pub mod limits;
pub mod locks;
pub mod mailbox;
mod notify;
pub mod op;
pub mod remote;
pub mod segment;
pub mod state;
pub mod supervisor;
pub mod sys;
pub mod topic;
pub mod tree;
