//! How long messages waited until they were received: a histogram of a fixed size.

use crate::state::saved;

/// Bounds of the buckets, in nanoseconds: 1, 2 and 5 times each power of ten, from 10 µs to 500,000 s.
const BOUNDS: [u64; 33] = bounds();

const fn bounds() -> [u64; 33] {
    let (mut bounds, mut power, mut at) = ([0; 33], 10_000, 0);
    while at < bounds.len() {
        (bounds[at], bounds[at + 1], bounds[at + 2]) = (power, 2 * power, 5 * power);
        (power, at) = (10 * power, at + 3);
    }
    bounds
}

/// The first bound that [`Waited::steps`] shows, and the one behind the last: 100 µs and 10,000 s.
const SHOWN: std::ops::RangeInclusive<usize> = 3..=27;

/// How long messages waited. Its size does not depend on their number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waited {
    /// Messages that waited no longer than a bound, and longer than the one before it, with the bound's place in [`BOUNDS`];
    /// those beyond all bounds are last. Most mailboxes need few of the buckets, so that only those in use are there.
    buckets: Vec<(u16, u64)>,
    /// Nanoseconds that all of them waited.
    sum: u64,
    /// Nanoseconds that the one waited that waited longest.
    longest: u64,
}

saved!(struct Waited { buckets, sum, longest });

impl Waited {
    /// Each of `count` messages has waited so many nanoseconds.
    pub(super) fn note(&mut self, nanos: u64, count: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos) as u16;
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.buckets.iter_mut().skip(at).take(1).for_each(|(_, messages)| *messages += count),
            Err(at) => {
                self.buckets.reserve_exact(1);
                self.buckets.insert(at, (bucket, count));
            }
        }
        self.sum = self.sum.saturating_add(nanos.saturating_mul(count));
        self.longest = self.longest.max(nanos);
    }

    /// Number of messages.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, messages)| messages).sum()
    }

    /// Nanoseconds that they waited, all together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// So many percent of the messages waited no longer than this, in nanoseconds. It is a bound of a bucket: at most two and
    /// a half times as much as the shortest time of which that is true, if that is 10 µs or more. 0 if there are no messages.
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = (u128::from(self.count()) * u128::from(percent)).div_ceil(100);
        let mut before = 0;
        for (bucket, messages) in &self.buckets {
            before += u128::from(*messages);
            if before >= wanted {
                let bound = BOUNDS.get(usize::from(*bucket)).copied();
                return bound.map_or(self.longest, |bound| self.longest.min(bound));
            }
        }
        self.longest
    }

    /// Bounds in nanoseconds, 1 and 5 times each power of ten, and how many messages waited no longer than each.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut rest = self.buckets.iter().peekable();
        let mut before = 0;
        let all = BOUNDS.iter().enumerate().map(move |(at, bound)| {
            before +=
                rest.next_if(|(bucket, _)| usize::from(*bucket) == at).map_or(0, |(_, messages)| *messages);
            (at, *bound, before)
        });
        let shown = all.filter(|(at, ..)| SHOWN.contains(at) && at % 3 != 1);
        shown.map(|(_, bound, before)| (bound, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_percentile_is_a_bound_or_the_longest_wait() {
        let mut waited = Waited::default();
        assert_eq!((waited.percentile(50), waited.percentile(99), waited.count()), (0, 0, 0));
        waited.note(0, 50);
        waited.note(3 * MS, 49);
        waited.note(700 * MS, 1);
        let percentiles = [1, 50, 51, 99, 100].map(|percent| waited.percentile(percent));
        assert_eq!(percentiles, [10_000, 10_000, 5 * MS, 5 * MS, 700 * MS]);
        assert_eq!((waited.count(), waited.sum()), (100, (147 + 700) * MS));
        waited.note(u64::MAX, u64::MAX / 2);
        assert_eq!((waited.percentile(99), waited.sum()), (u64::MAX, u64::MAX), "beyond all bounds");
    }

    #[test]
    fn what_waited_exactly_as_long_as_a_bound_is_within_it() {
        let mut waited = Waited::default();
        (0..3).for_each(|more| waited.note(MS + more, 1));
        let steps: Vec<(u64, u64)> = waited.steps().collect();
        assert_eq!(steps.first(), Some(&(MS / 10, 0)));
        assert_eq!(steps.last(), Some(&(10_000_000 * MS, 3)));
        let near: Vec<_> = steps.iter().filter(|(bound, _)| (MS / 2..=5 * MS).contains(bound)).collect();
        assert_eq!(near, [&(MS / 2, 0), &(MS, 1), &(5 * MS, 3)]);
    }
}
