//! All advisory locks of a mount: flock(2), and the byte ranges of fcntl(2), both those of processes (POSIX,
//! `F_SETLK`) and those of open files (OFD, `F_OFD_SETLK`). They behave as Linux's own do.
//!
//! The kernel leaves these to the daemon, because one file may be several inodes to the kernel, which would each have
//! locks of their own. A caller who has to wait is an entry in a queue here; [`Locks::set`], [`Locks::cancel`] and the
//! two closings answer it through their [`Effects`], each call exactly once.
//!
//! # Invariants
//!
//! - Of locks held by different holders on the same bytes (by flock, on the same file), all are shared or there is
//!   only one.
//! - Every waiting call has something held in its way. So nothing but a lock given up or weakened can end a wait, and
//!   only on the bytes concerned.
//! - Ranges held, flocks held and calls waiting are together no more than the limit.
//!
//! # Cost
//!
//! For *n* ranges held in a file and *w* calls waiting for it: setting and unlocking take O(log n) and the ranges of the
//! caller's that are replaced; unlocking also looks at each of the *w*, of which those that wanted the bytes are tried
//! again. Only who wants an exclusive range also looks at the shared ranges candidates it, up to the first of another's.
//! Testing looks at all that are in the way, to report the first. Cancelling takes O(log w), closing O(w) and the locks
//! that go.

mod flocks;
mod ranges;
mod request;
mod span_index;
mod waits;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};

use self::flocks::{Flock, Flocks};
use self::ranges::Ranges;
use self::request::{END, LockRequest, Target};
use self::waits::{Waiting, Waits};
use crate::op::{Effects, Error, Fh, Ino, LockCall, LockHeld, LockKind, LockOwner, Reply, RequestId};

/// Edges of the graph of who waits for whom that one call may look at. A cycle that takes more to find goes unnoticed:
/// its callers wait until a signal comes. (Linux gives up after a chain of 10.)
const DEADLOCK_SEARCH: usize = 10_000;

/// Names one waiting call, for [`Locks::cancel`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct WaitId(pub u64);

/// The locks of all files of a mount, held and awaited.
#[derive(Debug)]
pub struct Locks {
    limit: usize,
    /// Ranges and flocks in `files`.
    held: usize,
    /// The files on which something is held.
    files: HashMap<Ino, FileLocks>,
    waits: Waits,
    /// Open files through which something was locked or awaited, with their file. Kept until they are closed.
    used: BTreeSet<(Fh, Ino)>,
}

impl Locks {
    /// None yet. At most `limit` ranges and flocks will be held or awaited at a time.
    pub fn new(limit: usize) -> Locks {
        Locks { limit, held: 0, files: HashMap::new(), waits: Waits::default(), used: BTreeSet::new() }
    }

