//! Finds the ranges that overlap a span, among ranges that may overlap each other.

use std::collections::BTreeSet;
use std::iter;

use super::request::Span;
use crate::op::LockOwner;
use crate::state::saved;

/// An index of ranges by the bytes that they cover. A range is identified by its owner and its first byte.
///
/// If ranges overlap each other, the order of their first bytes does not tell where the search for those that overlap
/// a span must begin. Within a [`Class`], it does so to a factor of two.
#[derive(Debug, Default)]
pub(super) struct SpanIndex {
    entries: BTreeSet<(Class, u64, LockOwner)>,
}

saved!(struct SpanIndex { entries });

/// Ranges of 2ⁿ to 2ⁿ⁺¹ − 1 bytes are of class n: 0 to 63.
type Class = u32;

impl SpanIndex {
    pub(super) fn insert(&mut self, owner: LockOwner, span: Span) {
        self.entries.insert((class_of(span), span.start, owner));
    }

    pub(super) fn remove(&mut self, owner: LockOwner, span: Span) {
        self.entries.remove(&(class_of(span), span.start, owner));
    }

    /// All ranges that overlap `span`, and some that end a little before it: for each class those of it, in order of their
    /// first bytes.
    pub(super) fn candidates(
        &self,
        span: Span,
    ) -> impl Iterator<Item = impl Iterator<Item = (LockOwner, u64)>> {
        let classes = iter::successors(self.class_from(0), |class| self.class_from(class + 1));
        classes.map(move |class| {
            let longest = u64::MAX >> (63 - class);
            let earliest = span.start.saturating_sub(longest - 1);
            let range = (class, earliest, LockOwner(0))..=(class, span.end, LockOwner(u64::MAX));
            self.entries.range(range).map(|&(_, start, owner)| (owner, start))
        })
    }

    /// The first class, `class` or a later one, that has a range.
    fn class_from(&self, class: Class) -> Option<Class> {
        self.entries.range((class, 0, LockOwner(0))..).next().map(|&(class, ..)| class)
    }
}

fn class_of(span: Span) -> Class {
    span.len().ilog2()
}
