//! Shared memory regions: files to be mapped. Memory is promised when a segment grows, so a store never finds it
//! missing.

mod seals;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use self::seals::Seals;
use crate::accounts::{Account, Charge, Resource};
use crate::config::{NO_LIMIT, PAGE};
use crate::op::{Error, Whence};
use crate::state::saved;

/// The greatest size of a file, in bytes: the kernel's offsets are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// The memory of a segment. It is a trait so that the domain does no I/O of its own, and tests can use plain memory.
/// Offsets and lengths are in bytes; the sum of an offset and a length is at most `i64::MAX`.
///
/// Several threads may call it at the same time.
pub trait Memory: Send + Sync + Debug {
    /// Truncates, or extends with zeroes, as ftruncate(2). Truncating frees all memory after the end, even what
    /// [`allocate`](Memory::allocate) has allocated.
    fn set_len(&self, len: u64) -> Result<(), Error>;
    /// Reads up to `len` bytes; fewer only at the end.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error>;
    /// Writes all of `data`, extending as needed. After an error, some of it may have been written.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error>;
    /// Allocates the pages of a range. The length does not change. After an error nothing has changed.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), Error>;
    /// Makes the bytes of a range zero, and frees its whole pages. The length does not change.
    fn punch(&self, offset: u64, len: u64) -> Result<(), Error>;
    /// The first byte at or after `offset` that is data, or in a hole. The end counts as a hole. `NoSuchOffset` if
    /// there is none, or if `offset` is at or beyond the end.
    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error>;
    /// Memory in use, in units of 512 bytes.
    fn blocks(&self) -> u64;
    /// Makes it impossible to extend, also for processes that write to it without the daemon.
    fn seal_growth(&self) -> Result<(), Error>;
    /// Whether a process other than the daemon has the memory open or mapped.
    fn usage(&self) -> Usage;
    /// The file through which the kernel can reach the bytes itself (passthrough).
    fn backing(&self) -> Option<BorrowedFd<'_>>;
    /// The number under which another process keeps it, if one does.
    fn kept_as(&self) -> Option<u64> {
        None
    }
}

/// Whether processes other than the daemon have a segment's memory open or mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// No process has.
    Unused,
    /// A process has, but none for writing.
    Used,
    /// A process has for writing.
    Written,
    /// Unknown: it cannot be determined here.
    Unknown,
}

/// What was promised to a segment before a change, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Promised(u64);

saved!(struct Promised(number));

/// The mode of fallocate(2) in which the size stays.
pub const KEEP_SIZE: u32 = 0x01;

/// When a segment is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// When its name is removed.
    #[default]
    Keep,
    /// When its last descriptor and mapping are closed.
    LastClose,
}

saved!(enum Lifetime { 0 = Keep, 1 = LastClose });

/// A segment.
///
/// Its pages are *promised* when it grows: if the mount, or the user's share, has not enough, growing fails then, so that no process is
/// killed for a store into a page that it was told it has. The promise covers the whole size in pages, holes
/// included, and what fallocate(2) has allocated beyond the end.
///
/// The owner keeps it under a lock. Reads go to [`memory`](Segment::memory) without that lock. Changes of bytes or
/// size are made under it, so that a write that races with a truncate never extends the memory beyond the promise.
#[derive(Debug)]
pub struct Segment {
    memory: Arc<dyn Memory>,
    /// Length of the memory, in bytes.
    size: u64,
    /// At least `size`, rounded up to whole pages. `None`: nothing was promised yet.
    promise: Option<Charge>,
    /// Of the user who made it.
    account: Arc<Account>,
    size_max: u64,
    lifetime: Lifetime,
    seals: Seals,
}

saved!(struct Segment { memory, size, promise, account, size_max, lifetime, seals });

impl Segment {
    /// An empty segment over `memory`, which must be empty too.
    pub fn new(memory: Arc<dyn Memory>, account: Arc<Account>) -> Segment {
        let (lifetime, seals) = (Lifetime::default(), Seals::default());
        Segment { memory, size: 0, promise: None, account, size_max: NO_LIMIT, lifetime, seals }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes promised to it, which its maker's account is charged.
    pub fn promised(&self) -> u64 {
        self.promise.as_ref().map_or(0, Charge::amount)
    }

    fn lower_promise(&mut self, bytes: u64) {
        if let Some(promise) = &mut self.promise {
            promise.lower_to(bytes);
        }
    }

    fn raise_promise(&mut self, bytes: u64) -> Result<(), Error> {
        let raised = match &mut self.promise {
            Some(promise) if promise.amount() >= bytes => Ok(()),
            Some(promise) => promise.resize(bytes),
            none => self.account.charge(Resource::Segments, bytes).map(|promise| *none = Some(promise)),
        };
        raised.map_err(|_| Error::NoSpace)
    }

    /// Memory in use, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.memory.blocks()
    }

