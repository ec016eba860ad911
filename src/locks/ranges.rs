//! The byte ranges held in one file: POSIX locks and open file description locks alike.

use std::collections::{BTreeMap, BTreeSet};

use super::request::{Holder, Span, conflicts};
use super::span_index::SpanIndex;
use crate::config::MAX_LOCKED_RANGES;
use crate::op::{Error, Fh, LockKind, LockOwner};
use crate::state::saved;

/// A held range. `kind` is never `Unlock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) span: Span,
    pub(super) kind: LockKind,
    pub(super) holder: Holder,
}

saved!(struct Range { span, kind, holder });

/// All ranges held in one file.
///
/// The ranges of one owner are disjoint and as long as possible: two that touch differ in type or holder. Ranges of
/// different owners overlap only if both are shared.
///
/// `by_owner` has the ranges. The others are indexes of it, which [`Ranges::insert`] and [`Ranges::remove`] keep
/// consistent.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    by_owner: BTreeMap<(LockOwner, u64), Range>,
    exclusive: SpanIndex,
    shared: SpanIndex,
    by_handle: BTreeSet<(Fh, LockOwner, u64)>,
    /// Ranges added and removed since this was last taken: the open file, and whether it was added.
    changes: Vec<(Fh, bool)>,
}

saved!(struct Ranges { by_owner, exclusive, shared, by_handle, changes });

impl Ranges {
    pub(super) fn len(&self) -> usize {
        self.by_owner.len()
    }

    /// The ranges of other owners that conflict with a lock of `kind` on `span`, in no particular order.
    pub(super) fn conflicting(
        &self,
        owner: LockOwner,
        kind: LockKind,
        span: Span,
    ) -> impl Iterator<Item = &Range> {
        self.conflicts(owner, kind, span).flatten()
    }

    /// The first of them.
    pub(super) fn first_conflict(&self, owner: LockOwner, kind: LockKind, span: Span) -> Option<&Range> {
        let firsts = self.conflicts(owner, kind, span).filter_map(|mut ranges| ranges.next());
        firsts.min_by_key(|range| (range.span.start, range.holder.owner))
    }

    /// For each index and class, in order of their first bytes.
    fn conflicts(
        &self,
        owner: LockOwner,
        kind: LockKind,
        span: Span,
    ) -> impl Iterator<Item = impl Iterator<Item = &Range>> {
        // Shared ranges can be many. They are searched only for exclusive locks.
        let exclusive = conflicts(kind, LockKind::Exclusive).then_some(&self.exclusive);
        let shared = conflicts(kind, LockKind::Shared).then_some(&self.shared);
        exclusive.into_iter().chain(shared).flat_map(move |span_index| span_index.candidates(span)).map(
            move |candidates| {
                candidates
                    .filter_map(|(owner, start)| self.by_owner.get(&(owner, start)))
                    .filter(move |range| range.holder.owner != owner && range.span.overlaps(span))
            },
        )
    }

    /// The ranges of `owner` that overlap `span`, in order.
    pub(super) fn of(&self, owner: LockOwner, span: Span) -> impl Iterator<Item = &Range> {
        let reaching_in = self.by_owner.range((owner, 0)..(owner, span.start)).next_back();
        let starting_in = self.by_owner.range((owner, span.start)..=(owner, span.end));
        reaching_in
            .into_iter()
            .chain(starting_in)
            .map(|(_, range)| range)
            .filter(move |r| r.span.overlaps(span))
    }

    /// Sets `span` to `kind` for the holder, or unlocks it. It replaces what its owner had there. The caller has
    /// checked that nothing is [conflicting](Ranges::conflicting).
    ///
    /// True if another owner may now lock bytes that it could not lock before. `Error::NoLocks`, and nothing changed,
    /// if the file would have more than `room` additional ranges, or the owner more than [`MAX_LOCKED_RANGES`]:
    /// unlocking the middle of a range splits it in two.
    pub(super) fn change(
        &mut self,
        holder: Holder,
        kind: LockKind,
        span: Span,
        room: usize,
    ) -> Result<bool, Error> {
        let joins = |old: &Range| old.kind == kind && old.holder == holder;
        let old: Vec<Range> = self
            .of(holder.owner, span.with_neighbours())
            .filter(|old| joins(old) || old.span.overlaps(span))
            .copied()
            .collect();

        let mut new = Vec::new();
        let mut joined = span;
        for range in &old {
            if joins(range) {
                joined = joined.hull(range.span);
            } else {
                new.extend(range.span.subtract(span).map(|rest| Range { span: rest, ..*range }));
            }
        }
        if kind != LockKind::Unlock {
            new.push(Range { span: joined, kind, holder });
        }
        let added = new.len().saturating_sub(old.len());
        let too_many = |held: usize| held + added > MAX_LOCKED_RANGES;
        // The owner's own are counted only if the file has so many.
        if added > room || added > 0 && too_many(self.len()) && too_many(self.count_of(holder.owner)) {
            return Err(Error::NoLocks);
        }

        let downgraded = match kind {
            LockKind::Unlock => !old.is_empty(),
            LockKind::Shared => old.iter().any(|old| old.kind == LockKind::Exclusive),
            LockKind::Exclusive => false,
        };
        for range in old {
            self.remove(range);
        }
        for range in new {
            self.insert(range);
        }
        Ok(downgraded)
    }

    fn count_of(&self, owner: LockOwner) -> usize {
        self.by_owner.range((owner, 0)..=(owner, u64::MAX)).count()
    }

    /// Removes all ranges of `owner`. Returns the smallest span that covers them.
    pub(super) fn drop_owner(&mut self, owner: LockOwner) -> Option<Span> {
        let ranges = self.by_owner.range((owner, 0)..=(owner, u64::MAX)).map(|(_, range)| *range).collect();
        self.drop_all(ranges)
    }

    /// Removes all ranges last set through `fh`. Returns the smallest span that covers them.
    pub(super) fn drop_handle(&mut self, fh: Fh) -> Option<Span> {
        let ranges = self
            .by_handle
            .range((fh, LockOwner(0), 0)..=(fh, LockOwner(u64::MAX), u64::MAX))
            .filter_map(|&(_, owner, start)| self.by_owner.get(&(owner, start)).copied())
            .collect();
        self.drop_all(ranges)
    }

    fn drop_all(&mut self, ranges: Vec<Range>) -> Option<Span> {
        ranges
            .into_iter()
            .map(|range| {
                self.remove(range);
                range.span
            })
            .reduce(Span::hull)
    }

    /// The index of the ranges of `kind`.
    fn span_index(&mut self, kind: LockKind) -> &mut SpanIndex {
        if kind == LockKind::Exclusive { &mut self.exclusive } else { &mut self.shared }
    }

    fn insert(&mut self, range: Range) {
        let Holder { owner, fh, .. } = range.holder;
        let start = range.span.start;
        self.by_owner.insert((owner, start), range);
        self.span_index(range.kind).insert(owner, range.span);
        self.by_handle.insert((fh, owner, start));
        self.changes.push((fh, true));
    }

    fn remove(&mut self, range: Range) {
        let Holder { owner, fh, .. } = range.holder;
        let start = range.span.start;
        self.by_owner.remove(&(owner, start));
        self.span_index(range.kind).remove(owner, range.span);
        self.by_handle.remove(&(fh, owner, start));
        self.changes.push((fh, false));
    }

    /// What was added and removed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<(Fh, bool)> {
        std::mem::take(&mut self.changes)
    }
}
