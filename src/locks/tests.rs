//! The rules one by one; `model` compares random histories with a map of bytes.

mod model;

use std::sync::Arc;

use super::request::{END, Span};
use super::{Locks, WaitId};
use crate::accounts::{Account, Accounts};
use crate::config::MAX_LOCKED_RANGES;
use crate::op::{Effect, Effects, Error, Fh, Ino, LockCall, LockHeld, LockKind, LockOwner, Reply, RequestId};
use LockKind::{Exclusive, Shared, Unlock};

const FILE: Ino = Ino(7);
const OTHER_FILE: Ino = Ino(8);
const EOF: u64 = u64::MAX;

/// A table of locks and the replies that its calls have caused.
struct Table {
    account: Arc<Account>,
    locks: Locks,
    fx: Effects,
    request_ids: u64,
}

/// How a call ended, or the request id and id it waits with.
#[derive(Debug, PartialEq)]
enum Outcome {
    Now(Reply),
    Waits(RequestId, WaitId),
}

const DONE: Outcome = Outcome::Now(Reply::Done);

fn failed(error: Error) -> Outcome {
    Outcome::Now(Reply::Failed(error))
}

/// A call for a range by owner `n` through open file `n` of process `n`.
fn range(n: u32, kind: LockKind, start: u64, end: u64) -> LockCall {
    let (owner, fh) = (LockOwner(n.into()), Fh(n.into()));
    LockCall { fh, owner, pid: n, flock: false, kind, start, end }
}

fn flock(n: u32, kind: LockKind) -> LockCall {
    LockCall { flock: true, ..range(n, kind, 0, END) }
}

/// Of a mount with this many locks.
fn account(limit: usize) -> Arc<Account> {
    Accounts::unshared(limit as u64).of(1000)
}

impl Table {
    fn new() -> Table {
        Table::with_limit(1000)
    }

    fn with_limit(limit: usize) -> Table {
        Table { account: account(limit), locks: Locks::default(), fx: Effects::new(), request_ids: 0 }
    }

    fn call(&mut self, file: Ino, call: &LockCall, wait: bool) -> Outcome {
        self.request_ids += 1;
        let request_id = RequestId { unique: self.request_ids, reply_path: 0, pid: 0 };
        let waits = self.locks.set(file, call, &self.account, (request_id, wait), &mut self.fx);
        // The call's own reply comes before those of the calls that it unblocks.
        match waits {
            Some(id) => Outcome::Waits(request_id, id),
            None => match self.fx.drain().next() {
                Some(Effect::Reply(to, reply)) if to == request_id => Outcome::Now(reply),
                other => panic!("the call was not answered first, but {other:?}"),
            },
        }
    }

    fn set(&mut self, call: &LockCall) -> Outcome {
        self.call(FILE, call, false)
    }

    /// Sets, and returns the replies to other calls.
    fn set_for_others(&mut self, call: &LockCall) -> Vec<(RequestId, Reply)> {
        self.request_ids += 1;
        let request_id = RequestId { unique: self.request_ids, reply_path: 0, pid: 0 };
        assert_eq!(self.locks.set(FILE, call, &self.account, (request_id, false), &mut self.fx), None);
        let mut replies = self.replies();
        assert_eq!(replies.remove(0), (request_id, Reply::Done));
        replies
    }

    fn wait(&mut self, call: &LockCall) -> (RequestId, WaitId) {
        self.wait_on(FILE, call)
    }

    fn wait_on(&mut self, file: Ino, call: &LockCall) -> (RequestId, WaitId) {
        match self.call(file, call, true) {
            Outcome::Waits(request_id, id) => (request_id, id),
            other @ Outcome::Now(_) => panic!("does not wait: {other:?}"),
        }
    }

    fn replies(&mut self) -> Vec<(RequestId, Reply)> {
        let reply = |effect| match effect {
            Effect::Reply(request_id, reply) => (request_id, reply),
            other => panic!("not a reply: {other:?}"),
        };
        self.fx.drain().map(reply).collect()
    }

