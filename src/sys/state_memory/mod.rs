//! Memory that outlives the process: records in a memory file that another process keeps.
//!
//! After `kill -9` the next daemon finds the records as they were, because the file's pages are the system's. So a store to memory
//! is enough to record something. There is no log and no index: a record is there as long as what it tells of is true.
//!
//! ```text
//! record   kind, number of words, number of bytes │ words, which can be changed │ bytes, which cannot
//!          one word: not 0 while it is valid
//! ```
//!
//! A process is killed between two of its instructions, and what it has stored before is there. So a store to one word is
//! always whole. Whatever takes several, like a message that leaves one place and comes to another, is done in a
//! [`Section`]: its stores are noted in a list that belongs to the thread, and one store to the list's first word decides them
//! all. Whoever finds a list that is decided carries it out again. So there is nothing that was done by half.
//!
//! Threads can be killed at different moments. So *what one thread has done must be decided before another thread can see
//! it*, that is, before the lock is released that guards it.

#![allow(unsafe_code)]

mod map;
mod runs;
mod section;
mod slabs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use map::Map;
pub use section::Section;
use slabs::{SLAB, Slabs};

/// There is no memory for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state memory is full")]
pub struct Full;

/// Most words of a record that can be changed.
pub const MOST_WORDS: usize = 64;

/// What the file begins with.
const MAGIC: u64 = u64::from_le_bytes(*b"ipcfsmem");
/// Of the layout of this file; what records mean has a version of its own.
const LAYOUT: u64 = 1;
/// Offsets in the file's head.
const MAGIC_AT: u64 = 0;
const LAYOUT_AT: u64 = 8;
const LENGTH_AT: u64 = 16;
/// Not 0: something is missing.
const GIVEN_UP_AT: u64 = 32;

/// The kind of a list of stores.
const LIST: u8 = u8::MAX;
/// Stores in a thread's list, and in the one that serves for longer sections.
const SHORT: usize = 63;
const LONG: usize = 4095;

/// A memory file and the records in it. It lives as long as the process, so that records can be anywhere.
pub struct StateMemory {
    map: Map,
    slabs: Slabs,
    /// A list for sections that are longer than most.
    long: Mutex<u64>,
}

/// A record. It ends when this is dropped.
pub struct Slot {
    memory: &'static StateMemory,
    at: u64,
}

/// The first word of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct First {
    kind: u8,
    words: u8,
    bytes: u64,
}

const BYTES_BITS: u32 = 48;

impl First {
    fn encode(self) -> u64 {
        u64::from(self.kind) << 56 | u64::from(self.words) << BYTES_BITS | self.bytes
    }

    /// Bytes of the record.
    fn size(self) -> u64 {
        8 + 8 * u64::from(self.words) + self.bytes
    }
}

fn decode(first: u64) -> First {
    First {
        kind: (first >> 56) as u8,
        words: (first >> BYTES_BITS) as u8,
        bytes: first & ((1 << BYTES_BITS) - 1),
    }
}

impl fmt::Debug for StateMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateMemory").field("length", &self.map.length()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({:#x})", self.at)
    }
}

