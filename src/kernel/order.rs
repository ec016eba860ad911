//! The order in which the kernel queued requests, and lock calls that wait for those queued before them.
//!
//! close(2) returns when the kernel has queued RELEASE. A lock call that comes after it may overtake it: another thread has the
//! RELEASE in its hands, or it is in another CPU's queue. So a lock is not refused for certain before all requests are handled
//! that were queued earlier. Their numbers tell which those are: the kernel numbers requests without a gap, in the order in which
//! it queues them. A number is missing for good only if its caller was killed before the request was read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::queue::Queue;
use crate::op::{Op, Request};

/// How many of the last requests are remembered.
const WINDOW: u64 = 4096;
/// Neighbouring numbers are remembered this many places apart, so that threads do not write to the same cache line. Odd, so that
/// each place is used.
const STRIDE: u64 = 9;

/// How long a lock call waits for earlier requests. Only for those of killed callers it is that long, and only once.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Which requests are handled.
#[derive(Debug)]
pub(super) struct Order {
    /// The places of the last requests that were handled, see [`place`].
    handled: Box<[AtomicU64]>,
    /// All up to this place are handled, or are not waited for. [`UNKNOWN`] before the first request.
    complete: AtomicU64,
    doubted: Mutex<Vec<Doubted>>,
    /// How many are doubted.
    count: AtomicUsize,
}

const UNKNOWN: u64 = u64::MAX;

/// A lock call that was refused, perhaps too early.
#[derive(Debug)]
struct Doubted {
    request: Request<'static>,
    since: Instant,
}