    /// The first range that conflicts with a call of another owner.
    fn first(&self) -> Option<LockHeld> {
        self.locks.test(FILE, &range(99, Exclusive, 0, EOF))
    }

    /// Type, first and last byte of all ranges of owner `n`, in order.
    fn ranges(&self, n: u32) -> Vec<(LockKind, u64, u64)> {
        let of = |start| self.locks.test(FILE, &range(n, Unlock, start, EOF));
        std::iter::successors(of(0), |held| of(held.end + 1))
            .map(|held| (held.kind, held.start, held.end))
            .collect()
    }
}

#[test]
fn shared_ranges_coexist_and_exclusive_ones_conflict() {
    let mut t = Table::new();
    assert_eq!(t.set(&range(1, Shared, 0, 9)), DONE);
    assert_eq!(t.set(&range(2, Shared, 5, 14)), DONE);
    assert_eq!(t.set(&range(3, Exclusive, 9, 9)), failed(Error::WouldWait));
    assert_eq!(t.set(&range(3, Exclusive, 15, 20)), DONE);
    assert_eq!(t.set(&range(1, Shared, 20, 30)), failed(Error::WouldWait));
    assert_eq!(t.call(OTHER_FILE, &range(3, Exclusive, 0, EOF), false), DONE);
    assert_eq!((t.locks.held(), t.locks.waiting()), (4, 0));
}

#[test]
fn an_owners_ranges_split_merge_and_change_kind() {
    let mut t = Table::new();
    assert_eq!(t.set(&range(1, Exclusive, 0, 99)), DONE);
    assert_eq!(t.set(&range(1, Unlock, 40, 59)), DONE);
    assert_eq!(t.ranges(1), [(Exclusive, 0, 39), (Exclusive, 60, 99)]);
    assert_eq!(t.set(&range(1, Shared, 30, 69)), DONE);
    assert_eq!(t.ranges(1), [(Exclusive, 0, 29), (Shared, 30, 69), (Exclusive, 70, 99)]);
    assert_eq!(t.set(&range(1, Exclusive, 30, 69)), DONE);
    assert_eq!(t.ranges(1), [(Exclusive, 0, 99)]);
    assert_eq!(t.set(&range(1, Exclusive, 100, EOF)), DONE);
    assert_eq!(t.ranges(1), [(Exclusive, 0, END)]);
    assert_eq!(t.set(&range(1, Unlock, 0, EOF)), DONE);
    assert_eq!((t.ranges(1), t.locks.held()), (vec![], 0));
}

#[test]
fn ranges_through_another_open_file_replace_but_do_not_merge() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 9));
    assert_eq!(t.set(&LockCall { fh: Fh(5), ..range(1, Exclusive, 5, 19) }), DONE);
    assert_eq!(t.ranges(1), [(Exclusive, 0, 4), (Exclusive, 5, 19)]);
    // The rest of the first range is removed with the first open file.
    t.locks.close_handle(Fh(1), &mut t.fx);
    assert_eq!(t.ranges(1), [(Exclusive, 5, 19)]);
    t.locks.close_handle(Fh(5), &mut t.fx);
    assert_eq!(t.locks.held(), 0);
}

#[test]
fn the_end_of_file_is_given_in_two_ways_and_reported_in_one() {
    for end in [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        let mut t = Table::new();
        assert_eq!(t.set(&range(1, Exclusive, 3, end)), DONE);
        assert_eq!(t.first(), Some(LockHeld { kind: Exclusive, start: 3, end: END, pid: 1 }));
        assert_eq!(t.set(&range(2, Shared, END, END)), failed(Error::WouldWait));
        assert_eq!(t.set(&range(1, Unlock, END, end)), DONE);
        assert_eq!(t.ranges(1), [(Exclusive, 3, END - 1)]);
    }
}