impl StateMemory {
    /// New memory, for `length` bytes of records and what they need beside.
    ///
    /// # Errors
    /// Those of the system calls that make a memory file.
    pub fn new(length: u64) -> io::Result<&'static StateMemory> {
        let length = length.checked_next_multiple_of(SLAB).ok_or(io::ErrorKind::InvalidInput)?;
        // The table has 8 bytes for each slab, and two slabs more are for lists.
        let map = Map::new(length + length / SLAB * 8 / SLAB * SLAB + 6 * SLAB)?;
        map.word(LENGTH_AT).store(map.length(), Ordering::Relaxed);
        map.word(LAYOUT_AT).store(LAYOUT, Ordering::Relaxed);
        map.word(MAGIC_AT).store(MAGIC, Ordering::Release);
        StateMemory::with(Slabs::new(&map), map)
    }

    /// The memory of a process that is gone, and its records, in no order.
    ///
    /// # Errors
    /// `WouldBlock` if the process still has it; `InvalidData` if the file is none of this program's, or of another version; `Other`
    /// if something [is missing](StateMemory::give_up).
    pub fn take_over(file: OwnedFd) -> io::Result<(&'static StateMemory, Vec<Slot>)> {
        let map = Map::of_file(file)?;
        let other = || io::Error::new(io::ErrorKind::InvalidData, "the state memory is of another version");
        if map.length() < 2 * SLAB || map.word(MAGIC_AT).load(Ordering::Acquire) != MAGIC {
            return Err(other());
        }
        if [LAYOUT_AT, LENGTH_AT].map(|at| map.word(at).load(Ordering::Relaxed)) != [LAYOUT, map.length()] {
            return Err(other());
        }
        if map.word(GIVEN_UP_AT).load(Ordering::Acquire) != 0 {
            return Err(io::Error::other("there was no memory for all that had to be kept"));
        }
        let slabs = Slabs::new(&map);
        // Before anything is made of the file: a list may tell of records that are not valid yet.
        let mut lists = Vec::new();
        slabs.look(&map, section::list_bytes(SHORT), |at| lists.push(at));
        for list in lists.into_iter().filter(|at| kind(&map, *at) == LIST) {
            section::carry_out_again(&map, list)?;
            map.word(list).store(0, Ordering::Release);
        }
        let mut places = Vec::new();
        slabs.recover(&map, |at| places.push(at))?;
        let memory = StateMemory::with(slabs, map)?;
        Ok((memory, places.into_iter().map(|at| Slot { memory, at }).collect()))
    }

    fn with(slabs: Slabs, map: Map) -> io::Result<&'static StateMemory> {
        let long = new_list(&map, &slabs, LONG).map_err(|Full| io::ErrorKind::OutOfMemory)?;
        Ok(Box::leak(Box::new(StateMemory { map, slabs, long: Mutex::new(long) })))
    }

    /// The file, for whoever keeps it.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.map.file()
    }

    /// As if this process was gone, so that it can be taken over in the same one. All records that were not dropped must be
    /// forgotten.
    #[cfg(test)]
    pub(crate) fn let_go(&self) {
        section::forget();
        // SAFETY: whoever tests sees to it.
        unsafe { self.map.end() };
    }

    /// Bytes that records take, with what is free between them.
    pub fn used(&self) -> u64 {
        self.slabs.used(&self.map)
    }

    /// Makes a record. It is valid at once or, in a [`Section`], when that is decided.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn record(&'static self, kind: u8, words: &[u64], parts: &[&[u8]]) -> Result<Slot, Full> {
        debug_assert!(kind != 0 && kind != LIST && words.len() <= MOST_WORDS);
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let first = First { kind, words: words.len() as u8, bytes };
        let at = self.slabs.take(&self.map, first.size())?;
        let mut to = at + 8;
        for word in words {
            self.map.word(to).store(*word, Ordering::Relaxed);
            to += 8;
        }
        for part in parts {
            // SAFETY: the place was free and is this record's now, of which nobody knows yet.
            unsafe { self.map.write(to, part) };
            to += part.len() as u64;
        }
        self.store(at, first.encode());
        Ok(Slot { memory: self, at })
    }

    /// The same where a record cannot be done without. If there is no memory for it, what this memory has is good for nothing any
    /// more, and whoever would take it over is told so.
    pub fn record_or_give_up(&'static self, kind: u8, words: &[u64], parts: &[&[u8]]) -> Option<Slot> {
        self.record(kind, words, parts).inspect_err(|Full| self.give_up()).ok()
    }

    /// Something could not be recorded.
    pub fn give_up(&self) {
        self.map.word(GIVEN_UP_AT).store(1, Ordering::Release);
    }

    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.map.word(GIVEN_UP_AT).load(Ordering::Acquire) == 0
    }

    /// Stores a word now or, in a section, when that is decided.
    fn store(&'static self, at: u64, value: u64) {
        if !section::note_store(self, at, value) {
            self.map.word(at).store(value, Ordering::Release);
        }
    }
}

impl Slot {
    fn first(&self) -> First {
        decode(self.memory.map.word(self.at).load(Ordering::Relaxed))
    }

    /// What kind of record it is. 0: it is not valid yet.
    pub fn kind(&self) -> u8 {
        self.first().kind
    }

    /// Its words, as they are decided.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        let places = (0..self.first().words).map(|number| self.at + 8 + 8 * u64::from(number));
        places.map(|at| self.memory.map.word(at).load(Ordering::Relaxed))
    }

    /// One of them; 0 if there is no such.
    pub fn word(&self, number: usize) -> u64 {
        self.words().nth(number).unwrap_or_default()
    }

    /// Changes one of its words, now or, in a [`Section`], when that is decided. It must be one of those that it was made with.
    pub fn set_word(&self, number: usize, value: u64) {
        debug_assert!(number < MOST_WORDS);
        self.memory.store(self.at + 8 + 8 * number as u64, value);
    }

    /// Its bytes. None as long as it is not valid.
    pub fn bytes(&self) -> &[u8] {
        let First { words, bytes, .. } = self.first();
        // SAFETY: bytes of a record are written before there is a `Slot` of it. They are used otherwise after it is dropped.
        unsafe { self.memory.map.bytes(self.at + 8 + 8 * u64::from(words), bytes as usize) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !section::note_end(self.memory, self.at) {
            self.memory.map.word(self.at).store(0, Ordering::Release);
            self.memory.slabs.give(&self.memory.map, self.at);
        }
    }
}

fn kind(map: &Map, at: u64) -> u8 {
    decode(map.word(at).load(Ordering::Relaxed)).kind
}

/// A list for so many stores, with none in it.
fn new_list(map: &Map, slabs: &Slabs, stores: usize) -> Result<u64, Full> {
    let first = First { kind: LIST, words: 0, bytes: section::list_bytes(stores) };
    let at = slabs.take(map, first.size())?;
    map.word(at + 8).store(0, Ordering::Relaxed);
    map.word(at).store(first.encode(), Ordering::Release);
    Ok(at)
}
