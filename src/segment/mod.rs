//! Shared memory regions: files to be mapped, whose memory is promised when they grow, never found missing at a store.

mod budget;
mod seals;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use self::budget::Budget;
use self::budget::Promise;
pub use self::seals::Seals;
use crate::config::{NO_LIMIT, PAGE};
use crate::op::{Error, Whence};

/// The greatest size of a file, in bytes: the kernel's offsets are signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// Where a segment's bytes live. Behind a trait so that the domain does no I/O of its own and tests can use plain
/// memory. Offsets and lengths are in bytes, and sums of them are at most `i64::MAX`.
///
/// All of it may be called by several threads at once.
pub trait Memory: Send + Sync + Debug {
    /// Cuts or extends with zeroes, as ftruncate(2). Nothing is kept behind the end when cut, not even by
    /// [`allocate`](Memory::allocate).
    fn set_len(&self, len: u64) -> Result<(), Error>;
    /// Up to `len` bytes; fewer only where the end is.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error>;
    /// All of `data`, extending where needed. On an error some of it may have been written.
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error>;
    /// Makes the pages present. The length stays as it is. On an error nothing has changed.
    fn allocate(&self, offset: u64, len: u64) -> Result<(), Error>;
    /// Makes the bytes zero and gives whole pages back. The length stays as it is.
    fn punch(&self, offset: u64, len: u64) -> Result<(), Error>;
    /// The first byte from `offset` on that is data, or in a hole; the end counts as a hole. `Error::NoSuchOffset` if
    /// there is none or `offset` is not before the end.
    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error>;
    /// Memory in use, in units of 512 bytes.
    fn blocks(&self) -> u64;
    /// Lets nobody make it longer ever again, who writes past us neither.
    fn seal_growth(&self) -> Result<(), Error>;
    /// Who else has the bytes open or mapped.
    fn usage(&self) -> Usage;
    /// The file that the kernel may reach the bytes through by itself.
    fn backing(&self) -> Option<BorrowedFd<'_>>;
}

/// Whether others than the daemon have a segment's bytes open or mapped, past it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Nobody has.
    Unused,
    /// Somebody has, and nobody for writing.
    Used,
    /// Somebody has for writing.
    Written,
    /// It cannot be found out.
    Unknown,
}

/// When a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// When it is removed by name.
    #[default]
    Keep,
    /// When its last descriptor and mapping are gone.
    LastClose,
}

/// One segment.
///
/// Its pages are *promised* when it grows: what the budget cannot give is refused there and then, so that no process
/// is killed for storing into a page it was told it has. The promise is for the whole size, rounded up to pages and
/// holes included, and for what fallocate(2) set aside behind the end.
///
/// The owner keeps it under a lock. Reads go to [`memory`](Segment::memory) without that lock; whatever changes bytes
/// or size is made under it, so that no write is overtaken by a truncate and extends the memory unpromised.
#[derive(Debug)]
pub struct Segment {
    memory: Arc<dyn Memory>,
    /// The memory's length.
    size: u64,
    /// At least `size` in whole pages.
    promise: Promise,
    size_max: u64,
    lifetime: Lifetime,
    seals: Seals,
}

impl Segment {
    /// An empty segment over `memory`, which must be empty too.
    pub fn new(memory: Arc<dyn Memory>, budget: Arc<Budget>) -> Segment {
        let promise = Promise::none(budget);
        let (lifetime, seals) = (Lifetime::default(), Seals::default());
        Segment { memory, size: 0, promise, size_max: NO_LIMIT, lifetime, seals }
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the budget that are promised to it.
    pub fn promised(&self) -> u64 {
        self.promise.bytes()
    }

    /// Memory in use, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.memory.blocks()
    }

    /// Where the bytes live: to be read without the segment's lock, and to be passed through.
    pub fn memory(&self) -> &Arc<dyn Memory> {
        &self.memory
    }

    /// The size in bytes that it may not grow beyond.
    pub fn size_max(&self) -> u64 {
        self.size_max
    }

    /// Bounds later growth; a segment that is longer already stays so. [`NO_LIMIT`] for no bound.
    pub fn set_size_max(&mut self, bytes: u64) {
        self.size_max = bytes;
    }