    /// Its memory. It can be read, and passed through to the kernel, without the segment's lock.
    pub fn memory(&self) -> &Arc<dyn Memory> {
        &self.memory
    }

    /// The greatest size that it may grow to, in bytes.
    pub fn size_max(&self) -> u64 {
        self.size_max
    }

    /// Limits later growth, in bytes; [`NO_LIMIT`] for no limit. A segment that is longer already stays so.
    pub fn set_size_max(&mut self, bytes: u64) {
        self.size_max = bytes;
    }

    /// When it is removed.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Sets when it is removed.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
    }

    /// The seals in force.
    pub fn seals(&self) -> Seals {
        self.seals
    }

    /// Adds seals. Seals cannot be removed. After an error nothing has changed.
    pub fn set_seals(&mut self, seals: Seals) -> Result<(), Error> {
        if seals.grow && !self.seals.grow {
            self.memory.seal_growth()?;
        }
        self.seals = self.seals.with(seals);
        Ok(())
    }

    /// ftruncate(2). Promises memory before growing. Shrinking returns memory, also what was allocated beyond the
    /// end.
    ///
    /// `TooBig` beyond `i64::MAX`; `NoSpace` if it would grow beyond `size_max` or the budget; `NotPermitted` if the
    /// change is sealed. After an error nothing has changed.
    pub fn resize(&mut self, size: u64) -> Result<(), Error> {
        self.seals.permit_resize(self.size, size)?;
        if size > self.size {
            return self.grow_with(size, |memory| memory.set_len(size)).map(|()| self.size = size);
        }
        self.memory.set_len(size)?;
        self.size = size;
        self.lower_promise(in_pages(size));
        Ok(())
    }

    /// Reads up to `len` bytes; fewer at the end, none beyond it.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        if len == 0 { Ok(Vec::new()) } else { self.memory.read(offset, len) }
    }

    /// pwrite(2). Returns the bytes written, which is all of them. Extends as needed, promising memory first. Writing
    /// no bytes extends nothing.
    ///
    /// `TooBig` if it would end beyond `i64::MAX`; `NoSpace` if the segment would grow beyond `size_max` or the
    /// budget: then nothing is written, not even what would fit.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<u32, Error> {
        if data.is_empty() {
            return Ok(0);
        }
        let end = end_of(offset, data.len() as u64)?;
        self.seals.permit_write()?;
        self.seals.permit_resize(self.size, self.size.max(end))?;
        self.grow_with(end, |memory| memory.write(offset, data))?;
        self.size = self.size.max(end);
        Ok(data.len() as u32)
    }

    /// The page cache writes back what was stored through a mapping. Returns the bytes taken, which is all of them.
    /// Never extends: a page may be written back after a truncate, and then its bytes beyond the end are dropped.
    pub fn write_back(&mut self, offset: u64, data: &[u8]) -> Result<u32, Error> {
        let left = self.size.saturating_sub(offset);
        let within = usize::try_from(left).ok().and_then(|left| data.get(..left)).unwrap_or(data);
        if !within.is_empty() {
            self.memory.write(offset, within)?;
        }
        Ok(data.len() as u32)
    }

    /// fallocate(2) in the modes of tmpfs, and `FALLOC_FL_ZERO_RANGE`, which tmpfs lacks. Promises memory first, also
    /// if `FALLOC_FL_KEEP_SIZE` allocates it beyond the end.
    ///
    /// `Invalid` if `length` is 0; `NotSupported` for other modes; `TooBig` if it would end beyond `i64::MAX`;
    /// `NotPermitted` if it would end beyond the size and growing is sealed, even if the size would stay, as tmpfs
    /// does for a memory file; `NoSpace` if it would end beyond the size and exceed `size_max` or the budget. After
    /// an error, size and promise have not changed.
    pub fn fallocate(&mut self, offset: u64, length: u64, mode: u32) -> Result<(), Error> {
        if length == 0 {
            return Err(Error::Invalid);
        }
        let mode = Mode::parse(mode)?;
        let end = end_of(offset, length)?;
        let (zero, keep_size) = match mode {
            Mode::Punch => {
                self.seals.permit_write()?;
                return self.memory.punch(offset, length);
            }
            Mode::Allocate { keep_size } => (false, keep_size),
            Mode::Zero { keep_size } => (true, keep_size),
        };
        self.seals.permit_resize(self.size, self.size.max(end))?;
        let extends = end > self.size && !keep_size;
        if zero {
            self.seals.permit_write()?;
        }
        self.grow_with(end, |memory| {
            if zero { memory.punch(offset, length) } else { memory.allocate(offset, length) }?;
            if extends { memory.set_len(end) } else { Ok(()) }
        })?;
        if extends {
            self.size = end;
        }
        Ok(())
    }

    /// `SEEK_DATA` and `SEEK_HOLE` of lseek(2). `NoSuchOffset` at and beyond the end, and if no data follows.
    pub fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        if offset < self.size { self.memory.seek(offset, whence) } else { Err(Error::NoSuchOffset) }
    }

    /// Gives up the memory of a segment that was unlinked and closed by all. It is charged no longer, and the caller cuts it.
    /// Returns the length of what there may be, in bytes.
    pub fn abandon(&mut self) -> u64 {
        let length = self.promised().max(self.size);
        self.size = 0;
        self.lower_promise(0);
        length
    }

    /// Begins a [`fallocate`](Segment::fallocate) that is done in parts: all of it is checked, and the memory is promised.
    /// Returns where its last part ends: what is beyond all memory need not be punched.
    pub fn begin_allocate(&mut self, offset: u64, length: u64, mode: u32) -> Result<(u64, Promised), Error> {
        let before = Promised(self.promised());
        if length == 0 {
            return Err(Error::Invalid);
        }
        let parsed = Mode::parse(mode)?;
        let end = end_of(offset, length)?;
        if let Mode::Punch = parsed {
            self.seals.permit_write()?;
            return Ok((end.min(before.0.max(offset)), before));
        }
        self.seals.permit_resize(self.size, self.size.max(end))?;
        if let Mode::Zero { .. } = parsed {
            self.seals.permit_write()?;
        }
        if end > self.size {
            if end > self.size_max {
                return Err(Error::NoSpace);
            }
            self.raise_promise(in_pages(end))?;
        }
        Ok((end, before))
    }

    /// Returns what [`begin_allocate`](Segment::begin_allocate) has promised, and frees what is beyond the end.
    pub fn undo_allocate(&mut self, before: Promised) {
        // Truncating can fail only if there is nothing to truncate.
        let _ = self.memory.set_len(self.size);
        self.lower_promise(before.0.max(in_pages(self.size)));
    }

    /// Makes a change that needs pages up to `end`, after promising them. After an error, the memory has its former
    /// length and the promise is what it was.
    fn grow_with(
        &mut self,
        end: u64,
        change: impl FnOnce(&dyn Memory) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if end <= self.size {
            return change(&*self.memory);
        }
        if end > MAX_SIZE {
            return Err(Error::TooBig);
        }
        if end > self.size_max {
            return Err(Error::NoSpace);
        }
        let before = self.promised();
        self.raise_promise(in_pages(end))?;
        let result = change(&*self.memory);
        if result.is_err() {
            // A write may have been done in part. Truncating can fail only if there is nothing to truncate.
            let _ = self.memory.set_len(self.size);
            self.lower_promise(before);
        }
        result
    }
}

