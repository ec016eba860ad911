//! A line of what waits, first come first served, any of which may leave early.

use std::collections::VecDeque;

/// Names a place in a line of callers. Never reused within a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitId(pub u64);

/// Waiting callers, or messages, in order. Joining and being served cost O(1), leaving early and being looked up
/// O(log n).
///
/// Who leaves early leaves an empty place behind. There are never more empty places than [`Line::SLACK`] beyond the
/// number of taken ones, and none at either end.
#[derive(Debug)]
pub(super) struct Line<K, W> {
    places: VecDeque<(K, Option<W>)>,
    taken: usize,
}

impl<K, W> Default for Line<K, W> {
    fn default() -> Line<K, W> {
        Line { places: VecDeque::new(), taken: 0 }
    }
}

impl<K: Ord + Copy, W> Line<K, W> {
    const SLACK: usize = 16;

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// True when nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Joins at the end: `key` must be greater than all before it.
    pub(super) fn join(&mut self, key: K, waiter: W) {
        self.places.push_back((key, Some(waiter)));
        self.taken += 1;
    }

    /// Joins at the head: `key` must be less than all others.
    pub(super) fn join_first(&mut self, key: K, waiter: W) {
        self.places.push_front((key, Some(waiter)));
        self.taken += 1;
    }

    /// The one to be served next.
    pub(super) fn first(&self) -> Option<&W> {
        self.places.front().and_then(|(_, waiter)| waiter.as_ref())
    }

    /// The one to be served next, to be changed.
    pub(super) fn first_mut(&mut self) -> Option<&mut W> {
        self.places.front_mut().and_then(|(_, waiter)| waiter.as_mut())
    }

    /// Its key.
    pub(super) fn first_key(&self) -> Option<K> {
        self.places.front().map(|place| place.0)
    }

    /// Gives the first another key, still less than all others.
    pub(super) fn move_first(&mut self, key: K) {
        if let Some(place) = self.places.front_mut() {
            place.0 = key;
        }
    }

    /// Serves the first.
    pub(super) fn serve(&mut self) -> Option<W> {
        let (_, waiter) = self.places.pop_front()?;
        self.taken -= 1;
        self.trim();
        waiter
    }

    /// The one with `key`.
    pub(super) fn get(&self, key: K) -> Option<&W> {
        self.places.get(self.find(key)?)?.1.as_ref()
    }

    /// Leaves early; `None` if `key` is not waiting any more.
    pub(super) fn leave(&mut self, key: K) -> Option<W> {
        let at = self.find(key)?;
        let waiter = self.places.get_mut(at)?.1.take()?;
        self.taken -= 1;
        self.trim();
        Some(waiter)
    }

    /// The first for whom `wanted` holds leaves.
    pub(super) fn leave_first(&mut self, wanted: impl Fn(&W) -> bool) -> Option<W> {
        let mut places = self.places.iter();
        let key = places.find(|(_, waiter)| waiter.as_ref().is_some_and(&wanted))?.0;
        self.leave(key)
    }

    /// Comes back to the place that it had: O(n), unless that is an end.
    pub(super) fn rejoin(&mut self, key: K, waiter: W) {
        match self.places.binary_search_by_key(&key, |place| place.0) {
            Ok(at) => {
                if let Some(place) = self.places.get_mut(at) {
                    place.1 = Some(waiter);
                }
            }
            Err(at) => self.places.insert(at, (key, Some(waiter))),
        }
        self.taken += 1;
    }

    /// The last whose key is `key` or less.
    pub(super) fn up_to(&self, key: K) -> Option<(K, &W)> {
        let end = self.places.partition_point(|place| place.0 <= key);
        let mut before = self.places.range(..end).rev();
        before.find_map(|(key, waiter)| waiter.as_ref().map(|waiter| (*key, waiter)))
    }

    /// Puts several in the place of the one with `key`, at the keys given: rising, and less than the next one's.
    pub(super) fn replace(&mut self, key: K, replace: impl FnOnce(W) -> Vec<(K, W)>) {
        let Some(at) = self.find(key) else { return };
        let Some(waiter) = self.places.get_mut(at).and_then(|place| place.1.take()) else { return };
        let rest = self.places.split_off(at + 1);
        self.places.pop_back();
        self.taken -= 1;
        for (key, waiter) in replace(waiter) {
            self.join(key, waiter);
        }
        self.places.extend(rest);
    }

    /// All, in order, with their keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (K, &W)> {
        self.places.iter().filter_map(|(key, waiter)| waiter.as_ref().map(|waiter| (*key, waiter)))
    }

    /// As [`Line::entries`], from the last whose key is `key` or less on.
    pub(super) fn entries_from(&self, key: K) -> impl Iterator<Item = (K, &W)> {
        let start = self.up_to(key).map_or(0, |(key, _)| self.find(key).unwrap_or(0));
        self.places.range(start..).filter_map(|(key, waiter)| waiter.as_ref().map(|waiter| (*key, waiter)))
    }

    /// All who wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &W> {
        self.places.iter().filter_map(|(_, waiter)| waiter.as_ref())
    }

    /// All leave, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, W)> + use<K, W> {
        self.taken = 0;
        let places = std::mem::take(&mut self.places);
        places.into_iter().filter_map(|(key, waiter)| waiter.map(|waiter| (key, waiter)))
    }

    fn find(&self, key: K) -> Option<usize> {
        self.places.binary_search_by_key(&key, |place| place.0).ok()
    }

    fn trim(&mut self) {
        while self.places.front().is_some_and(|place| place.1.is_none()) {
            self.places.pop_front();
        }
        while self.places.back().is_some_and(|place| place.1.is_none()) {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.taken + Self::SLACK {
            self.places.retain(|place| place.1.is_some());
        }
        if self.places.is_empty() && self.places.capacity() > Self::SLACK {
            self.places = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_in_order_and_lets_anyone_leave() {
        let mut line = Line::default();
        for n in 0..5 {
            line.join(WaitId(n), n);
        }
        assert_eq!(line.leave(WaitId(2)), Some(2));
        assert_eq!(line.leave(WaitId(2)), None);
        assert_eq!(line.leave(WaitId(0)), Some(0));
        assert_eq!(line.first(), Some(&1));
        assert_eq!(line.leave_first(|n| *n > 3), Some(4));
        assert_eq!(line.serve(), Some(1));
        assert_eq!(line.serve(), Some(3));
        assert_eq!(line.serve(), None);
        assert!(line.is_empty());
    }

    #[test]
    fn empty_places_do_not_pile_up_behind_one_who_stays() {
        let mut line = Line::default();
        line.join(WaitId(0), 0);
        line.join(WaitId(1), 1);
        for n in 2..10_000 {
            line.join(WaitId(n), n);
            assert_eq!(line.leave(WaitId(n - 1)), Some(n - 1));
            assert!(line.places.len() <= 2 * line.len() + Line::<WaitId, u64>::SLACK);
        }
        assert_eq!(line.iter().copied().collect::<Vec<_>>(), [0, 9_999]);
    }
}
