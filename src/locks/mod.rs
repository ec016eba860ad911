//! All advisory locks of a mount: flock(2), and the byte ranges of fcntl(2), both those of processes (POSIX,
//! `F_SETLK`) and those of open files (OFD, `F_OFD_SETLK`). They behave as on Linux's own file systems.
//!
//! The daemon keeps the locks, because one file may be several inodes to the kernel, which would have separate locks.
//! A waiting call is an entry in a queue here. [`Locks::set`], [`Locks::cancel`], [`Locks::close_owner`] and
//! [`Locks::close_handle`] answer it through their [`Effects`], exactly once.
//!
//! # Invariants
//!
//! - Of locks held by different holders on the same bytes (by flock, on the same file), all are shared or there is
//!   only one.
//! - Every waiting call conflicts with a held lock. So only a lock that is released or downgraded can let it succeed,
//!   and only on the bytes concerned.
//! - Ranges held, flocks held and calls waiting are together at most the limit, and one owner has at most
//!   [`MAX_LOCKED_RANGES`](crate::config::MAX_LOCKED_RANGES) ranges in a file.
//!
//! # Cost
//!
//! For *n* ranges held in a file and *w* calls waiting for it: setting and unlocking cost O(log n), plus the ranges
//! of the caller that are replaced. Unlocking also looks at all *w* waiting calls, and tries those that wanted the
//! bytes again. A request for an exclusive range also looks at the shared ranges near it, up to the first of another
//! owner. Testing looks at all conflicting ranges, to report the first. Cancelling costs O(log w), closing O(w) plus
//! the locks removed.

mod flocks;
mod ranges;
mod request;
mod span_index;
mod waits;

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::flocks::{Flock, Flocks};
use self::ranges::Ranges;
use self::request::{END, LockRequest, Target};
use self::waits::{Waiting, Waits};
use crate::accounts::{Account, Charge, Resource};
use crate::op::{Effects, Error, Fh, Ino, LockCall, LockHeld, LockKind, LockOwner, Reply, RequestId};
use crate::state::saved;

/// Edges of the wait-for graph that one call examines at most. A cycle that takes more edges to find is not detected:
/// its callers wait until a signal comes. (Linux gives up after a chain of 10.)
const DEADLOCK_SEARCH: usize = 10_000;

/// Identifies a waiting call, for [`Locks::cancel`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct WaitId(pub u64);

saved!(struct WaitId(number));

/// The locks of all files of a mount, and the calls that wait for them.
#[derive(Debug, Default)]
pub struct Locks {
    /// Ranges and flocks in `files`.
    held: usize,
    /// The files that have locks.
    files: HashMap<Ino, FileLocks>,
    waits: Waits,
    /// Open files through which a lock was set or awaited, with their file. Kept until they are closed.
    used: BTreeSet<(Fh, Ino)>,
    /// What is held and awaited through each open file, charged to the user who used it first. An entry stays until the
    /// open file is closed.
    charges: HashMap<Fh, Charge>,
}

saved!(struct Locks { held, files, waits, used, charges });

impl Locks {
    /// `F_GETLK`: the first lock in the file that conflicts with this one, `None` if [`set`](Locks::set) would
    /// succeed. A range to the end of the file is reported to end at `i64::MAX`.
    ///
    /// For `Unlock`, which only `F_OFD_GETLK` allows: the owner's own first lock in the range.
    pub fn test(&self, file: Ino, call: &LockCall) -> Option<LockHeld> {
        let LockRequest { holder, kind, target } = LockRequest::parse(call)?;
        let held = self.files.get(&file)?;
        let span = match target {
            Target::Flock => {
                let Flock { kind, pid } = held.flocks.conflicting(holder.fh, kind)?;
                return Some(LockHeld { kind, start: 0, end: END, pid });
            }
            Target::Range(span) => span,
        };
        let found = if kind == LockKind::Unlock {
            held.ranges.of(holder.owner, span).next()
        } else {
            held.ranges.first_conflict(holder.owner, kind, span)
        }?;
        Some(LockHeld {
            kind: found.kind,
            start: found.span.start,
            end: found.span.end,
            pid: found.holder.pid,
        })
    }