#[test]
fn impossible_ranges_are_invalid() {
    let mut t = Table::new();
    for (start, end) in [(1, 0), (u64::MAX, 0), (u64::MAX, u64::MAX), (END + 1, u64::MAX), (END, END - 1)] {
        for kind in [Shared, Exclusive, Unlock] {
            assert_eq!(t.set(&range(1, kind, start, end)), failed(Error::Invalid));
            assert_eq!(t.locks.test(FILE, &range(1, kind, start, end)), None);
        }
    }
    assert_eq!(t.locks.held(), 0);
}

#[test]
fn spans_at_the_very_end_do_not_overflow() {
    let last = Span::new(END, EOF).unwrap();
    let all = Span::new(0, EOF).unwrap();
    assert_eq!((last.len(), all.len()), (1, 1 << 63));
    assert_eq!(last.with_neighbours(), Span { start: END - 1, end: END });
    assert_eq!(all.subtract(last).collect::<Vec<_>>(), [Span { start: 0, end: END - 1 }]);
    assert_eq!(last.subtract(all).count(), 0);
}

#[test]
fn getlk_reports_the_first_conflict() {
    let mut t = Table::new();
    t.set(&range(1, Shared, 20, 29));
    t.set(&range(2, Shared, 10, 24));
    assert_eq!(t.locks.test(FILE, &range(3, Shared, 0, EOF)), None);
    assert_eq!(t.locks.test(FILE, &range(3, Exclusive, 0, 9)), None);
    let first = LockHeld { kind: Shared, start: 10, end: 24, pid: 2 };
    assert_eq!(t.locks.test(FILE, &range(3, Exclusive, 0, EOF)), Some(first));
    let not_mine = LockHeld { kind: Shared, start: 20, end: 29, pid: 1 };
    assert_eq!(t.locks.test(FILE, &range(2, Exclusive, 0, EOF)), Some(not_mine));
    assert_eq!(t.locks.test(FILE, &range(1, Unlock, 0, EOF)), Some(not_mine), "F_OFD_GETLK with F_UNLCK");
    t.set(&flock(4, Shared));
    let whole = LockHeld { kind: Shared, start: 0, end: END, pid: 4 };
    assert_eq!(t.locks.test(FILE, &flock(5, Exclusive)), Some(whole));
    assert_eq!(t.locks.test(FILE, &flock(4, Exclusive)), None);
}

#[test]
fn waiters_are_granted_in_order_and_may_pass_those_they_do_not_overlap() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 99));
    let (writer, _) = t.wait(&range(2, Exclusive, 0, 9));
    let (reader, _) = t.wait(&range(3, Shared, 5, 14));
    let (distant, _) = t.wait(&range(4, Exclusive, 50, 59));
    let (another, _) = t.wait(&range(5, Shared, 9, 9));
    assert_eq!(t.set_for_others(&range(1, Unlock, 40, 99)), [(distant, Reply::Done)]);
    assert_eq!(t.set_for_others(&range(1, Unlock, 0, 39)), [(writer, Reply::Done)]);
    assert_eq!(t.set_for_others(&range(2, Unlock, 0, 9)), [(reader, Reply::Done), (another, Reply::Done)]);
    assert_eq!((t.locks.waiting(), t.locks.held()), (0, 3));
}

#[test]
fn a_downgrade_admits_readers() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 9));
    let (reader, _) = t.wait(&range(2, Shared, 0, 4));
    let (writer, _) = t.wait(&range(3, Exclusive, 0, 4));
    assert_eq!(t.set_for_others(&range(1, Shared, 0, 9)), [(reader, Reply::Done)]);
    assert_eq!(t.set_for_others(&range(1, Unlock, 0, 9)), []);
    assert_eq!(t.set_for_others(&range(2, Unlock, 0, 9)), [(writer, Reply::Done)]);
}

