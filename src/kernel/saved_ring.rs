//! What the thread of a ring has at a standstill, as bytes and a descriptor, for a process that takes the ring's requests over.

use std::io;
use std::os::fd::OwnedFd;

use super::reply_path::{MAX_ENTRIES, MAX_RINGS};
use crate::codec::{Reader, Writer};
use crate::sys::fuse_ring::{Extent, FuseRing, Slot, listed};

/// A ring, for a process that goes on if this one is killed.
#[derive(Debug)]
pub struct KeptRing {
    pub(crate) fixed: SavedRing,
    pub(crate) list: OwnedFd,
}

/// A ring at a standstill: each of its entries that carries a request is the daemon's, and the kernel has none of them.
#[derive(Debug)]
pub struct SavedRing {
    /// Number of the ring in reply paths.
    pub(super) index: u32,
    pub(super) cpu: usize,
    /// Bytes that each entry carries.
    pub(super) payload: usize,
    pub(super) memory: OwnedFd,
    /// Where its entries are.
    pub(super) extents: Vec<Extent>,
    /// Numbers of the kernel's queues that it serves, each with the number of kicks sent to it so far.
    pub(super) queues: Vec<(u16, u64)>,
    /// Entries whose requests wait, and those whose requests were not handled yet.
    pub(super) waiting: Vec<Slot>,
    pub(super) arrived: Vec<Slot>,
}

impl SavedRing {
    /// The memory of the ring.
    pub fn memory(&self) -> &OwnedFd {
        &self.memory
    }

    /// What is the same as long as the mount lives, and the files that another process has to keep so that it can be
    /// [made again](SavedRing::left).
    pub(super) fn of_ring(index: u32, cpu: usize, queues: Vec<u16>, ring: &FuseRing) -> io::Result<KeptRing> {
        let copy = |file: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(file, 3);
        let ring_files = (copy(ring.memory())?, copy(ring.list())?);
        let queues = queues.into_iter().map(|queue| (queue, 0)).collect();
        let (memory, list) = ring_files;
        let (extents, waiting, arrived) = (Vec::new(), Vec::new(), Vec::new());
        let payload = ring.payload();
        let fixed = SavedRing { index, cpu, payload, memory, extents, queues, waiting, arrived };
        Ok(KeptRing { fixed, list })
    }

    /// The ring of a process that was killed, by the list of its entries. `deaths` is how many processes were.
    pub(crate) fn left(mut self, list: &OwnedFd, deaths: u64) -> io::Result<SavedRing> {
        self.extents = listed(list)?;
        // Numbers that no kick had: each process sends fewer.
        self.queues.iter_mut().for_each(|(_, kicks)| *kicks = deaths << 20);
        Ok(self)
    }

    /// All but the memory, as bytes.
    pub(crate) fn save(&self, to: &mut Writer<'_>) {
        to.number(self.index).number(self.cpu as u64).number(self.payload as u64);
        to.number(self.extents.len() as u64);
        for extent in &self.extents {
            to.number(extent.queue).number(extent.count).number(extent.address as u64);
        }
        to.number(self.queues.len() as u64);
        for (queue, kicks) in &self.queues {
            to.number(*queue).number(*kicks);
        }
        for slots in [&self.waiting, &self.arrived] {
            to.number(slots.len() as u64);
            for slot in slots {
                to.number(*slot);
            }
        }
    }

    /// The ring whose bytes and memory these are.
    pub(crate) fn restore(from: &mut Reader<'_>, memory: OwnedFd) -> Option<SavedRing> {
        let index = from.number().filter(|index: &u32| (*index as usize) < MAX_RINGS)?;
        let (cpu, payload) = (from.number()?, from.number()?);
        let extents = all(from, |from| {
            Some(Extent { queue: from.number()?, count: from.number()?, address: from.number()? })
        })?;
        let queues = all(from, |from| Some((from.number()?, from.number()?)))?;
        let waiting = numbers(from)?;
        let arrived = numbers(from)?;
        Some(SavedRing { index, cpu, payload, memory, extents, queues, waiting, arrived })
    }
}

fn numbers<T: TryFrom<u64>>(from: &mut Reader<'_>) -> Option<Vec<T>> {
    let count = from.number().filter(|count: &u32| *count <= MAX_ENTRIES)?;
    (0..count).map(|_| from.number()).collect()
}

fn all<T>(from: &mut Reader<'_>, mut one: impl FnMut(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = from.number().filter(|count: &u32| *count <= MAX_ENTRIES)?;
    (0..count).map(|_| one(from)).collect()
}