impl Default for Order {
    fn default() -> Order {
        Order {
            handled: (0..WINDOW).map(|_| AtomicU64::new(0)).collect(),
            complete: AtomicU64::new(UNKNOWN),
            doubted: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }
}

/// The place of a request in the order; `None` if its number is not one of that order, as those of INTERRUPTs are.
fn place(unique: u64) -> Option<u64> {
    (unique.is_multiple_of(2) && !Queue::is_kick(unique) && unique < 1 << 62).then_some(unique / 2)
}

impl Order {
    /// A request is handled: what it frees is free.
    pub(super) fn note_handled(&self, unique: u64) {
        let Some(place) = place(unique) else { return };
        if let Some(handled) = self.handled.get((place.wrapping_mul(STRIDE) % WINDOW) as usize) {
            // Sequentially consistent, as is the look at `count` that follows: either this thread sees a doubted call, or that
            // call's thread sees that this request is handled.
            handled.store(place, Ordering::SeqCst);
        }
        if self.complete.load(Ordering::Relaxed) == UNKNOWN {
            let _ = self.complete.compare_exchange(UNKNOWN, place, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// Whether all requests are handled that were queued before this one.
    fn is_complete_before(&self, unique: u64) -> bool {
        let Some(place) = place(unique) else { return true };
        let complete = self.complete.load(Ordering::SeqCst);
        let oldest = complete.max(place.saturating_sub(WINDOW / 2));
        let missing = (oldest.saturating_add(1)..place).rev().any(|earlier| {
            let handled = self.handled.get((earlier.wrapping_mul(STRIDE) % WINDOW) as usize);
            handled.is_some_and(|handled| handled.load(Ordering::SeqCst) < earlier)
        });
        if !missing && complete != UNKNOWN {
            self.complete.fetch_max(place.saturating_sub(1), Ordering::SeqCst);
        }
        !missing
    }

    /// Whether a lock call can be refused. If it cannot, it is kept, and [`Order::next_certain`] returns it when it is to be
    /// asked again.
    pub(super) fn is_certain(&self, request: &Request<'_>) -> bool {
        let op = match request.op {
            Op::Getlk(call) => Op::Getlk(call),
            Op::Setlk { lock, wait } => Op::Setlk { lock, wait },
            _ => return true,
        };
        if self.is_complete_before(request.request_id.unique) {
            return true;
        }
        let Request { request_id, node, caller, .. } = *request;
        let request = Request { request_id, node, caller, op };
        let mut doubted = self.doubted.lock();
        doubted.push(Doubted { request, since: Instant::now() });
        self.count.store(doubted.len(), Ordering::SeqCst);
        false
    }

    /// A lock call that is to be asked again: its answer then is certain. `given_up`: those that have waited for so long wait no
    /// longer.
    pub(super) fn next_certain(&self, given_up: Option<Duration>) -> Option<Request<'static>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut doubted = self.doubted.lock();
        let certain = |doubted: &Doubted| {
            let unique = doubted.request.request_id.unique;
            if let Some(place) = place(unique)
                && given_up.is_some_and(|limit| doubted.since.elapsed() >= limit)
            {
                // Nobody else waits for those that are missing.
                self.complete.fetch_max(place.saturating_sub(1), Ordering::SeqCst);
            }
            self.is_complete_before(unique)
        };
        let at = doubted.iter().position(certain)?;
        let found = doubted.remove(at);
        self.count.store(doubted.len(), Ordering::SeqCst);
        Some(found.request)
    }

    /// How long the call may still wait that has waited for longest.
    pub(super) fn patience(&self) -> Option<Duration> {
        let since = self.doubted.lock().iter().map(|doubted| doubted.since).min()?;
        Some(PATIENCE.saturating_sub(since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Caller, Fh, LockCall, LockKind, LockOwner, NodeId, RequestId};

    fn lock(unique: u64) -> Request<'static> {
        let kind = LockKind::Exclusive;
        let lock =
            LockCall { fh: Fh(1), owner: LockOwner(1), pid: 1, flock: true, kind, start: 0, end: u64::MAX };
        let request_id = RequestId { unique, reply_path: 0, pid: 1 };
        Request {
            request_id,
            node: NodeId(2),
            caller: Caller::default(),
            op: Op::Setlk { lock, wait: false },
        }
    }

    /// Requests up to this one are handled.
    fn handled_up_to(unique: u64) -> Order {
        let order = Order::default();
        (2..=unique).step_by(2).for_each(|unique| order.note_handled(unique));
        order
    }

    fn next(order: &Order) -> Option<u64> {
        order.next_certain(None).map(|request| request.request_id.unique)
    }

    #[test]
    fn a_lock_is_refused_at_once_if_all_earlier_requests_are_handled() {
        for before in [2, 100, 2 * WINDOW, 20 * WINDOW] {
            let order = handled_up_to(before);
            assert!(order.is_certain(&lock(before + 2)));
            // Interrupts and kicks have numbers of their own.
            order.note_handled(before + 5);
            order.note_handled(1 << 62 | 7);
            assert!(order.is_certain(&lock(before + 2)));
            assert_eq!((next(&order), order.patience()), (None, None));
        }
    }

    #[test]
    fn a_lock_call_is_asked_again_when_the_last_earlier_request_is_handled() {
        let order = handled_up_to(100);
        order.note_handled(106);
        assert!(!order.is_certain(&lock(108)), "102 and 104 are missing");
        order.note_handled(108);
        assert_eq!(next(&order), None);
        order.note_handled(102);
        assert_eq!(next(&order), None);
        assert!(order.patience().is_some());
        order.note_handled(104);
        assert_eq!((next(&order), next(&order), order.patience()), (Some(108), None, None));
        assert!(order.is_certain(&lock(110)));
    }

    #[test]
    fn each_call_waits_for_those_before_it_only() {
        let order = handled_up_to(100);
        order.note_handled(104);
        assert!(!order.is_certain(&lock(106)));
        assert!(!order.is_certain(&lock(110)));
        order.note_handled(102);
        order.note_handled(106);
        assert_eq!((next(&order), next(&order)), (Some(106), None));
        order.note_handled(108);
        assert_eq!(next(&order), Some(110));
    }

    #[test]
    fn a_number_that_never_comes_is_given_up_once() {
        let order = handled_up_to(100);
        assert!(!order.is_certain(&lock(104)));
        assert!(order.next_certain(Some(Duration::from_secs(1_000))).is_none());
        let given_up = order.next_certain(Some(Duration::ZERO));
        assert_eq!(given_up.map(|request| request.request_id.unique), Some(104));
        order.note_handled(104);
        assert!(order.is_certain(&lock(106)), "102 is not waited for again");
    }

    #[test]
    fn what_was_queued_before_the_first_request_is_not_waited_for() {
        let order = Order::default();
        assert!(order.is_certain(&lock(1_000)));
        order.note_handled(1_000);
        assert!(order.is_certain(&lock(1_002)));
    }
}
