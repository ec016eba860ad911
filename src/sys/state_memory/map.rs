//! The file, mapped as a whole: its words and bytes by their offsets.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::fs::{
    FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, flock,
    fstat, ftruncate, memfd_create, open,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// A memory file of which this process has the only mapping that is written to.
#[derive(Debug)]
pub(super) struct Map {
    /// For other processes that keep or take over the file.
    file: OwnedFd,
    /// Opened by this process alone. It has the lock, which ends with the process.
    own: OwnedFd,
    base: usize,
    length: u64,
}

impl Map {
    /// A new file of `length` zeros, which take no memory yet.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`, `ftruncate(2)` and `mmap(2)`.
    pub(super) fn new(length: u64) -> io::Result<Map> {
        let always = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let create = |flags| retry_on_intr(|| memfd_create(c"ipcfs-memory", always | flags));
        let file = match create(MemfdFlags::NOEXEC_SEAL) {
            // Before Linux 6.3.
            Err(Errno::INVAL) => create(MemfdFlags::empty()),
            done => done,
        }?;
        retry_on_intr(|| ftruncate(&file, length))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Map::of_file(file)
    }

    /// A file that an earlier process has made.
    ///
    /// # Errors
    /// `WouldBlock` if that process, or another, still uses it; those of `open(2)` and `mmap(2)`.
    pub(super) fn of_file(file: OwnedFd) -> io::Result<Map> {
        // A lock of its own needs an open file of its own: copies of one descriptor share theirs.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let own = retry_on_intr(|| open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
        retry_on_intr(|| flock(&own, FlockOperation::NonBlockingLockExclusive))?;
        let length = fstat(&own)?.st_size as u64;
        let size = usize::try_from(length).map_err(|_| Errno::OVERFLOW)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: without MAP_FIXED, the mapping takes the place of no other. The file cannot become shorter: it is sealed, or else
        // whoever could shorten it is a process that has the lock. The mapping is never unmapped.
        let base = unsafe { mmap(ptr::null_mut(), size, protection, flags, &own, 0) }?;
        Ok(Map { file, own, base: base.expose_provenance(), length })
    }

    /// The file, for other processes.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.file)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The word at an offset, which is a multiple of 8.
    pub(super) fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at.checked_add(8).is_some_and(|end| end <= self.length));
        let word = ptr::with_exposed_provenance_mut(self.base + at as usize);
        // SAFETY: it is within the mapping, which lives as long as the process, and aligned. Words are used as words only, or
        // lent out as bytes only: see `bytes`.
        unsafe { AtomicU64::from_ptr(word) }
    }

    /// Writes bytes.
    ///
    /// # Safety
    /// Nobody else uses these bytes, as bytes or as words.
    pub(super) unsafe fn write(&self, at: u64, bytes: &[u8]) {
        let length = bytes.len();
        assert!(at.checked_add(length as u64).is_some_and(|end| end <= self.length));
        let to = ptr::with_exposed_provenance_mut::<u8>(self.base + at as usize);
        // SAFETY: the range is within the mapping, and the caller's alone. `bytes` cannot overlap it for that reason.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, length) };
    }

    /// Lends bytes.
    ///
    /// # Safety
    /// Nobody writes to them as long as they are lent.
    pub(super) unsafe fn bytes(&self, at: u64, length: usize) -> &[u8] {
        assert!(at.checked_add(length as u64).is_some_and(|end| end <= self.length));
        let first = ptr::with_exposed_provenance(self.base + at as usize);
        // SAFETY: the range is within the mapping, and the caller sees to it that nobody writes to it.
        unsafe { slice::from_raw_parts(first, length) }
    }

    /// As if this process was gone.
    #[cfg(test)]
    pub(super) fn unlock(&self) {
        let _ = flock(&self.own, FlockOperation::Unlock);
    }

    /// As if this process was gone for good.
    ///
    /// # Safety
    /// Nothing uses this any more.
    #[cfg(test)]
    pub(super) unsafe fn end(&self) {
        use std::os::fd::AsRawFd as _;
        // A process that another thread starts has the descriptor, too, until it executes its program.
        self.unlock();
        let base = ptr::with_exposed_provenance_mut(self.base);
        // SAFETY: the caller sees to it that nobody uses the mapping or the descriptors; this value is never dropped.
        unsafe {
            let _ = rustix::mm::munmap(base, self.length as usize);
            libc::close(self.own.as_raw_fd());
            libc::close(self.file.as_raw_fd());
        }
    }

    /// Takes the memory for a range, so that a store to it cannot fail.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn allocate(&self, at: u64, length: u64) -> Result<(), Errno> {
        retry_on_intr(|| fallocate(&self.own, FallocateFlags::KEEP_SIZE, at, length))
    }

    /// Makes a range zero, and gives its memory back.
    ///
    /// # Safety
    /// Nobody else uses this range, as bytes or as words.
    pub(super) unsafe fn discard(&self, at: u64, length: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if retry_on_intr(|| fallocate(&self.own, flags, at, length)).is_err() {
            assert!(at.checked_add(length).is_some_and(|end| end <= self.length));
            let first = ptr::with_exposed_provenance_mut::<u8>(self.base + at as usize);
            // SAFETY: the range is within the mapping, and the caller's alone.
            unsafe { ptr::write_bytes(first, 0, length as usize) };
        }
    }
}