    /// When it goes.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Decides when it goes.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
    }

    /// What is forbidden for good.
    pub fn seals(&self) -> Seals {
        self.seals
    }

    /// Forbids for good. What is sealed stays so. Nothing has changed after an error.
    pub fn set_seals(&mut self, seals: Seals) -> Result<(), Error> {
        if seals.grow && !self.seals.grow {
            self.memory.seal_growth()?;
        }
        self.seals = self.seals.with(seals);
        Ok(())
    }

    /// ftruncate(2). Growing promises first, shrinking gives back, also what was set aside behind the end.
    ///
    /// `TooBig` beyond `i64::MAX`; `NoSpace` if it would grow beyond `size_max` or the budget; `NotPermitted` if that is
    /// sealed. Nothing has changed after an error.
    pub fn resize(&mut self, size: u64) -> Result<(), Error> {
        self.seals.permit_resize(self.size, size)?;
        if size > self.size {
            return self.grow_with(size, |memory| memory.set_len(size)).map(|()| self.size = size);
        }
        self.memory.set_len(size)?;
        self.size = size;
        self.promise.lower_to(in_pages(size));
        Ok(())
    }

    /// Up to `len` bytes; fewer where the end is, none behind it.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).map_or(len, |left| left.min(len));
        if len == 0 { Ok(Vec::new()) } else { self.memory.read(offset, len) }
    }

    /// pwrite(2): the bytes written, which is all of them. Extends where needed, promising first; writing nothing
    /// extends nothing.
    ///
    /// `TooBig` if it would end beyond `i64::MAX`; `NoSpace` if the segment would grow beyond `size_max` or the budget:
    /// nothing is written then, not even what would fit.
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

    /// The page cache gives back what was stored through a mapping: the bytes taken, which is all of them. Never
    /// extends: a page may come back after a truncate, and what of it lies behind the end is dropped as if written.
    pub fn write_back(&mut self, offset: u64, data: &[u8]) -> Result<u32, Error> {
        let left = self.size.saturating_sub(offset);
        let within = usize::try_from(left).ok().and_then(|left| data.get(..left)).unwrap_or(data);
        if !within.is_empty() {
            self.memory.write(offset, within)?;
        }
        Ok(data.len() as u32)
    }

    /// fallocate(2) in the modes that tmpfs has and `FALLOC_FL_ZERO_RANGE`, which it lacks. The memory is promised
    /// first, also where `FALLOC_FL_KEEP_SIZE` sets it aside behind the end.
    ///
    /// `Invalid` if `length` is 0; `NotSupported` for other modes; `TooBig` if it would end beyond `i64::MAX`;
    /// `NotPermitted` if it would end beyond the size and grow_with is sealed, as tmpfs has it for a memory file, also where the
    /// size would stay; `NoSpace` if it would end beyond the size and `size_max` or the budget. Size and promise have not
    /// changed after an error.
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

    /// `SEEK_DATA` and `SEEK_HOLE` of lseek(2). `NoSuchOffset` at the end and behind it, and where no data follows.
    pub fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        if offset < self.size { self.memory.seek(offset, whence) } else { Err(Error::NoSuchOffset) }
    }

    /// Unlinked, and closed by all: nobody can reach the bytes any more, and their memory goes at once.
    pub fn free(&mut self) {
        // Should cutting fail, the memory itself goes with the last reference to it.
        let _ = self.memory.set_len(0);
        self.size = 0;
        self.promise.lower_to(0);
    }

    /// As [`Segment::free`], where somebody may have the bytes mapped: they stay until that ends, uncounted.
    pub fn orphan(&mut self) {
        self.promise.lower_to(0);
    }

    /// Does what needs pages up to `end`, after promising them. After an error the memory has its former length again
    /// and the promise is what it was.
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
        let before = self.promise.bytes();
        self.promise.raise_to(in_pages(end))?;
        let result = change(&*self.memory);
        if result.is_err() {
            // A write may have come part of the way. Cutting again can only fail as it cannot be needed.
            let _ = self.memory.set_len(self.size);
            self.promise.lower_to(before);
        }
        result
    }
}

/// What fallocate(2) is asked to do.
enum Mode {
    /// Mode 0.
    Allocate { keep_size: bool },
    /// `FALLOC_FL_PUNCH_HOLE`, which comes with `FALLOC_FL_KEEP_SIZE` always.
    Punch,
    /// `FALLOC_FL_ZERO_RANGE`. Made by punching: zeroes are what holes read as, and their pages are promised anyway.
    Zero { keep_size: bool },
}

impl Mode {
    fn parse(mode: u32) -> Result<Mode, Error> {
        const KEEP_SIZE: u32 = 0x01;
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

/// The byte behind the last of `length` bytes.
fn end_of(offset: u64, length: u64) -> Result<u64, Error> {
    offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Error::TooBig)
}

/// Rounded up to whole pages. Up to [`MAX_SIZE`] this cannot overflow.
fn in_pages(size: u64) -> u64 {
    size.next_multiple_of(PAGE)
}
