//! Measures ipcfs beside what people would pick instead.
//!
//! [`work`] is a list of cases. [`run`] measures them in rounds; in each, every case is done by every peer once, the
//! peers in turn, so that a machine that drifts drifts for all. [`peers`] are the ways to pass messages, [`worker`] is
//! a process that uses one, [`launch`] starts such processes. What was measured is a [`model::Run`], from which
//! [`report`], [`plot`], [`readme`], [`compare`] and [`scale`] are made: nothing else knows a figure.
//!
//! [`soak`] measures nothing: it looks for what is lost, doubled or leaked.

pub mod cgroup;
pub mod clock;
pub mod compare;
pub mod daemon;
pub mod launch;
pub mod machine;
pub mod memory;
pub mod model;
pub mod peers;
pub mod plot;
pub mod process;
pub mod readme;
pub mod report;
pub mod run;
pub mod scale;
pub mod servers;
pub mod soak;
pub mod stats;
pub mod stores;

pub mod work;
pub mod worker;