#[test]
fn a_grant_that_downgrades_its_own_range_admits_an_earlier_waiter() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 4));
    t.set(&range(2, Exclusive, 5, 9));
    let (earlier, _) = t.wait(&range(3, Shared, 0, 2));
    // Another thread of owner 1 turns 0..=4 to shared as soon as it gets 5..=9 too.
    let (weakens, _) = t.wait(&range(1, Shared, 0, 9));
    assert_eq!(t.set_for_others(&range(2, Unlock, 5, 9)), [(weakens, Reply::Done), (earlier, Reply::Done)]);
}

#[test]
fn an_upgrade_keeps_its_shared_range_while_it_waits() {
    let mut t = Table::new();
    t.set(&range(1, Shared, 0, 9));
    t.set(&range(2, Shared, 0, 9));
    let (upgrade, _) = t.wait(&range(1, Exclusive, 0, 9));
    assert_eq!(t.ranges(1), [(Shared, 0, 9)]);
    assert_eq!(t.call(FILE, &range(2, Exclusive, 0, 9), true), failed(Error::Deadlock));
    assert_eq!(t.set_for_others(&range(2, Unlock, 0, 9)), [(upgrade, Reply::Done)]);
    assert_eq!(t.ranges(1), [(Exclusive, 0, 9)]);
}

#[test]
fn cancel_answers_once_and_only_waiting_calls() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 9));
    let (request_id, id) = t.wait(&range(2, Exclusive, 0, 9));
    let (granted, granted_id) = t.wait(&range(3, Exclusive, 5, 5));
    assert!(t.locks.cancel(id, Error::Interrupted, &mut t.fx));
    assert_eq!(t.replies(), [(request_id, Reply::Failed(Error::Interrupted))]);
    assert!(!t.locks.cancel(id, Error::Interrupted, &mut t.fx));
    assert_eq!(t.set_for_others(&range(1, Unlock, 0, 9)), [(granted, Reply::Done)]);
    assert!(!t.locks.cancel(granted_id, Error::Ending, &mut t.fx));
    assert!(!t.locks.cancel(WaitId(u64::MAX), Error::Ending, &mut t.fx));
    assert_eq!(t.replies(), []);
}

#[test]
fn a_cycle_of_owners_over_several_files_is_refused() {
    let mut t = Table::new();
    for n in 1..=3 {
        assert_eq!(t.call(Ino(n.into()), &range(n, Exclusive, 0, 9), false), DONE);
    }
    t.wait_on(Ino(2), &range(1, Shared, 0, 0));
    let (second, id) = t.wait_on(Ino(3), &range(2, Shared, 0, 0));
    assert_eq!(t.call(Ino(1), &range(3, Shared, 0, 0), true), failed(Error::Deadlock));
    assert_eq!(t.call(Ino(1), &range(3, Shared, 0, 0), false), failed(Error::WouldWait));
    // Without the second link there is no cycle any more.
    assert!(t.locks.cancel(id, Error::Interrupted, &mut t.fx));
    assert_eq!(t.replies(), [(second, Reply::Failed(Error::Interrupted))]);
    t.wait_on(Ino(1), &range(3, Shared, 0, 0));
}

#[test]
fn a_waiter_who_is_not_the_holders_process_makes_no_cycle() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 0));
    t.set(&range(2, Exclusive, 1, 1));
    // Process 9 waits through the open file through which process 1 locked byte 0: process 1 can still unlock it.
    t.wait(&LockCall { pid: 9, ..range(1, Exclusive, 1, 1) });
    t.wait(&range(2, Exclusive, 0, 0));
}

