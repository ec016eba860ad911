//! Which slabs are free, as runs of neighbours.

use std::collections::{BTreeMap, BTreeSet};

/// Runs of free slabs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Their lengths, by their first slabs. No two of them touch.
    by_start: BTreeMap<u64, u64>,
    /// The same, the shortest first.
    by_length: BTreeSet<(u64, u64)>,
}

impl Runs {
    /// Takes `count` neighbours from the shortest run that has so many. Returns the first.
    pub(super) fn take(&mut self, count: u64) -> Option<u64> {
        let (length, start) = *self.by_length.range((count, 0)..).next()?;
        self.remove(start, length);
        if length > count {
            self.insert(start + count, length - count);
        }
        Some(start)
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, mut start: u64, mut count: u64) {
        let before = self.by_start.range(..start).next_back().map(|(start, length)| (*start, *length));
        if let Some((first, length)) = before.filter(|(first, length)| first + length == start) {
            self.remove(first, length);
            (start, count) = (first, count + length);
        }
        if let Some(length) = self.by_start.get(&(start + count)).copied() {
            self.remove(start + count, length);
            count += length;
        }
        self.insert(start, count);
    }

    fn insert(&mut self, start: u64, length: u64) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u64, length: u64) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_run_and_the_shortest_fitting_one_is_taken() {
        let mut runs = Runs::default();
        assert_eq!(runs.take(1), None);
        runs.give(4, 2);
        runs.give(8, 1);
        assert_eq!(runs.take(3), None);
        assert_eq!(runs.take(1), Some(8));
        runs.give(6, 2);
        assert_eq!((runs.by_start.len(), runs.by_length.len()), (1, 1));
        assert_eq!(runs.take(3), Some(4));
        runs.give(4, 1);
        runs.give(6, 1);
        runs.give(5, 1);
        assert_eq!(runs.by_start, BTreeMap::from([(4, 4)]));
        assert_eq!(runs.take(4), Some(4));
        assert!(runs.by_start.is_empty() && runs.by_length.is_empty());
    }
}
