//! Answers on their way to a ring from threads that do not serve it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::op::{Reply, RequestId, Taken};
use crate::sys::fuse_ring::Waker;

/// An answer, and the messages that it hands over.
pub(super) type Queued = (RequestId, Reply, Vec<Taken>);

/// Answers to one ring's requests that other threads gave. Only the ring's own thread may submit to it, so they leave
/// their answers here and wake that thread.
#[derive(Debug)]
pub struct ReplyQueue {
    answers: Mutex<Vec<Queued>>,
    waker: Waker,
    /// Every answer that was put here has been submitted.
    drained: AtomicBool,
}

impl ReplyQueue {
    /// An empty queue. `waker` wakes the thread that serves the ring.
    pub(super) fn new(waker: Waker) -> ReplyQueue {
        ReplyQueue { answers: Mutex::default(), waker, drained: AtomicBool::new(true) }
    }

    /// Adds an answer, and wakes the ring's thread if the queue was empty.
    pub(super) fn put(&self, request_id: RequestId, reply: Reply, taken: Vec<Taken>) {
        let mut answers = self.answers.lock();
        let was_empty = answers.is_empty();
        answers.push((request_id, reply, taken));
        self.drained.store(false, Ordering::SeqCst);
        drop(answers);
        if was_empty {
            self.waker.wake();
        }
    }

    /// Wakes the ring's thread.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether every answer that was put here has been submitted to the kernel.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// Moves all answers into `into`, which must be empty.
    pub(super) fn take(&self, into: &mut Vec<Queued>) {
        std::mem::swap(&mut *self.answers.lock(), into);
    }

    /// Records that all answers taken so far have been submitted.
    pub(super) fn mark_drained(&self) {
        let answers = self.answers.lock();
        if answers.is_empty() {
            self.drained.store(true, Ordering::SeqCst);
        }
    }
}
