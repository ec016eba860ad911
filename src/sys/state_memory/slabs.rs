//! Which places are taken: slots of one size in each slab, and runs of slabs for what is longer.
//!
//! ```text
//! file   head | table: a word for each slab | slabs of 64 KiB
//! slab   head | slots of one size           or, with those after it, one long slot
//! ```
//!
//! What must survive is the table and the first word of each slot, which is 0 if the slot is free. The rest, which slots come next,
//! is in free slots and in the heads of slabs, so that it takes no memory of its own; and it is made again from those words.

use std::io;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::map::Map;
use super::runs::Runs;
use super::{Full, decode};

/// Bytes of a slab.
pub(super) const SLAB: u64 = 64 << 10;

/// Bytes of a slab's head: how many slots are taken, how many were ever taken, the first free one of those, and its place among the
/// slabs of its size that have free slots.
const HEAD: u64 = 64;
const TAKEN: u64 = 0;
const EVER_TAKEN: u64 = 8;
const FIRST_FREE: u64 = 16;
const PLACE: u64 = 24;

/// In a free slot: the next free one, after the word that says so.
const NEXT_FREE: u64 = 8;

/// Sizes of slots, so that at most a third of one is wasted. The longest are such that nothing of a slab is.
const SIZES: [u64; 20] = [
    64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8184, 10912, 13088, 16368,
    21824, 32736,
];

/// In the table: the number of the size and 1; or this, and of how many slabs the long slot is that begins here.
const LONG: u64 = 1 << 32;

/// In the head of the file: how many slabs were ever taken.
const EVER: u64 = 24;
/// Where the table begins.
const TABLE: u64 = 4096;
const PAGE: u64 = 4096;

/// The places of a file.
#[derive(Debug)]
pub(super) struct Slabs {
    /// For each size, the slabs that have free slots.
    open: [Mutex<Vec<u64>>; SIZES.len()],
    free: Mutex<Runs>,
    /// Number of the first slab that is not the table's, and of the one after the last.
    first: u64,
    end: u64,
}

impl Slabs {
    /// The places of a file in which all are free, or are [taken](Slabs::recover) already.
    pub(super) fn new(map: &Map) -> Slabs {
        let end = map.length() / SLAB;
        Slabs {
            open: Default::default(),
            free: Mutex::default(),
            first: (TABLE + end * 8).div_ceil(SLAB),
            end,
        }
    }

    /// A free place for `size` bytes, whose first word is 0. It is free until that word is something else.
    pub(super) fn take(&self, map: &Map, size: u64) -> Result<u64, Full> {
        let number = SIZES.partition_point(|fits| *fits < size);
        let Some((open, size)) = self.open.get(number).zip(SIZES.get(number)) else {
            return self.take_long(map, size);
        };
        loop {
            if let Some(at) = take_slot(map, &mut open.lock(), *size) {
                return Ok(at);
            }
            let slab = self.take_slabs(map, 1, SLAB)? * SLAB;
            map.word(entry(slab)).store(number as u64 + 1, Ordering::Release);
            push(map, &mut open.lock(), slab);
        }
    }

    /// A place whose first word is 0 again is free.
    pub(super) fn give(&self, map: &Map, at: u64) {
        let slab = at / SLAB * SLAB;
        let table = map.word(entry(slab)).load(Ordering::Relaxed);
        if table & LONG != 0 {
            return self.give_slabs(map, slab, table & !LONG);
        }
        let number = (table as usize).wrapping_sub(1);
        let Some((open, size)) = self.open.get(number).zip(SIZES.get(number)) else { return };
        let mut open = open.lock();
        let first = map.word(slab + FIRST_FREE);
        map.word(at + NEXT_FREE).store(first.load(Ordering::Relaxed), Ordering::Relaxed);
        first.store(at - slab, Ordering::Relaxed);
        let taken = map.word(slab + TAKEN).fetch_sub(1, Ordering::Relaxed);
        if taken == slots(*size) {
            push(map, &mut open, slab);
        } else if taken == 1 && open.len() > 1 {
            // There is another one with free slots.
            remove(map, &mut open, slab);
            drop(open);
            self.give_slabs(map, slab, 1);
        }
    }