    /// `F_SETLK`, `F_SETLKW` and flock(2), unlocking included. Answers `request_id`, and then the calls whose wait it
    /// ends.
    ///
    /// ```text
    ///          no conflict
    ///   call ─────────────────────────────────────▶ Done | NoLocks
    ///    │ blocked                                    ▲
    ///    ├── may not wait ──▶ WouldWait               │ no conflict any more
    ///    ├── closes a cycle ─▶ Deadlock               │
    ///    ├── table is full ──▶ NoLocks                │
    ///    └── else ──────────────────────────────▶ waiting ──▶ cancel's error | BadDescriptor: its open file closed
    /// ```
    ///
    /// If the call waits, returns its id, and its reply comes from a later call. Replies with errors:
    ///
    /// - `Invalid`: the range ends before it starts, or starts beyond the greatest file size.
    /// - `WouldWait`: a lock conflicts and `wait` is false.
    /// - `Deadlock`: the holder of a conflicting range waits, itself or through others, for this caller. As in Linux
    ///   this is checked only when a call begins to wait, and never for flocks. A holder counts as waiting only if the
    ///   same process both locked and waits, because any process that shares an open file can release its locks.
    /// - `NoLocks`: a limit would be exceeded. Unlocking the middle of a range can exceed it too, because it splits
    ///   the range in two.
    ///
    /// A byte range is converted as fcntl(2) says: the owner keeps what it has while the call waits or if it fails. A
    /// flock of the other type is released first, as flock(2) says, and is lost even if the new one is refused.
    pub fn set(
        &mut self,
        file: Ino,
        call: &LockCall,
        account: &Arc<Account>,
        (request_id, wait): (RequestId, bool),
        fx: &mut Effects,
    ) -> Option<WaitId> {
        let Some(request) = LockRequest::parse(call) else {
            fx.fail(request_id, Error::Invalid);
            return None;
        };
        // Nothing is charged yet, which always succeeds.
        if let Entry::Vacant(entry) = self.charges.entry(call.fh)
            && let Ok(charge) = account.charge(Resource::Locks, 0)
        {
            entry.insert(charge);
        }
        let mut downgraded = self.release_to_convert(file, &request);
        let mut id = None;
        if !self.is_blocked(file, &request) {
            match self.take(file, &request) {
                Ok(also_downgraded) => {
                    downgraded |= also_downgraded;
                    fx.reply(request_id, Reply::Done);
                }
                Err(error) => fx.fail(request_id, error),
            }
        } else if !wait {
            fx.fail(request_id, Error::WouldWait);
        } else if self.would_deadlock(file, &request) {
            fx.fail(request_id, Error::Deadlock);
        } else if self.remaining(call.fh) == 0 {
            fx.fail(request_id, self.no_locks(call.fh));
        } else {
            self.used.insert((request.holder.fh, file));
            self.count(call.fh, true);
            id = Some(self.waits.add(file, Waiting { request, request_id }));
        }
        if downgraded {
            self.grant(file, request.target, fx);
        }
        id
    }

    /// Ends a wait with `error`: the caller got a signal, or the mount ends. False, and no effect, if the call was
    /// answered already.
    pub fn cancel(&mut self, id: WaitId, error: Error, fx: &mut Effects) -> bool {
        let waiting = self.waits.remove(id);
        if let Some(waiting) = waiting {
            self.count(waiting.request.holder.fh, false);
            fx.fail(waiting.request_id, error);
        }
        waiting.is_some()
    }

    /// FLUSH: a process closed a descriptor of the file, and so loses its POSIX locks on the file, whichever
    /// descriptor they were set through. Calls of its other threads that wait continue to wait.
    pub fn close_owner(&mut self, file: Ino, owner: LockOwner, fx: &mut Effects) {
        if let Some(span) = self.edit(file, |held| held.ranges.drop_owner(owner)) {
            self.grant(file, Target::Range(span), fx);
        }
    }

