//! All threads that serve come to a standstill, so that another process can take over what they have; or they go on.
//!
//! Nobody who calls is disturbed: requests wait in the kernel meanwhile. The threads stop one after the other, because some make
//! work for others:
//!
//! ```text
//! worker                        decides nothing more         ╮
//! readers of the device         decide nothing more          │ settled
//! rings                         handle no more requests      ╯
//! clock                         answers the interrupts that it has kept
//! rings                         submit all answers, and let requests come until the kernel has none of their entries
//! ```
//!
//! The worker is the first, because it may wait for a lock of the kernel's whose holder waits for an answer.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::{Pid, gettid};

use super::saved_ring::SavedRing;
use crate::op::NodeId;
use crate::sys::signals;

/// How long threads may take to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often they are called again: a signal that came just before read(2) did not end it.
const AGAIN: Duration = Duration::from_millis(1);

const NOBODY: u8 = 0;
const WORKER: u8 = 1;
const ALL: u8 = 2;

/// The state of the threads that serve.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    /// How many of the steps have begun: [`NOBODY`], [`WORKER`], [`ALL`] have to stop.
    asked: AtomicU8,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that are in read(2) of the device, where only a signal reaches them.
    readers: Vec<Pid>,
    /// How often all went on again.
    round: u64,
    /// Threads that have to stop.
    expected: usize,
    /// The names of those that decide nothing more, and of those that stand still.
    settled: Vec<String>,
    still: Vec<String>,
    /// A plain file that the kernel knows for now.
    known: Option<NodeId>,
    rings: Vec<SavedRing>,
}

impl Standstill {
    /// The calling thread reads the device.
    pub(super) fn add_reader(&self) {
        self.state.lock().readers.push(gettid());
    }

    /// Whether the calling thread has to stop.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) == ALL
    }

    /// Whether the worker has to stop.
    pub(super) fn is_worker_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) != NOBODY
    }

    /// Stops all `threads` that serve. `wake` wakes those that do not read the device. Returns what the rings have then, in order
    /// of their numbers.
    ///
    /// # Errors
    /// If threads did not stop in time: which did.
    pub(super) fn bring_about(
        &self,
        threads: usize,
        known: NodeId,
        wake: impl Fn(),
    ) -> Result<Vec<SavedRing>, String> {
        let mut state = self.state.lock();
        (state.expected, state.known) = (threads, Some(known));
        self.asked.store(WORKER, Ordering::Release);
        let start = Instant::now();
        while state.still.len() < threads {
            if !state.settled.is_empty() {
                self.asked.store(ALL, Ordering::Release);
            }
            if start.elapsed() > PATIENCE {
                let mut who = String::new();
                let State { settled, still, .. } = &*state;
                let _ = write!(who, "of {threads} threads, {settled:?} settle and {still:?} stand still");
                return Err(who);
            }
            for reader in &state.readers {
                signals::interrupt(*reader);
            }
            MutexGuard::unlocked(&mut state, &wake);
            self.changed.wait_for(&mut state, AGAIN);
        }
        let mut rings = std::mem::take(&mut state.rings);
        rings.sort_by_key(|ring| ring.index);
        Ok(rings)
    }

    /// Lets all threads go on.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        self.asked.store(NOBODY, Ordering::Release);
        (state.settled, state.still) = (Vec::new(), Vec::new());
        state.rings.clear();
        state.round += 1;
        self.changed.notify_all();
    }

    /// The calling thread, which reads the device or does jobs, stands still. Returns when all go on.
    pub(super) fn stand(&self) {
        self.settle(|_| true);
        self.stand_with(None);
    }

    /// Returns when all but the calling thread, the clock, have settled: nobody gives it more to do. It then answers what it has
    /// kept, and stands still.
    pub(super) fn wait_for_others(&self) {
        let mut state = self.state.lock();
        self.wait(&mut state, |state| state.settled.len() + 1 >= state.expected);
    }

    /// The calling thread, a ring's, handles no more requests. Returns when nobody answers any, with a plain file that the kernel
    /// knows; `None` if all go on.
    pub(super) fn settle_ring(&self) -> Option<NodeId> {
        self.settle(|state| state.settled.len() >= state.expected)
    }

    /// The calling thread stands still, after it has settled. Returns when all go on.
    pub(super) fn stand_with(&self, ring: Option<SavedRing>) {
        let mut state = self.state.lock();
        if !self.is_worker_asked() {
            return;
        }
        let round = state.round;
        state.still.push(own_name());
        state.rings.extend(ring);
        self.changed.notify_all();
        while state.round == round {
            self.changed.wait(&mut state);
        }
    }

    /// Counts the calling thread as settled, and waits until `enough`.
    fn settle(&self, enough: impl Fn(&State) -> bool) -> Option<NodeId> {
        let mut state = self.state.lock();
        if !self.is_worker_asked() {
            return None;
        }
        state.settled.push(own_name());
        self.changed.notify_all();
        self.wait(&mut state, enough)
    }

    fn wait(&self, state: &mut MutexGuard<'_, State>, enough: impl Fn(&State) -> bool) -> Option<NodeId> {
        let round = state.round;
        while !enough(state) {
            self.changed.wait(state);
            if state.round != round {
                return None;
            }
        }
        state.known
    }
}

fn own_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}
