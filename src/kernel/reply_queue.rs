//! Answers on their way to a ring from threads that do not serve it.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::op::{Reply, RequestId, Taken};
use crate::sys::fuse_ring::Waker;

/// An answer, and the messages that it hands over.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) request_id: RequestId,
    pub(super) reply: Reply,
    pub(super) taken: Vec<Taken>,
    /// The generation of the history that must stay until it is given.
    pub(super) in_hand: Option<u8>,
}

/// Answers to one ring's requests that other threads gave. Only the ring's own thread may submit to it, so they leave
/// their answers here and wake that thread.
#[derive(Debug)]
pub struct ReplyQueue {
    answers: Mutex<Vec<Queued>>,
    waker: Waker,
    /// There are answers.
    any: AtomicBool,
    /// The ring's thread sleeps or is about to, and has to be woken.
    asleep: AtomicBool,
    /// Every answer that was put here has been submitted.
    drained: AtomicBool,
}

impl ReplyQueue {
    /// An empty queue. `waker` wakes the thread that serves the ring.
    pub(super) fn new(waker: Waker) -> ReplyQueue {
        let (any, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        ReplyQueue { answers: Mutex::default(), waker, any, asleep, drained: AtomicBool::new(true) }
    }

    /// Adds an answer, and wakes the ring's thread if it sleeps.
    pub(super) fn put(&self, answer: Queued) {
        let mut answers = self.answers.lock();
        answers.push(answer);
        self.drained.store(false, Ordering::SeqCst);
        self.any.store(true, Ordering::SeqCst);
        drop(answers);
        // Either this sees that the thread is about to sleep, or the thread sees that there is an answer.
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// There are answers to take.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Calls `sleep`, from which whoever adds an answer wakes this thread, unless there are answers.
    pub(super) fn sleep<T>(&self, sleep: impl FnOnce() -> T) -> Option<T> {
        self.asleep.store(true, Ordering::SeqCst);
        let slept = (!self.has_any()).then(sleep);
        self.asleep.store(false, Ordering::SeqCst);
        slept
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
        if self.has_any() {
            let mut answers = self.answers.lock();
            std::mem::swap(&mut *answers, into);
            self.any.store(false, Ordering::SeqCst);
        }
    }

    /// Records that all answers taken so far have been submitted.
    pub(super) fn mark_drained(&self) {
        let answers = self.answers.lock();
        if answers.is_empty() {
            self.drained.store(true, Ordering::SeqCst);
        }
    }
}
