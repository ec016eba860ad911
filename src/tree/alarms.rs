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
    due: Mutex<BTreeMap<(Timestamp, Ino), Arc<MailboxFile>>>,
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
            due.remove(&(before, file.ino));
        }
        if let Some(next) = next {
            due.insert((next, file.ino), Arc::clone(file));
            state.alarm = Some(next);
            if due.first_key_value().is_some_and(|(first, _)| *first == (next, file.ino)) {
                fx.push(Effect::Alarm(next));
            }
        }
    }

    /// A mailbox where something is due by `now`. Its entry stays until its state is noted anew.
    fn due(&self, now: Timestamp) -> Option<Arc<MailboxFile>> {
        let due = self.due.lock();
        let ((first, _), file) = due.first_key_value()?;
        (*first <= now).then(|| Arc::clone(file))
    }

    fn first(&self) -> Option<Timestamp> {
        self.due.lock().first_key_value().map(|((first, _), _)| *first)
    }
}

impl Tree {
    /// It is `now`: what is due by that is done.
    pub fn tick(&self, now: Timestamp, fx: &mut Effects) {
        // Each call leaves nothing due by `now` in that mailbox, and so moves its entry on.
        while let Some(file) = self.alarms.due(now) {
            self.with_mailbox(&file, now, fx, |state, cx| state.queue.tick(cx));
        }
        self.sweep(now, fx);
        if let Some(first) = self.alarms.first() {
            fx.push(Effect::Alarm(first));
        }
        self.settle(None, now, fx);
    }
}
