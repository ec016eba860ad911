//! Values that stand for what the process is given: accounts and what is charged to them, the journal, memory of segments.

use std::sync::Arc;

use super::{Restorer, Saved, Saver, saved};
use crate::accounts::{Account, Accounts, Charge, Resource};
use crate::journal::Journal;
use crate::segment::Memory;

saved!(enum Resource {
    0 = Memory, 1 = Waiting, 2 = Texts, 3 = Segments, 4 = Files, 5 = Open, 6 = Descriptors, 7 = Locks,
});

impl Saved for Arc<Accounts> {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.given().map(|given| Arc::clone(&given.accounts))
    }
}

/// By its user.
impl Saved for Arc<Account> {
    fn save(&self, to: &mut Saver<'_>) {
        self.uid().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let uid = from.number()?;
        from.account(uid)
    }
}

/// Charged again, whatever the limits are now.
impl Saved for Charge {
    fn save(&self, to: &mut Saver<'_>) {
        self.account().save(to);
        self.resource().save(to);
        self.amount().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let account: Arc<Account> = Saved::restore(from)?;
        let (resource, amount) = (Saved::restore(from)?, from.number()?);
        u64::checked_add(from.given()?.accounts.used(resource), amount)?;
        Some(account.charge_regardless(resource, amount))
    }
}

impl Saved for Arc<Journal> {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.given()?.journal.clone()
    }
}

impl Saved for Arc<dyn Memory> {
    fn save(&self, to: &mut Saver<'_>) {
        to.memory(self);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        from.memory()
    }
}
