//! The memory of messages, mount-wide.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::accounts::{Account, Accounts, Charge, Exceeded, Resource};
use crate::state::saved;

/// Memory charged for a message beyond its own bytes: its queue entry (88 bytes, twice that just after the queue has
/// grown) and the allocator's overhead. `tests/footprint.rs` measures that a message takes no more.
pub const MESSAGE_COST: u64 = 200;

/// Memory charged in addition for a message with a tag, a time limit or a delay: the record of these, and its index entries.
pub(super) const EXTRA_COST: u64 = 256;

/// What all mailboxes of a mount share: the accounts that their messages are charged to, and the ids of messages.
#[derive(Debug)]
pub struct Memory {
    accounts: Arc<Accounts>,
    /// The peak since [`Memory::should_trim`] last returned true, in bytes.
    peak: AtomicU64,
    /// The last message id in use.
    pub(super) last_id: AtomicU64,
}

saved!(struct Memory { accounts, peak, last_id });

/// Memory that is charged for a key of `once/<key>` while it is remembered, in bytes.
pub(super) fn cost_of_key(key: &[u8]) -> u64 {
    key.len() as u64 + EXTRA_COST
}

/// Bytes that must be freed before the heap is trimmed.
const TRIM_THRESHOLD: u64 = 8 << 20;

/// Bytes that a file needs, roughly.
const FILE_COST: u64 = 1024;

impl Memory {
    /// Memory that is charged to `accounts`.
    pub fn new(accounts: Arc<Accounts>) -> Memory {
        Memory { accounts, peak: AtomicU64::new(0), last_id: AtomicU64::new(0) }
    }

    /// Memory that a message of `len` bytes is charged, in bytes.
    pub fn cost(len: usize) -> u64 {
        len as u64 + MESSAGE_COST
    }

    /// Allocates `count` consecutive message ids that were never used; returns the first.
    pub fn allocate_ids(&self, count: u64) -> u64 {
        self.last_id.fetch_add(count, Ordering::Relaxed) + 1
    }

    /// The id that is allocated next.
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.load(Ordering::Relaxed) + 1
    }

    /// The mount's limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.accounts.limit(Resource::Memory)
    }

    /// Bytes charged to all users.
    pub fn used(&self) -> u64 {
        self.accounts.used(Resource::Memory)
    }

    /// True if it pays to trim the heap: at least half of the peak, and 8 MiB or more, has been freed. Returns true
    /// once for each such fall. So while a mount is drained, the number of trims grows only with the logarithm of the
    /// peak.
    pub fn should_trim(&self) -> bool {
        let files = self.accounts.used(Resource::Files).saturating_mul(FILE_COST);
        let taken = self.used().saturating_add(self.accounts.used(Resource::Waiting)).saturating_add(files);
        let peak = self.peak.load(Ordering::Relaxed);
        if taken > peak {
            // If two threads store a peak at the same time, either value will do.
            self.peak.store(taken, Ordering::Relaxed);
        }
        taken.saturating_add(TRIM_THRESHOLD) <= peak
            && taken <= peak / 2
            && self.peak.compare_exchange(peak, taken, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Longest message whose bytes stay charged to its sender while an open file keeps them for its reader.
const SHORT: usize = 4096;

/// The bytes of a message that an open file keeps are charged to who reads, from now on, if they are many: a slow reader does not
/// keep others from sending. False if there is no room for that; then the charge is the sender's yet.
pub(super) fn charge_reader(charge: &mut Charge, reader: &Arc<Account>, len: usize) -> bool {
    if len <= SHORT {
        return true;
    }
    reader.charge(Resource::Waiting, charge.amount()).map(|own| *charge = own).is_ok()
}

/// True if a reader with room for `size` bytes may begin a message of `len`: there is room for what it would leave, or there never
/// is.
pub(super) fn may_begin(reader: &Arc<Account>, len: u64, size: usize) -> bool {
    if len <= size as u64 || len <= SHORT as u64 {
        return true;
    }
    let cost = Memory::cost(len as usize);
    let may = reader.has_room(Resource::Waiting, cost) || !reader.can_hold(Resource::Waiting, cost);
    if !may {
        reader.note_exceeded(Resource::Waiting);
    }
    may
}

/// Charges what a message costs that goes to a reader at once: to the memory of messages or, where that is full, to what
/// writers may wait with. So a reader that waits gets its message even then.
pub(crate) fn charge_in_hand(account: &Arc<Account>, cost: u64) -> Result<Charge, Exceeded> {
    account.charge(Resource::Memory, cost).or_else(|_| account.charge(Resource::Waiting, cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_is_asked_for_once_per_fall_and_never_for_small_changes() {
        let memory = Memory::new(Arc::new(Accounts::unshared(1 << 30)));
        let charge = || memory.accounts.of(1).charge(Resource::Memory, 1 << 20).unwrap();
        for _ in 0..3 {
            let charged = charge();
            assert!(!memory.should_trim());
            drop(charged);
            assert!(!memory.should_trim());
        }
        let mut charged = Vec::new();
        for _ in 0..64 {
            charged.push(charge());
            assert!(!memory.should_trim());
        }
        let mut told = 0;
        while charged.pop().is_some() {
            told += u32::from(memory.should_trim());
        }
        assert_eq!(told, 4, "at 32, 16 and 8 MiB, and at nothing");
        assert_eq!(memory.used(), 0);
    }
}
