//! Values of the standard library's types, of those of the crates that trees are made of, and times.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::vec;

use parking_lot::{Mutex, RwLock};
use slab::Slab;

use super::{Restorer, Saved, Saver};
use crate::op::{FileTime, Moment, Timestamp};

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl Saved for $type {
            fn save(&self, to: &mut Saver<'_>) {
                to.number(*self as u64);
            }

            fn restore(from: &mut Restorer<'_>) -> Option<Self> {
                from.number()
            }
        })*
    };
}

numbers!(u16, u32, u64, usize);

impl Saved for bool {
    fn save(&self, to: &mut Saver<'_>) {
        to.u8(u8::from(*self));
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        match from.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Saved for AtomicU32 {
    fn save(&self, to: &mut Saver<'_>) {
        self.load(Ordering::SeqCst).save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        Saved::restore(from).map(AtomicU32::new)
    }
}

impl Saved for AtomicU64 {
    fn save(&self, to: &mut Saver<'_>) {
        self.load(Ordering::SeqCst).save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        Saved::restore(from).map(AtomicU64::new)
    }
}

impl Saved for AtomicBool {
    fn save(&self, to: &mut Saver<'_>) {
        self.load(Ordering::SeqCst).save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        Saved::restore(from).map(AtomicBool::new)
    }
}

/// Nobody may hold the lock.
impl<T: Saved> Saved for Mutex<T> {
    fn save(&self, to: &mut Saver<'_>) {
        self.lock().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        T::restore(from).map(Mutex::new)
    }
}

/// Nobody may hold the lock.
impl<T: Saved> Saved for RwLock<T> {
    fn save(&self, to: &mut Saver<'_>) {
        self.read().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        T::restore(from).map(RwLock::new)
    }
}

impl<T: Saved> Saved for Box<T> {
    fn save(&self, to: &mut Saver<'_>) {
        T::save(self, to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        T::restore(from).map(Box::new)
    }
}

impl<T: Saved> Saved for Option<T> {
    fn save(&self, to: &mut Saver<'_>) {
        self.is_some().save(to);
        if let Some(value) = self {
            value.save(to);
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        if bool::restore(from)? { T::restore(from).map(Some) } else { Some(None) }
    }
}

/// A value that several may have.
impl<T: Saved> Saved for Arc<T> {
    fn save(&self, to: &mut Saver<'_>) {
        to.share(Arc::as_ptr(self).addr(), |to| T::save(self, to));
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.shared(|from| T::restore(from).map(Arc::new))
    }
}

/// Bytes that several may have. Most have one owner, and are not looked for.
impl Saved for Arc<[u8]> {
    fn save(&self, to: &mut Saver<'_>) {
        let is_shared = Arc::strong_count(self) > 1;
        is_shared.save(to);
        if is_shared {
            to.share(Arc::as_ptr(self).addr(), |to| to.bytes(self));
        } else {
            to.bytes(self);
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        if bool::restore(from)? {
            from.shared(|from| from.bytes().map(Arc::from))
        } else {
            from.bytes().map(Arc::from)
        }
    }
}

impl Saved for Box<[u8]> {
    fn save(&self, to: &mut Saver<'_>) {
        to.bytes(self);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.bytes().map(Box::from)
    }
}

impl Saved for Vec<u8> {
    fn save(&self, to: &mut Saver<'_>) {
        to.bytes(self);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.bytes().map(Vec::from)
    }
}

impl Saved for Box<str> {
    fn save(&self, to: &mut Saver<'_>) {
        to.bytes(self.as_bytes());
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        std::str::from_utf8(from.bytes()?).ok().map(Box::from)
    }
}

macro_rules! tuples {
    ($(($($of:ident $value:ident),*))*) => {
        $(impl<$($of: Saved),*> Saved for ($($of,)*) {
            fn save(&self, to: &mut Saver<'_>) {
                let ($($value,)*) = self;
                $($value.save(to);)*
            }

            fn restore(from: &mut Restorer<'_>) -> Option<Self> {
                Some(($($of::restore(from)?,)*))
            }
        })*
    };
}

tuples! {
    (A a, B b)
    (A a, B b, C c)
}

impl<const N: usize> Saved for [u64; N] {
    fn save(&self, to: &mut Saver<'_>) {
        for number in self {
            number.save(to);
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = from.number()?;
        }
        Some(numbers)
    }
}

/// Saves values, after their number.
pub(crate) fn save_all<'a, T: Saved>(values: impl ExactSizeIterator<Item = &'a T>, to: &mut Saver<'_>) {
    to.number(values.len() as u64);
    for value in values {
        value.save(to);
        to.write_some();
    }
}

/// The values that [`save_all`] has saved.
fn restore_all<T: Saved>(from: &mut Restorer<'_>) -> Option<Vec<T>> {
    let count = from.number()?;
    // A value may take more memory than its bytes: no more is taken in advance than for some.
    let mut values = Vec::with_capacity(from.at_most(count).min(1 << 16));
    for _ in 0..count {
        values.push(T::restore(from)?);
    }
    Some(values)
}

/// Saves pairs, after their number.
fn save_pairs<'a, K: Saved, V: Saved>(
    pairs: impl ExactSizeIterator<Item = (&'a K, &'a V)>,
    to: &mut Saver<'_>,
) {
    to.number(pairs.len() as u64);
    for (key, value) in pairs {
        key.save(to);
        value.save(to);
        to.write_some();
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn save(&self, to: &mut Saver<'_>) {
        save_all(self.iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from)
    }
}

impl<T: Saved> Saved for VecDeque<T> {
    fn save(&self, to: &mut Saver<'_>) {
        save_all(self.iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from).map(VecDeque::from)
    }
}

/// What is left of it.
impl<T: Saved> Saved for vec::IntoIter<T> {
    fn save(&self, to: &mut Saver<'_>) {
        save_all(self.as_slice().iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from).map(Vec::into_iter)
    }
}

impl<T: Saved + Ord> Saved for BTreeSet<T> {
    fn save(&self, to: &mut Saver<'_>) {
        save_all(self.iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from).map(BTreeSet::from_iter)
    }
}

impl<K: Saved + Ord, V: Saved> Saved for BTreeMap<K, V> {
    fn save(&self, to: &mut Saver<'_>) {
        save_pairs(self.iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from).map(BTreeMap::from_iter)
    }
}

/// In order, so that equal tables have equal bytes.
impl<K: Saved + Ord + Hash, V: Saved, S> Saved for HashMap<K, V, S>
where
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn save(&self, to: &mut Saver<'_>) {
        let mut pairs: Vec<(&K, &V)> = self.iter().collect();
        pairs.sort_unstable_by_key(|(key, _)| *key);
        save_pairs(pairs.into_iter(), to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        restore_all(from).map(HashMap::from_iter)
    }
}

/// What is in it keeps its place. Which of the free places is taken next may be another one.
impl<T: Saved> Saved for Slab<T> {
    fn save(&self, to: &mut Saver<'_>) {
        to.number(self.len() as u64);
        for (key, value) in self {
            key.save(to);
            value.save(to);
            to.write_some();
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let pairs: Vec<(usize, T)> = restore_all(from)?;
        let longest = from.given()?.longest_table;
        pairs.iter().all(|(key, _)| *key < longest).then(|| Slab::from_iter(pairs))
    }
}

impl Saved for Timestamp {
    fn save(&self, to: &mut Saver<'_>) {
        to.writer().time(*self);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.reader().time()
    }
}

/// Another process of the same machine has the same clock. In the first version all times were by the wall clock.
impl Saved for Moment {
    fn save(&self, to: &mut Saver<'_>) {
        to.writer().raw(&self.0.to_le_bytes());
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        if from.version() < 2 {
            let time = from.reader().time()?;
            return Some(from.given()?.now.moment_of(time));
        }
        Some(Moment(i64::from_le_bytes(from.reader().take(size_of::<i64>())?.try_into().ok()?)))
    }
}

impl Saved for FileTime {
    fn save(&self, to: &mut Saver<'_>) {
        to.writer().file_time(*self);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        if from.version() < 2 { from.reader().time().map(FileTime::from) } else { from.reader().file_time() }
    }
}