    /// RELEASE: the last descriptor of an open file is closed. The locks set through it are removed: its flock, its
    /// OFD locks, and POSIX locks that FLUSH has left. Calls that wait through it fail with `BadDescriptor`.
    pub fn close_handle(&mut self, fh: Fh, fx: &mut Effects) {
        let files: Vec<Ino> =
            self.used.range((fh, Ino(0))..=(fh, Ino(u64::MAX))).map(|&(_, file)| file).collect();
        for file in files {
            self.used.remove(&(fh, file));
            let through_it =
                |(id, waiting): (WaitId, &Waiting)| (waiting.request.holder.fh == fh).then_some(id);
            let ended: Vec<WaitId> = self.waits.of_file(file).filter_map(through_it).collect();
            for id in ended {
                self.cancel(id, Error::BadDescriptor, fx);
            }
            let (flock, span) = self.edit(file, |held| (held.flocks.remove(fh), held.ranges.drop_handle(fh)));
            if flock {
                self.grant(file, Target::Flock, fx);
            }
            if let Some(span) = span {
                self.grant(file, Target::Range(span), fx);
            }
        }
        self.charges.remove(&fh);
    }

    /// Calls waiting now.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Ranges and flocks held now.
    pub fn held(&self) -> usize {
        self.held
    }

    /// flock(2): "the existing lock is first removed, and then a new lock is established". True if a lock was
    /// removed.
    fn release_to_convert(&mut self, file: Ino, request: &LockRequest) -> bool {
        let fh = request.holder.fh;
        request.target == Target::Flock
            && self.edit(file, |held| {
                held.flocks.held(fh).is_some_and(|kind| kind != request.kind) && held.flocks.remove(fh)
            })
    }

    fn is_blocked(&self, file: Ino, request: &LockRequest) -> bool {
        let LockRequest { holder, kind, target } = *request;
        self.files.get(&file).is_some_and(|held| match target {
            Target::Flock => held.flocks.conflicting(holder.fh, kind).is_some(),
            Target::Range(span) => held.ranges.conflicting(holder.owner, kind, span).next().is_some(),
        })
    }

    /// Carries out a request without conflicts. True if another call's request may have no conflict any more.
    fn take(&mut self, file: Ino, request: &LockRequest) -> Result<bool, Error> {
        let LockRequest { holder, kind, target } = *request;
        let room = self.remaining(holder.fh);
        let downgraded = self.edit(file, |held| match target {
            Target::Range(span) => held.ranges.change(holder, kind, span, room),
            Target::Flock if kind == LockKind::Unlock => Ok(held.flocks.remove(holder.fh)),
            Target::Flock => match held.flocks.held(holder.fh) {
                None if room == 0 => Err(Error::NoLocks),
                before => {
                    held.flocks.insert(holder.fh, Flock { kind, pid: holder.pid });
                    Ok(before == Some(LockKind::Exclusive) && kind == LockKind::Shared)
                }
            },
        });
        let downgraded = downgraded.map_err(|_| self.no_locks(holder.fh))?;
        if kind != LockKind::Unlock {
            self.used.insert((holder.fh, file));
        }
        Ok(downgraded)
    }

    /// Grants the waiting requests that `freed` has left without conflicts, in order of arrival.
    fn grant(&mut self, file: Ino, freed: Target, fx: &mut Effects) {
        let mut freed = vec![freed];
        while let Some(more) = self.grant_until_more_is_freed(file, &freed, fx) {
            freed.push(more);
        }
    }

