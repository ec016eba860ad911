//! The figures of all mailboxes together.
//!
//! Reading them looks at those mailboxes only that were used since the last time: a mailbox that is about to be used is
//! taken out of the sum of those that are not, and put on a list.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use super::objects::{MailboxFile, MailboxState};
use crate::mailbox::Counts;

/// The list's lock is the last one taken: a mailbox's may be held.
#[derive(Debug, Default)]
pub(super) struct Totals {
    ledger: Mutex<Ledger>,
    /// One reads at a time, or the other would miss what the one is counting.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Of the mailboxes that are not on the list.
    settled: Counts,
    /// [`MailboxState::listed`] is a mailbox's place.
    used: Slab<Arc<MailboxFile>>,
}

impl Totals {
    /// Before a mailbox's figures change.
    pub(super) fn note_use(&self, file: &Arc<MailboxFile>, state: &mut MailboxState) {
        if state.listed.is_none() && !state.queue.is_removed() {
            let mut ledger = self.ledger.lock();
            ledger.settled.subtract(&state.queue.counts());
            state.listed = Some(ledger.used.insert(Arc::clone(file)));
        }
    }

    /// After a change: a mailbox that was removed does not count any more.
    pub(super) fn note_changed(&self, state: &mut MailboxState) {
        if state.queue.is_removed()
            && let Some(place) = state.listed.take()
        {
            self.ledger.lock().used.try_remove(place);
        }
    }

    pub(super) fn read(&self) -> Counts {
        let _alone = self.reading.lock();
        let (mut sum, used) = {
            let ledger = self.ledger.lock();
            (ledger.settled, ledger.used.iter().map(|(_, file)| Arc::clone(file)).collect::<Vec<_>>())
        };
        for file in used {
            let mut state = file.state.lock();
            // Not on the list any more if it was removed meanwhile.
            let Some(place) = state.listed.take() else { continue };
            let own = state.queue.counts();
            sum.add(&own);
            let mut ledger = self.ledger.lock();
            ledger.settled.add(&own);
            ledger.used.try_remove(place);
        }
        sum
    }

    /// Mailboxes on the list.
    #[cfg(test)]
    pub(super) fn listed(&self) -> usize {
        self.ledger.lock().used.len()
    }
}