#[test]
fn flocks_conflict_by_open_file_and_not_with_ranges() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, EOF));
    assert_eq!(t.set(&flock(2, Shared)), DONE);
    assert_eq!(t.set(&flock(3, Shared)), DONE);
    assert_eq!(t.set(&flock(4, Exclusive)), failed(Error::WouldWait));
    assert_eq!(t.set(&flock(2, Unlock)), DONE);
    let (writer, _) = t.wait(&flock(4, Exclusive));
    assert_eq!(t.set_for_others(&flock(3, Unlock)), [(writer, Reply::Done)]);
    assert_eq!(t.set(&flock(4, Exclusive)), DONE, "asking for what one has");
    let (r1, _) = t.wait(&flock(2, Shared));
    let (r2, _) = t.wait(&flock(3, Shared));
    assert_eq!(t.set_for_others(&flock(4, Shared)), [(r1, Reply::Done), (r2, Reply::Done)]);
    assert_eq!(t.locks.held(), 4);
}

#[test]
fn a_flock_that_cannot_be_converted_is_lost() {
    let mut t = Table::new();
    t.set(&flock(1, Shared));
    t.set(&flock(2, Shared));
    assert_eq!(t.set(&flock(1, Exclusive)), failed(Error::WouldWait));
    assert_eq!(t.locks.held(), 1);
    assert_eq!(t.set(&flock(2, Exclusive)), DONE, "nobody else holds one any more");
}

#[test]
fn converting_flocks_do_not_deadlock() {
    let mut t = Table::new();
    t.set(&flock(1, Shared));
    t.set(&flock(2, Shared));
    let (first, _) = t.wait(&flock(1, Exclusive));
    assert_eq!(t.locks.held(), 1, "it has given up its own");
    // The second releases its own lock too. Then nobody holds one, and as in Linux the caller comes before those that
    // wait.
    assert_eq!(t.set(&flock(2, Exclusive)), DONE);
    assert_eq!(t.set_for_others(&flock(2, Unlock)), [(first, Reply::Done)]);
}

#[test]
fn closing_a_descriptor_drops_the_processes_ranges_on_that_file_only() {
    let mut t = Table::new();
    t.set(&range(1, Exclusive, 0, 9));
    t.set(&LockCall { fh: Fh(5), ..range(1, Exclusive, 20, 29) });
    t.set(&flock(1, Exclusive));
    t.call(OTHER_FILE, &range(1, Exclusive, 0, 9), false);
    let (request_id, _) = t.wait(&range(2, Exclusive, 0, 29));
    let (still, _) = t.wait(&flock(2, Exclusive));
    t.locks.close_owner(FILE, LockOwner(1), &mut t.fx);
    assert_eq!(t.replies(), [(request_id, Reply::Done)]);
    t.locks.close_handle(Fh(1), &mut t.fx);
    assert_eq!(t.replies(), [(still, Reply::Done)]);
    assert_eq!(t.locks.held(), 2);
}

#[test]
fn closing_an_open_file_drops_what_was_locked_and_awaited_through_it() {
    let mut t = Table::new();
    for file in [FILE, OTHER_FILE] {
        t.call(file, &flock(1, Exclusive), false);
        t.call(file, &range(1, Exclusive, 5, 6), false);
    }
    t.set(&range(2, Exclusive, 0, 4));
    let (own, own_id) = t.wait(&range(1, Exclusive, 0, 4));
    let (other, _) = t.wait(&range(3, Shared, 6, 9));
    let (flocker, _) = t.wait(&flock(3, Shared));
    t.locks.close_handle(Fh(1), &mut t.fx);
    let closed = (own, Reply::Failed(Error::BadDescriptor));
    assert_eq!(t.replies(), [closed, (flocker, Reply::Done), (other, Reply::Done)]);
    assert!(!t.locks.cancel(own_id, Error::Interrupted, &mut t.fx));
    assert_eq!(t.locks.held(), 3);
    t.locks.close_handle(Fh(1), &mut t.fx);
    assert_eq!(t.replies(), []);
}

