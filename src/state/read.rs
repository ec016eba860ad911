//! Making it again.

use std::any::Any;
use std::sync::Arc;

use super::{Saved, Unfit, VERSION};
use crate::accounts::{Account, Accounts};
use crate::codec::Reader;
use crate::journal::Journal;
use crate::op::Now;
use crate::segment::Memory;

/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// What is not in a state but belongs to the process.
pub(crate) struct Given {
    /// Which all charges are entered into.
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) journal: Option<Arc<Journal>>,
    /// For times of the wall clock, which a state of the first version has.
    pub(crate) now: Now,
    /// The memory that [`super::Saver::finish`] returned, in the same order.
    pub(crate) memories: Vec<Arc<dyn Memory>>,
    /// Most files and open files that there may be, so that no table is longer.
    pub(crate) longest_table: usize,
}

/// From where values are made again.
pub(crate) struct Restorer<'a> {
    bytes: Reader<'a>,
    version: u32,
    given: Option<Given>,
    /// What several share, in the order of its numbers.
    shared: Vec<Box<dyn Any>>,
    last_account: Option<Arc<Account>>,
}

/// The value whose bytes these are, of [`alone`](super::alone). `None` if they are none.
pub(crate) fn restored_alone<T: Saved>(bytes: &[u8]) -> Option<T> {
    let mut from = Restorer::of(bytes, VERSION);
    T::restore(&mut from).filter(|_| from.is_at_end())
}

impl<'a> Restorer<'a> {
    /// # Errors
    /// If these bytes are no state, or one of another version.
    pub(crate) fn new(state: &'a [u8]) -> Result<Restorer<'a>, Unfit> {
        let (version, _) = state.split_first_chunk().ok_or(Unfit::Damaged)?;
        let version = u32::from_le_bytes(*version);
        if !(1..=VERSION).contains(&version) {
            return Err(Unfit::Version(version));
        }
        let end = state.len().checked_sub(CHECKSUM).ok_or(Unfit::Damaged)?;
        let (rest, checksum) = state.split_at(end);
        if crc32c::crc32c(rest).to_le_bytes() != checksum {
            return Err(Unfit::Damaged);
        }
        Ok(Restorer::of(rest.get(size_of::<u32>()..).ok_or(Unfit::Damaged)?, version))
    }

    /// From the values of a state of a version.
    pub(super) fn of(values: &'a [u8], version: u32) -> Restorer<'a> {
        let bytes = Reader(values);
        Restorer { bytes, version, given: None, shared: Vec::new(), last_account: None }
    }

    /// For fields that are there `since` a version.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// To be called before the first value that stands for something of the process.
    pub(crate) fn give(&mut self, given: Given) {
        self.given = Some(given);
    }

    pub(crate) fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }

    /// True if all bytes were read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.bytes.0.is_empty()
    }

    /// For how many values there may be room to be made: each is at least a byte.
    pub(crate) fn at_most(&self, count: usize) -> usize {
        count.min(self.bytes.0.len())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.bytes.u8()
    }

    pub(crate) fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.bytes.number()
    }

    pub(crate) fn reader(&mut self) -> &mut Reader<'a> {
        &mut self.bytes
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.bytes.bytes()
    }

    /// What [`super::Saver::share`] has saved.
    pub(crate) fn shared<T: Any + Clone>(
        &mut self,
        restore: impl FnOnce(&mut Restorer<'a>) -> Option<T>,
    ) -> Option<T> {
        let number: usize = self.number()?;
        if let Some(at) = number.checked_sub(1) {
            return self.shared.get(at)?.downcast_ref::<T>().cloned();
        }
        let value = restore(self)?;
        self.shared.push(Box::new(value.clone()));
        Some(value)
    }

    /// The account of a user. Most messages in a row are one user's.
    pub(crate) fn account(&mut self, uid: u32) -> Option<Arc<Account>> {
        if let Some(last) = self.last_account.as_ref().filter(|last| last.uid() == uid) {
            return Some(Arc::clone(last));
        }
        let account = self.given()?.accounts.of(uid);
        self.last_account = Some(Arc::clone(&account));
        Some(account)
    }

    /// What [`super::Saver::memory`] has numbered.
    pub(crate) fn memory(&mut self) -> Option<Arc<dyn Memory>> {
        let number: usize = self.number()?;
        self.given()?.memories.get(number).map(Arc::clone)
    }
}