    /// Bytes of slabs that are taken.
    pub(super) fn used(&self, map: &Map) -> u64 {
        let mut used = 0;
        let mut slab = self.first;
        let ever = self.first + map.word(EVER).load(Ordering::Relaxed);
        while slab < ever {
            let table = map.word(entry(slab * SLAB)).load(Ordering::Relaxed);
            let count = if table & LONG == 0 { 1 } else { table & !LONG };
            used += if table == 0 { 0 } else { count * SLAB };
            slab += count.max(1);
        }
        used
    }

    /// Calls `found` with each place whose first word is not 0, of slots that have at least `size` bytes. Changes nothing.
    pub(super) fn look(&self, map: &Map, size: u64, mut found: impl FnMut(u64)) {
        let ever = map.word(EVER).load(Ordering::Acquire);
        let end = self.first.saturating_add(ever).min(self.end);
        let mut slab = self.first;
        while slab < end {
            let at = slab * SLAB;
            let table = map.word(entry(at)).load(Ordering::Acquire);
            let (each, count) = match SIZES.get((table as usize).wrapping_sub(1)) {
                Some(each) => (*each, slots(*each)),
                None => (SLAB, u64::from(table & LONG != 0)),
            };
            for number in (0..count).filter(|_| each >= size) {
                let place = at + HEAD + number * each;
                if map.word(place).load(Ordering::Acquire) != 0 {
                    found(place);
                }
            }
            slab += if table & LONG == 0 { 1 } else { (table & !LONG).max(1) };
        }
    }

    /// Makes again what is not kept, from what is. Calls `found` with each place whose first word is not 0.
    ///
    /// # Errors
    /// If the file is not what this program makes.
    pub(super) fn recover(&self, map: &Map, mut found: impl FnMut(u64)) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the state memory is damaged");
        let ever = map.word(EVER).load(Ordering::Acquire);
        let end = self.first.checked_add(ever).filter(|end| *end <= self.end).ok_or_else(damaged)?;
        let mut slab = self.first;
        while slab < end {
            let at = slab * SLAB;
            let table = map.word(entry(at)).load(Ordering::Acquire);
            let mut count = 1;
            if table == 0 {
                // Its pages may have been taken a moment ago.
                self.give_slabs(map, at, 1);
            } else if table & LONG != 0 {
                count = table & !LONG;
                if count == 0 || slab + count > end {
                    return Err(damaged());
                }
                let first = map.word(at + HEAD).load(Ordering::Acquire);
                if first == 0 {
                    self.give_slabs(map, at, count);
                } else if decode(first).size() > count * SLAB - HEAD {
                    return Err(damaged());
                } else {
                    found(at + HEAD);
                }
            } else {
                let number = (table as usize).wrapping_sub(1);
                let (open, size) = self.open.get(number).zip(SIZES.get(number)).ok_or_else(damaged)?;
                match recover_slab(map, at, *size, &mut found).ok_or_else(damaged)? {
                    0 => self.give_slabs(map, at, 1),
                    taken if taken < slots(*size) => push(map, &mut open.lock(), at),
                    _ => {}
                }
            }
            slab += count;
        }
        Ok(())
    }

    fn take_long(&self, map: &Map, size: u64) -> Result<u64, Full> {
        let size = size.checked_add(HEAD).ok_or(Full)?;
        let count = size.div_ceil(SLAB);
        let slab = self.take_slabs(map, count, size.next_multiple_of(PAGE))? * SLAB;
        map.word(entry(slab)).store(LONG | count, Ordering::Release);
        Ok(slab + HEAD)
    }

    /// Takes neighbouring slabs, with memory for the first `bytes`. Returns the number of the first.
    fn take_slabs(&self, map: &Map, count: u64, bytes: u64) -> Result<u64, Full> {
        let first = {
            let mut free = self.free.lock();
            if let Some(first) = free.take(count) {
                first
            } else {
                let ever = map.word(EVER);
                let first = self.first + ever.load(Ordering::Relaxed);
                if first.checked_add(count).is_none_or(|end| end > self.end) {
                    return Err(Full);
                }
                // Before the table says that it is taken, or it would not be found there.
                ever.fetch_add(count, Ordering::Release);
                first
            }
        };
        let allocated = map.allocate(first * SLAB, bytes).is_ok();
        // The table is nobody's memory but this.
        if !allocated || map.allocate(entry(first * SLAB) / PAGE * PAGE, PAGE).is_err() {
            self.free.lock().give(first, count);
            return Err(Full);
        }
        Ok(first)
    }

    /// Gives back slabs that are nobody's.
    fn give_slabs(&self, map: &Map, slab: u64, count: u64) {
        // First: in a free slab all words are 0, whatever size its slots will have.
        // SAFETY: nobody has a place in these slabs, and their number is on no list.
        unsafe { map.discard(slab, count * SLAB) };
        map.word(entry(slab)).store(0, Ordering::Release);
        self.free.lock().give(slab / SLAB, count);
    }
}

