//! When each file wants to be called because of the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::op::{Effect, Effects, Ino, Moment};
use crate::state::saved;

/// Files with something that is due at a time, by that time: one entry each, for what is due there first. No search is
/// needed; the clock is told of the first of all.
#[derive(Debug)]
pub(crate) struct Alarms<F> {
    // An innermost lock.
    due: Mutex<Due<F>>,
}

saved!(struct Alarms<F> { due });

#[derive(Debug)]
struct Due<F> {
    first: BTreeMap<(Moment, Ino), Arc<F>>,
    /// When the clock will call. Earlier than needed where what was due has gone since, so that not every receive of a
    /// message with a time limit has to tell it.
    told: Option<Moment>,
}

saved!(struct Due<F> { first, told });

impl<F> Default for Alarms<F> {
    fn default() -> Alarms<F> {
        Alarms { due: Mutex::new(Due { first: BTreeMap::new(), told: None }) }
    }
}

impl<F> Due<F> {
    /// Tells the clock, if it would call too late.
    fn tell(&mut self, fx: &mut Effects) {
        let Some((first, _)) = self.first.first_key_value().map(|(key, _)| *key) else { return };
        if self.told.is_none_or(|told| first < told) {
            self.told = Some(first);
            fx.push(Effect::Alarm(first));
        }
    }
}

impl<F> Alarms<F> {
    /// What is due first in `file` may have changed: it is `next` now, and `set` is what it was.
    pub(crate) fn set(
        &self,
        (ino, file): (Ino, &Arc<F>),
        set: &mut Option<Moment>,
        next: Option<Moment>,
        fx: &mut Effects,
    ) {
        if next == *set {
            return;
        }
        let mut due = self.due.lock();
        if let Some(before) = set.take() {
            due.first.remove(&(before, ino));
        }
        if let Some(next) = next {
            due.first.insert((next, ino), Arc::clone(file));
            *set = Some(next);
            due.tell(fx);
        }
    }

    /// A file where something is due by `now`. Its entry stays until it is set anew.
    pub(crate) fn due(&self, now: Moment) -> Option<Arc<F>> {
        let due = self.due.lock();
        let ((first, _), file) = due.first.first_key_value()?;
        (*first <= now).then(|| Arc::clone(file))
    }

    /// The clock has called, and plans no call any more.
    pub(crate) fn called(&self) {
        self.due.lock().told = None;
    }

    /// Tells the clock when to call next.
    pub(crate) fn tell(&self, fx: &mut Effects) {
        self.due.lock().tell(fx);
    }
}
