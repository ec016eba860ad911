//! A line of callers who wait, first come first served, any of whom may leave early.

use std::collections::VecDeque;

/// Names a place in a line. Never reused within a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitId(pub u64);

/// Waiting callers in order of arrival. Joining and being served cost O(1), leaving early O(log n).
///
/// Who leaves early leaves an empty place behind. There are never more empty places than [`Line::SLACK`] beyond the
/// number of taken ones, and none at either end.
#[derive(Debug)]
pub(super) struct Line<W> {
    places: VecDeque<(WaitId, Option<W>)>,
    taken: usize,
}

impl<W> Default for Line<W> {
    fn default() -> Line<W> {
        Line { places: VecDeque::new(), taken: 0 }
    }
}

impl<W> Line<W> {
    const SLACK: usize = 16;

    /// Callers waiting.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// True when nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Joins at the end. Ids must come in rising order.
    pub(super) fn join(&mut self, id: WaitId, waiter: W) {
        self.places.push_back((id, Some(waiter)));
        self.taken += 1;
    }

    /// The one to be served next.
    pub(super) fn first(&self) -> Option<&W> {
        self.places.front().and_then(|(_, waiter)| waiter.as_ref())
    }

    /// Serves the first.
    pub(super) fn serve(&mut self) -> Option<W> {
        let (_, waiter) = self.places.pop_front()?;
        self.taken -= 1;
        self.trim();
        waiter
    }

    /// Leaves early; `None` if `id` is not waiting any more.
    pub(super) fn leave(&mut self, id: WaitId) -> Option<W> {
        let at = self.places.binary_search_by_key(&id, |place| place.0).ok()?;
        let waiter = self.places.get_mut(at)?.1.take()?;
        self.taken -= 1;
        self.trim();
        Some(waiter)
    }

    /// The first for whom `wanted` holds leaves.
    pub(super) fn leave_first(&mut self, wanted: impl Fn(&W) -> bool) -> Option<W> {
        let id = self
            .places
            .iter()
            .find(|(_, waiter)| waiter.as_ref().is_some_and(&wanted))
            .map(|place| place.0)?;
        self.leave(id)
    }

    /// All who wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &W> {
        self.places.iter().filter_map(|(_, waiter)| waiter.as_ref())
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
            assert!(line.places.len() <= 2 * line.len() + Line::<u64>::SLACK);
        }
        assert_eq!(line.iter().copied().collect::<Vec<_>>(), [0, 9_999]);
    }
}
