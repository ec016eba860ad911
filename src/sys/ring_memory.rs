//! Memory of a ring's entries: a memory file, mapped at addresses that can be mapped again.
//!
//! The kernel keeps the addresses of an entry's headers and payload, and uses them in the address space of whichever process
//! commits the entry's answer. So a process that has the file, mapped at the same addresses, can answer requests that another one
//! received.
//!
//! Pages are allocated when they are first touched. The memory is never unmapped: the kernel does not tell when it no longer uses
//! it.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr;
use std::slice;

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};

/// Where the memory of the first ring is mapped if nothing else is there: far from programs, heaps, libraries and stacks, whose
/// places are random. Elsewhere where address spaces are smaller.
const FIRST: usize = 0x1000_0000_0000;
/// Distance between the memories of two rings.
const DISTANCE: usize = 1 << 36;

/// The memory of one ring.
#[derive(Debug)]
pub(super) struct RingMemory {
    file: OwnedFd,
    /// Length of the file, and of all areas together unless some have no file: those are the last.
    in_file: usize,
    length: usize,
    /// Where the next area should be.
    next: usize,
}

/// A part of it that was mapped at once.
#[derive(Debug)]
pub(super) struct Area {
    address: usize,
    length: usize,
}

impl RingMemory {
    /// No memory, for the ring with this number.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`.
    pub(super) fn new(ring: u32) -> io::Result<RingMemory> {
        let create = |flags| retry_on_intr(|| memfd_create(c"ipcfs-ring", MemfdFlags::CLOEXEC | flags));
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            done => done,
        };
        Ok(RingMemory { file: file?, in_file: 0, length: 0, next: FIRST + DISTANCE * ring as usize })
    }

    /// Maps `length` more bytes, a multiple of the page size. They are zero.
    ///
    /// # Errors
    /// Those of `ftruncate(2)` and `mmap(2)`.
    pub(super) fn add(&mut self, length: usize) -> io::Result<Area> {
        let offset = self.length;
        let wish = ptr::with_exposed_provenance_mut(self.next);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let lengthened = if self.in_file == offset {
            retry_on_intr(|| ftruncate(&self.file, (offset + length) as u64))
        } else {
            Err(Errno::FBIG)
        };
        let address = match lengthened {
            Ok(()) => {
                // SAFETY: without MAP_FIXED, the mapping takes the place of no other. Nothing shortens the file, and it is used
                // through the areas of this value only, which do not overlap in it.
                let address = unsafe { mmap(wish, length, protection, flags, &self.file, offset as u64) }?;
                self.in_file = offset + length;
                address
            }
            // RLIMIT_FSIZE. Memory without a file cannot go to another process.
            Err(Errno::FBIG) => {
                let flags = flags | MapFlags::NORESERVE;
                // SAFETY: without MAP_FIXED, the mapping takes the place of no other.
                unsafe { mmap_anonymous(wish, length, protection, flags) }?
            }
            Err(error) => return Err(error.into()),
        };
        // SAFETY: MADV_NOHUGEPAGE changes no byte of the mapping. It fails on a kernel without huge pages, where it is not needed.
        let _ = unsafe { madvise(address, length, Advice::LinuxNoHugepage) };
        let area = Area { address: address.expose_provenance(), length };
        self.length = offset + length;
        self.next = area.address + length;
        Ok(area)
    }

    /// Memory that another process has made: the areas that it has added are to be mapped [again](RingMemory::add_at), in order.
    pub(super) fn of_file(file: OwnedFd) -> RingMemory {
        RingMemory { file, in_file: 0, length: 0, next: 0 }
    }

    /// Maps the next `length` bytes of the file where another process has them mapped.
    ///
    /// # Errors
    /// EEXIST if something is mapped there; those of `mmap(2)`.
    pub(super) fn add_at(&mut self, address: usize, length: usize) -> io::Result<Area> {
        let (offset, wish) = (self.length, ptr::with_exposed_provenance_mut(address));
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED_NOREPLACE);
        let size = fstat(&self.file)?.st_size;
        if (offset + length) as u64 > size as u64 {
            return Err(Errno::INVAL.into());
        }
        // SAFETY: with MAP_FIXED_NOREPLACE, the mapping takes the place of no other. The file is that long; nothing shortens it, and
        // whoever gave it uses it no more. Areas do not overlap in it.
        let mapped = unsafe { mmap(wish, length, protection, flags, &self.file, offset as u64) }?;
        let area = Area { address: mapped.expose_provenance(), length };
        if area.address != address {
            return Err(Errno::EXIST.into());
        }
        self.length = offset + length;
        self.in_file = self.length;
        self.next = address + length;
        Ok(area)
    }

    /// The file, for another process.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Makes a part of an area zero, and frees its pages.
    pub(super) fn discard(area: &mut Area, range: &Range<usize>) {
        let Some(length) = range.end.min(area.length).checked_sub(range.start).filter(|length| *length > 0)
        else {
            return;
        };
        let start = ptr::with_exposed_provenance_mut(area.address + range.start);
        // Fails only without memory. Then the pages stay.
        // SAFETY: the range is within the area, which is borrowed exclusively; its bytes become zero.
        let _ = unsafe { madvise(start, length, Advice::LinuxRemove) };
    }
}

