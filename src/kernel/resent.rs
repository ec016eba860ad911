//! Requests that the kernel has sent again, because the process that had read them was killed.
//!
//! Such a request has its number with a bit more, and its answer must have it, too, on the descriptor that it was read from the last time.
//! The tree knows the number without it, whichever process it was that read the request first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::abi::RESENT_BIT;

/// Those that were not answered yet.
#[derive(Debug, Default)]
pub(super) struct Resent {
    /// The descriptors that they were read from, by their first numbers.
    devices: Mutex<HashMap<u64, u32>>,
    count: AtomicUsize,
}

impl Resent {
    /// The number that the tree knows. If the request was sent again, it is answered on this descriptor.
    pub(super) fn note(&self, unique: u64, device: u32) -> u64 {
        let first = Resent::first(unique);
        if first != unique {
            let mut devices = self.devices.lock();
            devices.insert(first, device);
            self.count.store(devices.len(), Ordering::SeqCst);
        }
        first
    }

    /// The number that a request had first.
    pub(super) fn first(unique: u64) -> u64 {
        unique & !RESENT_BIT
    }

    /// The number that the kernel knows.
    pub(super) fn number(&self, unique: u64) -> u64 {
        if self.is_empty() || !self.devices.lock().contains_key(&unique) {
            unique
        } else {
            unique | RESENT_BIT
        }
    }

    /// The request is answered: on this descriptor, with this number.
    pub(super) fn take(&self, unique: u64) -> Option<(u32, u64)> {
        if self.is_empty() {
            return None;
        }
        let mut devices = self.devices.lock();
        let device = devices.remove(&unique)?;
        self.count.store(devices.len(), Ordering::SeqCst);
        Some((device, unique | RESENT_BIT))
    }

    /// All of them, for another process: their first numbers, and their descriptors.
    pub(super) fn all(&self) -> Vec<(u64, u32)> {
        self.devices.lock().iter().map(|(unique, device)| (*unique, *device)).collect()
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}
