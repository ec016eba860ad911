//! An ordered queue from which any entry can be removed.

use std::collections::VecDeque;

use crate::state::{Restorer, Saved, Saver};

/// Entries in the order of their keys. Adding and removing at the ends costs O(1), look-up and removal elsewhere
/// O(log n) amortised.
///
/// An entry that is removed between others leaves a tombstone. There is none at either end, and at most
/// [`OrderedQueue::SLACK`] more than there are entries.
#[derive(Debug)]
pub(super) struct OrderedQueue<K, V> {
    slots: VecDeque<(K, Option<V>)>,
    len: usize,
}

impl<K, V> Default for OrderedQueue<K, V> {
    fn default() -> OrderedQueue<K, V> {
        OrderedQueue { slots: VecDeque::new(), len: 0 }
    }
}

impl<K: Saved + Ord + Copy, V: Saved> Saved for OrderedQueue<K, V> {
    fn save(&self, to: &mut Saver<'_>) {
        let OrderedQueue { slots: _, len } = self;
        to.number(*len as u64);
        for (key, value) in self.iter() {
            key.save(to);
            value.save(to);
            to.write_some();
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let mut queue = OrderedQueue::default();
        for _ in 0..from.number::<u64>()? {
            let (key, value) = (K::restore(from)?, V::restore(from)?);
            if queue.last_key().is_some_and(|last| last >= key) {
                return None;
            }
            queue.push_back(key, value);
        }
        Some(queue)
    }
}

impl<K: Ord + Copy, V> OrderedQueue<K, V> {
    const SLACK: usize = 16;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry at the end. `key` must be greater than all others.
    pub(super) fn push_back(&mut self, key: K, value: V) {
        if self.slots.capacity() == 0 {
            // Most queues never have more than one.
            self.slots.reserve_exact(1);
        }
        self.slots.push_back((key, Some(value)));
        self.len += 1;
    }

    /// Adds an entry at the front. `key` must be less than all others.
    pub(super) fn push_front(&mut self, key: K, value: V) {
        self.slots.push_front((key, Some(value)));
        self.len += 1;
    }

    pub(super) fn front(&self) -> Option<&V> {
        self.slots.front().and_then(|(_, value)| value.as_ref())
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut V> {
        self.slots.front_mut().and_then(|(_, value)| value.as_mut())
    }

    pub(super) fn front_key(&self) -> Option<K> {
        self.slots.front().map(|slot| slot.0)
    }

    pub(super) fn last_key(&self) -> Option<K> {
        self.slots.back().map(|slot| slot.0)
    }

    /// Changes the key of the first entry. It must remain less than all others.
    pub(super) fn set_front_key(&mut self, key: K) {
        if let Some(slot) = self.slots.front_mut() {
            slot.0 = key;
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<V> {
        let (_, value) = self.slots.pop_front()?;
        self.len -= 1;
        self.compact();
        value
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.slots.get(self.position(key)?)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.position(key)?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    /// `None` if there is no entry with this key.
    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.position(key)?;
        let value = self.slots.get_mut(at)?.1.take()?;
        self.len -= 1;
        self.compact();
        Some(value)
    }

    /// Removes the first entry that is `wanted`.
    pub(super) fn remove_first(&mut self, wanted: impl Fn(&V) -> bool) -> Option<V> {
        let mut slots = self.slots.iter();
        let key = slots.find(|(_, value)| value.as_ref().is_some_and(&wanted))?.0;
        self.remove(key)
    }

    /// Puts back an entry that was removed. Costs O(n), unless it goes to an end.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.slots.binary_search_by_key(&key, |slot| slot.0) {
            Ok(at) => {
                if let Some(slot) = self.slots.get_mut(at) {
                    slot.1 = Some(value);
                }
            }
            Err(at) => self.slots.insert(at, (key, Some(value))),
        }
        self.len += 1;
    }

    /// The first entry whose key is greater than `key`, or the first of all.
    pub(super) fn first_after(&self, key: Option<K>) -> Option<(K, &V)> {
        let from = key.map_or(0, |key| self.slots.partition_point(|slot| slot.0 <= key));
        self.slots.range(from..).find_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    }

    /// The last entry whose key is `key` or less.
    pub(super) fn last_at_or_before(&self, key: K) -> Option<(K, &V)> {
        let end = self.slots.partition_point(|slot| slot.0 <= key);
        let mut before = self.slots.range(..end).rev();
        before.find_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    }

    /// Replaces the entry with `key` by several. Their keys must be in order, and less than the next entry's.
    pub(super) fn replace(&mut self, key: K, replace: impl FnOnce(V) -> Vec<(K, V)>) {
        let Some(at) = self.position(key) else { return };
        let Some(value) = self.slots.get_mut(at).and_then(|slot| slot.1.take()) else { return };
        let rest = self.slots.split_off(at + 1);
        self.slots.pop_back();
        self.len -= 1;
        for (key, value) in replace(value) {
            self.push_back(key, value);
        }
        self.slots.extend(rest);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().filter_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    }

    /// Like [`OrderedQueue::iter`], but begins with the last entry whose key is `key` or less.
    pub(super) fn iter_from(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let start = self.last_at_or_before(key).map_or(0, |(key, _)| self.position(key).unwrap_or(0));
        self.slots.range(start..).filter_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    }

    /// Entries whose key is `key` or greater. It does not look back, however many were removed before.
    pub(super) fn iter_at(&self, key: K) -> impl Iterator<Item = (K, &V)> {
        let start = self.slots.partition_point(|slot| slot.0 < key);
        self.slots.range(start..).filter_map(|(key, value)| value.as_ref().map(|value| (*key, value)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    /// Removes all entries.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, V)> + use<K, V> {
        self.len = 0;
        let slots = std::mem::take(&mut self.slots);
        slots.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)))
    }

    fn position(&self, key: K) -> Option<usize> {
        self.slots.binary_search_by_key(&key, |slot| slot.0).ok()
    }

    fn compact(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.1.is_none()) {
            self.slots.pop_front();
        }
        while self.slots.back().is_some_and(|slot| slot.1.is_none()) {
            self.slots.pop_back();
        }
        if self.slots.len() > 2 * self.len + Self::SLACK {
            self.slots.retain(|slot| slot.1.is_some());
        }
        if self.slots.is_empty() && self.slots.capacity() > Self::SLACK {
            self.slots = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_in_order_and_any_can_be_removed() {
        let mut queue = OrderedQueue::default();
        for n in 0..5 {
            queue.push_back(n, n);
        }
        assert_eq!(queue.remove(2), Some(2));
        assert_eq!(queue.remove(2), None);
        assert_eq!(queue.remove(0), Some(0));
        assert_eq!(queue.front(), Some(&1));
        assert_eq!(queue.remove_first(|n| *n > 3), Some(4));
        assert_eq!(queue.pop_front(), Some(1));
        assert_eq!(queue.pop_front(), Some(3));
        assert_eq!(queue.pop_front(), None);
        assert!(queue.is_empty());
    }

    #[test]
    fn tombstones_do_not_accumulate_behind_an_entry_that_stays() {
        let mut queue = OrderedQueue::default();
        queue.push_back(0, 0);
        queue.push_back(1, 1);
        for n in 2..10_000 {
            queue.push_back(n, n);
            assert_eq!(queue.remove(n - 1), Some(n - 1));
            assert!(queue.slots.len() <= 2 * queue.len() + OrderedQueue::<u64, u64>::SLACK);
        }
        assert_eq!(queue.values().copied().collect::<Vec<_>>(), [0, 9_999]);
    }
}