#[test]
fn the_limit_counts_held_and_awaited() {
    let mut t = Table::with_limit(3);
    t.set(&range(1, Exclusive, 0, 9));
    t.set(&flock(1, Exclusive));
    t.wait(&range(2, Shared, 0, 0));
    assert_eq!(t.set(&range(3, Shared, 20, 20)), failed(Error::NoLocks));
    assert_eq!(t.set(&flock(1, Exclusive)), DONE, "nothing more than before");
    assert_eq!(t.call(FILE, &range(3, Shared, 0, 0), true), failed(Error::NoLocks));
    assert_eq!(t.call(FILE, &flock(3, Shared), true), failed(Error::NoLocks));
    assert_eq!(t.set(&range(1, Unlock, 5, 5)), failed(Error::NoLocks), "would make two of one");
    assert_eq!(t.ranges(1), [(Exclusive, 0, 9)]);
    assert_eq!(t.set(&range(1, Unlock, 9, 9)), DONE);
    assert_eq!(t.set(&flock(1, Shared)), DONE);
    assert_eq!((t.locks.held(), t.locks.waiting()), (2, 1));
}

#[test]
fn a_waiter_whose_grant_would_split_beyond_the_limit_is_refused() {
    // The close leaves room for the three ranges that one becomes.
    let mut t = Table::with_limit(3);
    t.set(&range(1, Shared, 0, 9));
    t.set(&range(2, Shared, 5, 5));
    let (upgrade, _) = t.wait(&range(1, Exclusive, 5, 5));
    t.locks.close_owner(FILE, LockOwner(2), &mut t.fx);
    assert_eq!(t.replies(), [(upgrade, Reply::Done)]);
    assert_eq!(t.locks.held(), 3);

    // Here there is room for two.
    let mut t = Table::with_limit(3);
    t.set(&range(1, Shared, 0, 9));
    t.set(&range(2, Shared, 5, 6));
    let (upgrade, _) = t.wait(&range(1, Exclusive, 5, 5));
    assert_eq!(t.set_for_others(&range(2, Unlock, 5, 5)), [(upgrade, Reply::Failed(Error::NoLocks))]);
    assert_eq!(t.ranges(1), [(Shared, 0, 9)]);
}

#[test]
fn an_owner_has_a_limit_of_its_own_in_each_file() {
    let mut t = Table::with_limit(usize::MAX);
    let most = MAX_LOCKED_RANGES as u64;
    for n in 0..most {
        assert_eq!(t.set(&range(1, Shared, n * 10, n * 10 + 4)), DONE);
    }
    assert_eq!(t.set(&range(1, Shared, most * 10, most * 10)), failed(Error::NoLocks));
    assert_eq!(t.set(&range(1, Unlock, 2, 2)), failed(Error::NoLocks), "would make two of one");
    assert_eq!(t.ranges(1).len(), MAX_LOCKED_RANGES, "nothing is lost");
    assert_eq!(t.set(&range(2, Shared, most * 10, most * 10)), DONE, "another owner");
    assert_eq!(t.call(OTHER_FILE, &range(1, Shared, 0, 0), false), DONE, "another file");
    assert_eq!(t.set(&range(1, Exclusive, 0, 4)), DONE, "nothing more than before");
    assert_eq!(t.set(&range(1, Unlock, 0, most * 10 - 1)), DONE);
    assert_eq!(t.ranges(1), []);
}

#[test]
fn tens_of_thousands_of_ranges_stay_fast() {
    const MANY: u32 = 20_000;
    let mut t = Table::with_limit(usize::MAX);
    for n in 0..MANY {
        assert_eq!(t.set(&range(n, Shared, 0, u64::from(n) * 3)), DONE);
        assert_eq!(t.set(&range(n, Exclusive, 100_000 + u64::from(n) * 2, 100_000 + u64::from(n) * 2)), DONE);
    }
    assert_eq!(t.set(&range(MANY, Exclusive, 60_000, 99_999)), DONE);
    assert_eq!(t.set(&range(MANY, Exclusive, 0, 0)), failed(Error::WouldWait));
    for n in 0..MANY {
        t.locks.close_handle(Fh(n.into()), &mut t.fx);
    }
    assert_eq!(t.locks.held(), 1);
}