/// A mode of fallocate(2).
enum Mode {
    /// Mode 0.
    Allocate { keep_size: bool },
    /// `FALLOC_FL_PUNCH_HOLE`, always with `FALLOC_FL_KEEP_SIZE`.
    Punch,
    /// `FALLOC_FL_ZERO_RANGE`. Done by punching a hole: holes read as zeroes, and their pages stay promised.
    Zero { keep_size: bool },
}

impl Mode {
    fn parse(mode: u32) -> Result<Mode, Error> {
        const PUNCH_HOLE_KEEPING_SIZE: u32 = 0x02 | KEEP_SIZE;
        const ZERO_RANGE: u32 = 0x10;
        const ZERO_RANGE_KEEPING_SIZE: u32 = ZERO_RANGE | KEEP_SIZE;
        match mode {
            0 => Ok(Mode::Allocate { keep_size: false }),
            KEEP_SIZE => Ok(Mode::Allocate { keep_size: true }),
            PUNCH_HOLE_KEEPING_SIZE => Ok(Mode::Punch),
            ZERO_RANGE => Ok(Mode::Zero { keep_size: false }),
            ZERO_RANGE_KEEPING_SIZE => Ok(Mode::Zero { keep_size: true }),
            _ => Err(Error::NotSupported),
        }
    }
}

/// The offset after the last of `length` bytes. `TooBig` if that is beyond the greatest size of a file.
fn end_of(offset: u64, length: u64) -> Result<u64, Error> {
    offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Error::TooBig)
}

/// Rounded up to whole pages. Up to [`MAX_SIZE`] this cannot overflow.
fn in_pages(size: u64) -> u64 {
    size.next_multiple_of(PAGE)
}
