//! Memory of segments, and the kernel's table of backing files, which answer as they did when a call is made again.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::pen::Pen;
use crate::op::{Error, Whence};
use crate::segment::{Memory, Usage};
use crate::sys::memfd::Memfd;
use crate::tree::{Backing, MakeMemory};

/// A memory file that another process keeps.
#[derive(Debug)]
pub(super) struct KeptMemory {
    file: Arc<dyn Memory>,
    number: u64,
    /// It is not there any more.
    is_missing: bool,
    pen: Arc<Pen>,
}

impl KeptMemory {
    /// The one that is kept under this number. If none is any more, nobody will ask for what is in it.
    pub(super) fn find(number: u64, pen: &Arc<Pen>) -> Result<KeptMemory, Error> {
        let nothing = || File::open("/dev/null").map(OwnedFd::from).map_err(|_| Error::Io);
        let kept = pen.kept(number);
        let is_missing = kept.is_none();
        let file = kept.map_or_else(nothing, Ok)?;
        let file = Arc::new(Memfd::from(file));
        Ok(KeptMemory { file, number, is_missing, pen: Arc::clone(pen) })
    }

    /// A memory that is [to be kept](KeptMemory::keep).
    pub(super) fn new(file: Arc<dyn Memory>, pen: &Arc<Pen>) -> io::Result<KeptMemory> {
        let number = pen.reserve().ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(KeptMemory { file, number, is_missing: false, pen: Arc::clone(pen) })
    }

    /// Has it kept.
    pub(super) fn keep(&self) -> io::Result<()> {
        self.pen.keep(self.number, self.file.backing().ok_or(io::ErrorKind::Unsupported)?);
        Ok(())
    }

    /// It is not there any more.
    pub(super) fn is_missing(&self) -> bool {
        self.is_missing
    }

    fn result<T: super::pen::Outcome>(&self, ask: impl FnOnce(&dyn Memory) -> T) -> T {
        self.pen.result(|| ask(&*self.file))
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        self.pen.let_go(self.number);
    }
}

/// Makes memories.
pub(super) fn maker(pen: &Arc<Pen>, made: impl Fn(&Arc<KeptMemory>) + Send + Sync + 'static) -> MakeMemory {
    let pen = Arc::clone(pen);
    Arc::new(move || {
        let mut new = None;
        let number = pen.result(|| {
            let memory = KeptMemory::new(Arc::new(Memfd::new()?), &pen).map_err(|_| Error::NoSpace)?;
            memory.keep().map_err(|_| Error::NoSpace)?;
            let number = memory.number;
            new = Some(memory);
            Ok(number)
        })?;
        let memory = new.map_or_else(|| KeptMemory::find(number, &pen), Ok)?;
        let memory = Arc::new(memory);
        made(&memory);
        Ok(memory as Arc<dyn Memory>)
    })
}

impl Memory for KeptMemory {
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.result(|file| file.set_len(len))
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = None;
        // What was read is not written down: whoever still waits for it gets what is there now.
        let length = self.result(|file| {
            let read = file.read(offset, len)?;
            let length = read.len() as u64;
            bytes = Some(read);
            Ok(length)
        })?;
        if let Some(bytes) = bytes {
            return Ok(bytes);
        }
        let length = length as usize;
        let mut bytes = if self.pen.is_unwanted() {
            Vec::new()
        } else {
            self.file.read(offset, length).unwrap_or_default()
        };
        bytes.resize(length, 0);
        Ok(bytes)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.result(|file| file.write(offset, data))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.result(|file| file.allocate(offset, len))
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.result(|file| file.punch(offset, len))
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        self.result(|file| file.seek(offset, whence))
    }

    fn blocks(&self) -> u64 {
        self.result(|file| file.blocks())
    }

    fn seal_growth(&self) -> Result<(), Error> {
        self.result(|file| file.seal_growth())
    }

    fn usage(&self) -> Usage {
        self.result(|file| file.usage())
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        self.file.backing()
    }

    fn kept_as(&self) -> Option<u64> {
        Some(self.number)
    }
}

/// The kernel's table of backing files.
#[derive(Debug)]
pub(super) struct KeptBacking {
    pub(super) backing: Box<dyn Backing>,
    pub(super) pen: Arc<Pen>,
}

impl Backing for KeptBacking {
    fn open(&self, memory: BorrowedFd<'_>) -> Result<u32, Error> {
        let id = self.pen.result(|| self.backing.open(memory).map(u64::from))?;
        u32::try_from(id).map_err(|_| Error::Io)
    }

    fn close(&self, id: u32) {
        // Once only: the number may be another's by now.
        let _: u64 = self.pen.result(|| {
            self.backing.close(id);
            0
        });
    }
}
