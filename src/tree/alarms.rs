//! When which mailbox wants to be called because of the time.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Tree;
use super::objects::{MailboxFile, MailboxState};
use crate::op::{Effect, Effects, Ino, Timestamp};

/// Mailboxes with something that is due at a time, by that time: one entry each, for what is due there first. Nothing
/// is looked through; the clock is told of the first of all.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    // An innermost lock.
    due: Mutex<Due>,
}

#[derive(Debug, Default)]
struct Due {
    first: BTreeMap<(Timestamp, Ino), Arc<MailboxFile>>,
    /// When the clock will call. Earlier than needed where what was due has gone since, so that not every receive of a
    /// message with a time limit has to tell it.
    told: Option<Timestamp>,
}

impl Due {
    /// Tells the clock, if it would call too late.
    fn tell(&mut self, fx: &mut Effects) {
        let Some((first, _)) = self.first.first_key_value().map(|(key, _)| *key) else { return };
        if self.told.is_none_or(|told| first < told) {
            self.told = Some(first);
            fx.push(Effect::Alarm(first));
        }
    }
}

impl Alarms {
    /// A mailbox's state may have changed.
    pub(super) fn note(&self, file: &Arc<MailboxFile>, state: &mut MailboxState, fx: &mut Effects) {
        let next = state.queue.next_deadline();
        if next == state.alarm {
            return;
        }
        let mut due = self.due.lock();
        if let Some(before) = state.alarm.take() {
            due.first.remove(&(before, file.ino));
        }
        if let Some(next) = next {
            due.first.insert((next, file.ino), Arc::clone(file));
            state.alarm = Some(next);
            due.tell(fx);
        }
    }

    /// A mailbox where something is due by `now`. Its entry stays until its state is noted anew.
    fn due(&self, now: Timestamp) -> Option<Arc<MailboxFile>> {
        let due = self.due.lock();
        let ((first, _), file) = due.first.first_key_value()?;
        (*first <= now).then(|| Arc::clone(file))
    }

    /// The clock has called, and plans nothing any more.
    fn called(&self) {
        self.due.lock().told = None;
    }
}

impl Tree {
    /// It is `now`: what is due by that is done.
    pub fn tick(&self, now: Timestamp, fx: &mut Effects) {
        self.alarms.called();
        // Each call leaves nothing due by `now` in that mailbox, and so moves its entry on.
        while let Some(file) = self.alarms.due(now) {
            self.with_mailbox(&file, now, fx, |state, cx| state.queue.tick(cx));
        }
        self.alarms.due.lock().tell(fx);
        self.sweep_in_time(now, fx);
        self.settle(None, now, fx);
    }
}