    /// One pass over the waiting calls. Granting one can itself free bytes, if its caller held an exclusive range and
    /// waited for a shared one that covers it. Then the pass ends, because an earlier call may be next.
    fn grant_until_more_is_freed(&mut self, file: Ino, freed: &[Target], fx: &mut Effects) -> Option<Target> {
        let overlaps = |target: Target| freed.iter().any(|freed| freed.overlaps(target));
        let concerned = self.waits.of_file(file).filter(|(_, waiting)| overlaps(waiting.request.target));
        let candidates: Vec<(WaitId, LockRequest)> =
            concerned.map(|(id, waiting)| (id, waiting.request)).collect();
        for (id, request) in candidates {
            if self.is_blocked(file, &request) {
                continue;
            }
            // Removed before it is granted, so that its own entry does not count against the limit.
            let Some(Waiting { request_id, .. }) = self.waits.remove(id) else { continue };
            self.count(request.holder.fh, false);
            match self.take(file, &request) {
                Ok(downgraded) => {
                    fx.reply(request_id, Reply::Done);
                    if downgraded {
                        return Some(request.target);
                    }
                }
                Err(error) => fx.fail(request_id, error),
            }
        }
        None
    }

    /// True if the holders of conflicting byte ranges wait, themselves or through others, for the caller.
    fn would_deadlock(&self, file: Ino, request: &LockRequest) -> bool {
        let who = |request: &LockRequest| (request.holder.owner, request.holder.pid);
        let mut seen = HashSet::new();
        let mut edges = 0;
        let mut unexplored = vec![(file, request)];
        while let Some((file, waiting_request)) = unexplored.pop() {
            let Target::Range(span) = waiting_request.target else { continue };
            let Some(held) = self.files.get(&file) else { continue };
            for obstacle in held.ranges.conflicting(waiting_request.holder.owner, waiting_request.kind, span)
            {
                edges += 1;
                let holder = (obstacle.holder.owner, obstacle.holder.pid);
                if holder == who(request) {
                    return true;
                }
                if edges > DEADLOCK_SEARCH {
                    return false;
                }
                if seen.insert(holder) {
                    let its_calls = self.waits.of_owner(obstacle.holder.owner);
                    let its_calls = its_calls.map(|(file, waiting)| (file, &waiting.request));
                    unexplored.extend(its_calls.filter(|(_, request)| who(request) == holder));
                }
            }
        }
        false
    }

    /// Locks and waiting calls that may still be added through an open file.
    fn remaining(&self, fh: Fh) -> usize {
        let left = self.charges.get(&fh).map_or(0, |charge| charge.account().left(Resource::Locks));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// `NoLocks`, noted if it is the user's share that is used up.
    fn no_locks(&self, fh: Fh) -> Error {
        if self.remaining(fh) == 0
            && let Some(charge) = self.charges.get(&fh)
        {
            charge.account().note_exceeded(Resource::Locks);
        }
        Error::NoLocks
    }

    /// One more lock or call through an open file, or one less. Room for it has been found.
    fn count(&mut self, fh: Fh, added: bool) {
        if let Some(charge) = self.charges.get_mut(&fh) {
            let amount = charge.amount();
            charge.force(if added { amount + 1 } else { amount.saturating_sub(1) });
        }
    }

    /// The only place where the locks of a file change. Updates the count, and drops files without locks.
    fn edit<T>(&mut self, file: Ino, change: impl FnOnce(&mut FileLocks) -> T) -> T {
        let held = self.files.entry(file).or_default();
        let before = held.len();
        let result = change(held);
        let after = held.len();
        let changes = held.ranges.take_changes().into_iter().chain(held.flocks.take_changes());
        let changes: Vec<(Fh, bool)> = changes.collect();
        self.held = self.held - before + after;
        for (fh, added) in changes {
            self.count(fh, added);
        }
        if after == 0 {
            self.files.remove(&file);
        }
        result
    }
}

/// The locks of one file.
#[derive(Debug, Default)]
struct FileLocks {
    ranges: Ranges,
    flocks: Flocks,
}

saved!(struct FileLocks { ranges, flocks });

impl FileLocks {
    fn len(&self) -> usize {
        self.ranges.len() + self.flocks.len()
    }
}