impl Area {
    /// Its address.
    pub(super) fn address(&self) -> usize {
        self.address
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        let first = ptr::with_exposed_provenance(self.address);
        // SAFETY: the area is mapped as long as the process lives. All that writes to it borrows it exclusively, except for the
        // kernel, which does so only in system calls during which its ring is borrowed exclusively.
        unsafe { slice::from_raw_parts(first, self.length) }
    }

    /// Its bytes, to be written.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let first = ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: as in `bytes`; and it is borrowed exclusively here.
        unsafe { slice::from_raw_parts_mut(first, self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn pages(memory: &RingMemory) -> u64 {
        fstat(&memory.file).unwrap().st_blocks as u64 / (PAGE as u64 / 512)
    }

    #[test]
    fn memory_is_allocated_when_it_is_touched_and_freed_when_it_is_discarded() {
        let mut memory = RingMemory::new(600).unwrap();
        let mut first = memory.add(1024 * PAGE).unwrap();
        let mut second = memory.add(2 * PAGE).unwrap();
        assert_eq!(pages(&memory), 0);
        first.bytes_mut()[5 * PAGE] = 1;
        second.bytes_mut().fill(2);
        assert_eq!(pages(&memory), 3);
        RingMemory::discard(&mut first, &(5 * PAGE..1024 * PAGE));
        RingMemory::discard(&mut second, &(PAGE..9 * PAGE));
        assert_eq!(pages(&memory), 1);
        assert_eq!((first.bytes()[5 * PAGE], second.bytes()[PAGE - 1], second.bytes()[PAGE]), (0, 2, 0));
        RingMemory::discard(&mut second, &(7 * PAGE..9 * PAGE));
        assert_eq!(second.bytes()[0], 2);
    }

    #[test]
    fn nothing_is_mapped_over_something_else() {
        let mut memory = RingMemory::new(603).unwrap();
        let area = memory.add(PAGE).unwrap();
        let mut again = RingMemory::of_file(rustix::io::dup(memory.file()).unwrap());
        let refused = again.add_at(area.address(), PAGE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let elsewhere = area.address() + 16 * PAGE;
        assert_eq!(again.add_at(elsewhere, 2 * PAGE).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(again.add_at(elsewhere, PAGE).unwrap().address(), elsewhere);
    }

    #[test]
    fn areas_of_two_rings_lie_apart() {
        let (mut one, mut other) = (RingMemory::new(601).unwrap(), RingMemory::new(602).unwrap());
        let (first, second) = (one.add(PAGE).unwrap(), one.add(PAGE).unwrap());
        let far = other.add(PAGE).unwrap();
        assert_eq!(second.address(), first.address() + PAGE);
        assert!(far.address().abs_diff(first.address()) > PAGE);
    }
}
