//! Segment memory that is plain memory.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use ipcfs::op::{Error, Whence};
use ipcfs::segment::Memory;

/// All of it is data.
#[derive(Debug, Default)]
pub struct Plain(Mutex<Vec<u8>>);

impl Plain {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory for Plain {
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.with(|bytes| bytes.resize(len as usize, 0));
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        Ok(self.with(|bytes| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes[from..from.saturating_add(len).min(bytes.len())].to_vec()
        }))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.with(|bytes| {
            let (from, to) = (offset as usize, offset as usize + data.len());
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(data);
        });
        Ok(())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> Result<(), Error> {
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.with(|bytes| {
            let end = (offset + len).min(bytes.len() as u64) as usize;
            if let Some(hole) = bytes.get_mut(offset.min(end as u64) as usize..end) {
                hole.fill(0);
            }
        });
        Ok(())
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        let size = self.with(|bytes| bytes.len() as u64);
        match whence {
            _ if offset >= size => Err(Error::NoSuchOffset),
            Whence::Data => Ok(offset),
            Whence::Hole => Ok(size),
        }
    }

    fn blocks(&self) -> u64 {
        self.with(|bytes| bytes.len().div_ceil(512) as u64)
    }

    fn seal_growth(&self) -> Result<(), Error> {
        Ok(())
    }

    fn usage(&self) -> ipcfs::segment::Usage {
        ipcfs::segment::Usage::Unused
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