/// Offset of a slab's word in the table.
fn entry(slab: u64) -> u64 {
    TABLE + slab / SLAB * 8
}

/// Number of slots of a size in a slab.
fn slots(size: u64) -> u64 {
    (SLAB - HEAD) / size
}

fn take_slot(map: &Map, open: &mut Vec<u64>, size: u64) -> Option<u64> {
    let slab = *open.last()?;
    let first = map.word(slab + FIRST_FREE);
    let at = match first.load(Ordering::Relaxed) {
        0 => slab + HEAD + map.word(slab + EVER_TAKEN).fetch_add(1, Ordering::Relaxed) * size,
        free => {
            first.store(map.word(slab + free + NEXT_FREE).load(Ordering::Relaxed), Ordering::Relaxed);
            slab + free
        }
    };
    if map.word(slab + TAKEN).fetch_add(1, Ordering::Relaxed) + 1 == slots(size) {
        open.pop();
    }
    Some(at)
}

fn push(map: &Map, open: &mut Vec<u64>, slab: u64) {
    map.word(slab + PLACE).store(open.len() as u64, Ordering::Relaxed);
    open.push(slab);
}

fn remove(map: &Map, open: &mut Vec<u64>, slab: u64) {
    let place = map.word(slab + PLACE).load(Ordering::Relaxed);
    open.swap_remove(place as usize);
    if let Some(moved) = open.get(place as usize) {
        map.word(moved + PLACE).store(place, Ordering::Relaxed);
    }
}

/// Returns how many of its slots are taken. `None`: they are not what this program makes.
fn recover_slab(map: &Map, slab: u64, size: u64, found: &mut impl FnMut(u64)) -> Option<u64> {
    let place = |number: u64| slab + HEAD + number * size;
    let (mut taken, mut ever) = (0, 0);
    for number in 0..slots(size) {
        let first = map.word(place(number)).load(Ordering::Acquire);
        if first != 0 {
            if decode(first).size() > size {
                return None;
            }
            found(place(number));
            (taken, ever) = (taken + 1, number + 1);
        }
    }
    let mut free = 0;
    for at in (0..ever).rev().map(place) {
        if map.word(at).load(Ordering::Relaxed) == 0 {
            map.word(at + NEXT_FREE).store(free, Ordering::Relaxed);
            free = at - slab;
        }
    }
    for (word, value) in [(TAKEN, taken), (EVER_TAKEN, ever), (FIRST_FREE, free)] {
        map.word(slab + word).store(value, Ordering::Relaxed);
    }
    Some(taken)
}