    /// `F_GETLK`: the lock that [`set`](Locks::set) would meet first in the file, `None` if it would succeed. A range
    /// to the end of the file is reported to end at `i64::MAX`.
    ///
    /// Asked for `Unlock`, which only `F_OFD_GETLK` lets through: the owner's own first lock there.
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
            let conflicting = held.ranges.conflicting(holder.owner, kind, span);
            conflicting.min_by_key(|range| (range.span.start, range.holder.owner))
        }?;
        Some(LockHeld {
            kind: found.kind,
            start: found.span.start,
            end: found.span.end,
            pid: found.holder.pid,
        })
    }

    /// `F_SETLK`, `F_SETLKW` and flock(2); unlocking too. Answers `request_id`, and then those whose wait it ends.
    ///
    /// ```text
    ///          nothing in the way
    ///   call ─────────────────────────────────────▶ Done | NoLocks
    ///    │ blocked                                    ▲
    ///    ├── may not wait ──▶ WouldWait               │ nothing in the way any more
    ///    ├── closes a cycle ─▶ Deadlock               │
    ///    ├── table is full ──▶ NoLocks                │
    ///    └── else ──────────────────────────────▶ waiting ──▶ cancel's error | BadDescriptor: its open file closed
    /// ```
    ///
    /// Returns the id of the call if it waits; its answer then comes from a later call. Answers with errors:
    ///
    /// - `Invalid`: the range ends before it starts, or starts where no file reaches.
    /// - `WouldWait`: something is in the way and `wait` is false.
    /// - `Deadlock`: a range whose holder waits, itself or through others, for this caller. As in Linux this is
    ///   looked for only when a call begins to wait, and never for flocks. A holder counts as waiting only if the same
    ///   process both locked and waits, because an open file's locks can be given up by whoever shares it.
    /// - `NoLocks`: more would be held or awaited than the limit. Unlocking the middle of a range can meet it too,
    ///   because it makes two of one.
    ///
    /// A byte range is replaced as fcntl(2) says: the owner keeps what it has while it waits or when it fails. A flock
    /// of the other kind is given up first, as flock(2) says, and is lost even if the new one is refused.
    pub fn set(
        &mut self,
        file: Ino,
        call: &LockCall,
        request_id: RequestId,
        wait: bool,
        fx: &mut Effects,
    ) -> Option<WaitId> {
        let Some(request) = LockRequest::parse(call) else {
            fx.fail(request_id, Error::Invalid);
            return None;
        };
        let mut weakened = self.release_to_convert(file, &request);
        let mut id = None;
        if !self.is_blocked(file, &request) {
            match self.take(file, &request) {
                Ok(also_weakened) => {
                    weakened |= also_weakened;
                    fx.reply(request_id, Reply::Done);
                }
                Err(error) => fx.fail(request_id, error),
            }
        } else if !wait {
            fx.fail(request_id, Error::WouldWait);
        } else if self.closes_a_cycle(file, &request) {
            fx.fail(request_id, Error::Deadlock);
        } else if self.room() == 0 {
            fx.fail(request_id, Error::NoLocks);
        } else {
            self.used.insert((request.holder.fh, file));
            id = Some(self.waits.add(file, Waiting { request, request_id }));
        }
        if weakened {
            self.grant(file, request.target, fx);
        }
        id
    }

    /// Ends a wait with `error`: the caller got a signal, or the mount ends. False, and no effect, if the call no
    /// longer waits: then it has been answered.
    pub fn cancel(&mut self, id: WaitId, error: Error, fx: &mut Effects) -> bool {
        let waiting = self.waits.remove(id);
        if let Some(waiting) = waiting {
            fx.fail(waiting.request_id, error);
        }
        waiting.is_some()
    }

    /// FLUSH: a process closed a descriptor of the file, and thereby loses its POSIX locks on it, through whichever
    /// descriptor they came. What its other threads wait for, they go on waiting for.
    pub fn close_owner(&mut self, file: Ino, owner: LockOwner, fx: &mut Effects) {
        if let Some(span) = self.edit(file, |held| held.ranges.drop_owner(owner)) {
            self.grant(file, Target::Range(span), fx);
        }
    }

    /// RELEASE: the last descriptor of an open file is closed. What was locked through it goes: flock, OFD locks, and
    /// what FLUSH left of POSIX locks. What is awaited through it fails with `BadDescriptor`.
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
    }

    /// Calls waiting now.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Ranges and flocks held now.
    pub fn held(&self) -> usize {
        self.held
    }

    /// flock(2): "the existing lock is first removed, and then a new lock is established". True if there was one.
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

    /// Carries out a request that is not blocked. True if somebody else's request may be blocked no longer.
    fn take(&mut self, file: Ino, request: &LockRequest) -> Result<bool, Error> {
        let LockRequest { holder, kind, target } = *request;
        let room = self.room();
        let weakened = self.edit(file, |held| match target {
            Target::Range(span) => held.ranges.change(holder, kind, span, room),
            Target::Flock if kind == LockKind::Unlock => Ok(held.flocks.remove(holder.fh)),
            Target::Flock => match held.flocks.held(holder.fh) {
                None if room == 0 => Err(Error::NoLocks),
                before => {
                    held.flocks.insert(holder.fh, Flock { kind, pid: holder.pid });
                    Ok(before == Some(LockKind::Exclusive) && kind == LockKind::Shared)
                }
            },
        })?;
        if kind != LockKind::Unlock {
            self.used.insert((holder.fh, file));
        }
        Ok(weakened)
    }

    /// Answers the calls that waited for what was `freed` and are blocked no longer, in the order they came.
    fn grant(&mut self, file: Ino, freed: Target, fx: &mut Effects) {
        let mut freed = vec![freed];
        while let Some(more) = self.grant_until_more_is_freed(file, &freed, fx) {
            freed.push(more);
        }
    }

    /// One pass over those who wait. A grant can itself free something, where the caller held an exclusive range and
    /// waited for a shared one that covers it: the pass ends there, because it may be an earlier call's turn.
    fn grant_until_more_is_freed(&mut self, file: Ino, freed: &[Target], fx: &mut Effects) -> Option<Target> {
        let overlaps = |target: Target| freed.iter().any(|freed| freed.overlaps(target));
        let of_interest = self.waits.of_file(file).filter(|(_, waiting)| overlaps(waiting.request.target));
        let candidates: Vec<(WaitId, LockRequest)> =
            of_interest.map(|(id, waiting)| (id, waiting.request)).collect();
        for (id, request) in candidates {
            if self.is_blocked(file, &request) {
                continue;
            }
            // Out of the queue before it is taken, so that its own place counts as room.
            let Some(Waiting { request_id, .. }) = self.waits.remove(id) else { continue };
            match self.take(file, &request) {
                Ok(weakened) => {
                    fx.reply(request_id, Reply::Done);
                    if weakened {
                        return Some(request.target);
                    }
                }
                Err(error) => fx.fail(request_id, error),
            }
        }
        None
    }

    /// Whether those in the way of a byte range wait, themselves or through others, for its claimant.
    fn closes_a_cycle(&self, file: Ino, request: &LockRequest) -> bool {
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

    /// How many more may be held or awaited.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.held + self.waits.len())
    }

    /// The one place where what a file holds is changed: keeps the count, and no file that holds nothing.
    fn edit<T>(&mut self, file: Ino, change: impl FnOnce(&mut FileLocks) -> T) -> T {
        let held = self.files.entry(file).or_default();
        let before = held.len();
        let result = change(held);
        let after = held.len();
        self.held = self.held - before + after;
        if after == 0 {
            self.files.remove(&file);
        }
        result
    }
}

/// What is held on one file.
#[derive(Debug, Default)]
struct FileLocks {
    ranges: Ranges,
    flocks: Flocks,
}

impl FileLocks {
    fn len(&self) -> usize {
        self.ranges.len() + self.flocks.len()
    }
}
