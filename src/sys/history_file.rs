//! A memory file that outlives the process, mapped as a whole: its words and bytes by their offsets.
//!
//! After `kill -9` the next daemon finds the bytes as they were, because the file's pages are the system's. A process is killed between
//! two of its instructions, so a store to one word is always whole.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, flock,
    fstat, ftruncate, memfd_create, open,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// How often it is tried to get a file whose process has just died: a child of it may have its descriptors for a moment, between fork
/// and execve.
const TRIES: u32 = 100;
const AGAIN: Duration = Duration::from_millis(10);

/// A memory file of which this process has the only mapping that is written to.
#[derive(Debug)]
pub struct HistoryFile {
    /// For another process that keeps the file.
    file: OwnedFd,
    /// Opened by this process alone. It has the lock, which ends with the process.
    own: OwnedFd,
    base: usize,
    length: u64,
}

impl HistoryFile {
    /// A new file of `length` zeros, which take no memory yet.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`, `ftruncate(2)` and `mmap(2)`.
    pub fn new(length: u64) -> io::Result<HistoryFile> {
        let always = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| retry_on_intr(|| memfd_create(c"ipcfs-history", always | flags));
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            done => done,
        }?;
        retry_on_intr(|| ftruncate(&file, length))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        HistoryFile::of_file(file)
    }

    /// A file that an earlier process has made.
    ///
    /// # Errors
    /// `WouldBlock` if that process, or another, still uses it; those of `open(2)` and `mmap(2)`.
    pub fn of_file(file: OwnedFd) -> io::Result<HistoryFile> {
        // A lock of its own needs an open file of its own: copies of one descriptor share theirs.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let own = retry_on_intr(|| open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
        let mut tries = 0;
        while let Err(error) = retry_on_intr(|| flock(&own, FlockOperation::NonBlockingLockExclusive)) {
            tries += 1;
            if error != Errno::AGAIN || tries == TRIES {
                return Err(error.into());
            }
            thread::sleep(AGAIN);
        }
        let length = fstat(&own)?.st_size as u64;
        let size = usize::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: without MAP_FIXED, the mapping takes the place of no other. The file cannot become shorter: it is sealed.
        let base = unsafe { mmap(ptr::null_mut(), size, protection, flags, &own, 0) }?;
        // A child that waits for the mount would keep the mapping, and with it the lock, beyond the end of this process.
        // SAFETY: the range is the mapping, which this process keeps.
        unsafe { madvise(base, size, Advice::LinuxDontFork) }?;
        Ok(HistoryFile { file, own, base: base.expose_provenance(), length })
    }

    /// The file, for other processes.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn place(&self, at: u64, length: u64) -> usize {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.length), "{at} is beyond the end");
        self.base + at as usize
    }

    /// The word at an offset, which is a multiple of 8.
    pub fn word(&self, at: u64) -> u64 {
        self.atomic(at).load(Ordering::Acquire)
    }

    /// Stores a word, after all that was stored before.
    pub fn set_word(&mut self, at: u64, value: u64) {
        self.atomic(at).store(value, Ordering::Release);
    }

    fn atomic(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8));
        let word = ptr::with_exposed_provenance_mut(self.place(at, 8));
        // SAFETY: it is within the mapping, which lives as long as `self`, and aligned.
        unsafe { AtomicU64::from_ptr(word) }
    }

    /// Writes bytes.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let to = ptr::with_exposed_provenance_mut::<u8>(self.place(at, bytes.len() as u64));
        // SAFETY: the range is within the mapping, and nobody has a reference to it, as this takes `self` mutably. `bytes` cannot
        // overlap it for that reason.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Lends bytes.
    pub fn bytes(&self, at: u64, length: u64) -> &[u8] {
        let first = ptr::with_exposed_provenance(self.place(at, length));
        // SAFETY: the range is within the mapping, and nobody writes to it as long as `self` is lent: this process takes it mutably to
        // write, and no other process has the lock.
        unsafe { slice::from_raw_parts(first, length as usize) }
    }

    /// Lends bytes to be written.
    pub fn bytes_mut(&mut self, at: u64, length: u64) -> &mut [u8] {
        let first = ptr::with_exposed_provenance_mut(self.place(at, length));
        // SAFETY: the range is within the mapping, and nobody has a reference to it as long as `self` is lent mutably. No other
        // process has the lock.
        unsafe { slice::from_raw_parts_mut(first, length as usize) }
    }

    /// Takes the memory for a range, so that a store to it cannot fail.
    ///
    /// # Errors
    /// There is none.
    pub fn allocate(&self, at: u64, length: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| fallocate(&self.own, FallocateFlags::KEEP_SIZE, at, length))?)
    }

    /// Gives the memory of a range back. Its bytes are zero after that, unless this fails.
    pub fn discard(&mut self, at: u64, length: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = retry_on_intr(|| fallocate(&self.own, flags, at, length));
    }
}

impl Drop for HistoryFile {
    fn drop(&mut self) {
        let first = ptr::with_exposed_provenance_mut(self.base);
        // SAFETY: the mapping is this value's own, and nobody has a reference to it any more.
        let _ = unsafe { munmap(first, self.length as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_there_for_the_next_one() {
        let mut file = HistoryFile::new(1 << 30).unwrap();
        file.allocate(0, 8192).unwrap();
        file.set_word(8, 7);
        file.write(4093, b"hello");
        file.bytes_mut(9000, 2).copy_from_slice(b"hi");
        let kept = file.file().try_clone_to_owned().unwrap();
        drop(file);
        let mut next = HistoryFile::of_file(kept).unwrap();
        assert_eq!((next.word(8), next.word(16), next.bytes(4093, 5)), (7, 0, &b"hello"[..]));
        assert_eq!(next.bytes(9000, 3), b"hi\0");
        next.discard(0, 8192);
        assert_eq!((next.word(8), next.length()), (0, 1 << 30));
    }
}
