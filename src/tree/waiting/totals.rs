//! The figures of all mailboxes together.
//!
//! Reading them looks at those mailboxes only that were used since the last time: a mailbox that is about to be used is
//! taken out of the sum of those that are not, and put on a list.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use crate::mailbox::Counts;
use crate::state::saved;

/// The list's lock is the last one taken: a mailbox's may be held.
#[derive(Debug)]
pub(crate) struct Totals<F> {
    ledger: Mutex<Ledger<F>>,
    /// One reads at a time, or the other would miss what the one is counting. The greatest counters that were read.
    reading: Mutex<Counts>,
}

saved!(struct Totals<F> { ledger, reading });

#[derive(Debug)]
struct Ledger<F> {
    /// Of the mailboxes that are not on the list.
    settled: Counts,
    /// What removed mailboxes had counted.
    removed: Counts,
    used: Slab<Arc<F>>,
}

saved!(struct Ledger<F> { settled, removed, used });

impl<F> Default for Totals<F> {
    fn default() -> Totals<F> {
        let ledger = Ledger { settled: Counts::default(), removed: Counts::default(), used: Slab::new() };
        Totals { ledger: Mutex::new(ledger), reading: Mutex::default() }
    }
}

impl<F> Totals<F> {
    /// Before the figures of `file`, which are `counts`, change. `listed` is its place on the list.
    pub(crate) fn note_use(
        &self,
        file: &Arc<F>,
        listed: &mut Option<usize>,
        counts: impl FnOnce() -> Counts,
    ) {
        if listed.is_none() {
            let mut ledger = self.ledger.lock();
            ledger.settled.subtract(&counts());
            *listed = Some(ledger.used.insert(Arc::clone(file)));
        }
    }

    /// A removed mailbox, whose figures are `counts`, does not count any more.
    pub(crate) fn note_removed(&self, listed: &mut Option<usize>, counts: impl FnOnce() -> Counts) {
        if let Some(place) = listed.take() {
            let mut ledger = self.ledger.lock();
            ledger.removed.add(&counts());
            ledger.used.try_remove(place);
        }
    }

    /// The sum, and the sum with that of removed mailboxes, which no counter of the mount ever falls below. `settle` locks a
    /// file, takes its place on the list, and calls what it is given with that and the counts.
    pub(crate) fn read_all(&self, settle: impl Fn(&F, &mut dyn FnMut(usize, Counts))) -> (Counts, Counts) {
        let mut greatest = self.reading.lock();
        let (mut sum, removed, used) = {
            let ledger = self.ledger.lock();
            (
                ledger.settled,
                ledger.removed,
                ledger.used.iter().map(|(_, file)| Arc::clone(file)).collect::<Vec<_>>(),
            )
        };
        for file in used {
            // Not called for one that was removed meanwhile: it is not on the list any more.
            settle(&file, &mut |place, counts| {
                sum.add(&counts);
                let mut ledger = self.ledger.lock();
                ledger.settled.add(&counts);
                ledger.used.try_remove(place);
            });
        }
        // One that is removed during this is in neither sum until the next reading.
        let mut ever = sum;
        ever.add(&removed);
        greatest.raise(&ever);
        (sum, *greatest)
    }

    /// Mailboxes on the list.
    #[cfg(test)]
    pub(crate) fn listed(&self) -> usize {
        self.ledger.lock().used.len()
    }
}
