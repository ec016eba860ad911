//! What is decided together.
//!
//! ```text
//! list   number of stores, 0 unless they are decided │ place, value │ place, value │ …
//! ```
//!
//! A record that is made, changed or ended is a store to one word each: its first word, or one of its others. So all of it is one
//! list of words and what they become.

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::Ordering;

use super::map::Map;
use super::{Full, LIST, LONG, SHORT, StateMemory, decode, new_list};

/// From here on, until it is dropped, what the calling thread records is decided together. In another one it means nothing.
#[must_use = "it ends when it is dropped"]
#[derive(Debug)]
pub struct Section {
    memory: &'static StateMemory,
    /// It is the thread's.
    own: PhantomData<*const ()>,
}

/// The section that a thread is in.
struct Current {
    depth: u32,
    memory: Option<&'static StateMemory>,
    /// The thread's list in that memory. Kept for its next section.
    list: Option<u64>,
    stores: Vec<(u64, u64)>,
    /// Records that end.
    ended: Vec<u64>,
}

thread_local! {
    static CURRENT: RefCell<Current> = const {
        RefCell::new(Current { depth: 0, memory: None, list: None, stores: Vec::new(), ended: Vec::new() })
    };
}

impl StateMemory {
    /// Begins a section.
    pub fn section(&'static self) -> Section {
        CURRENT.with_borrow_mut(|current| current.begin(self));
        Section { memory: self, own: PhantomData }
    }
}

impl Section {
    /// Nothing was recorded since it began, or since something was last decided.
    pub fn is_empty(&self) -> bool {
        CURRENT.with_borrow(|current| current.stores.is_empty())
    }

    /// Decides what was recorded so far.
    pub fn decide(&self) {
        CURRENT.with_borrow_mut(|current| current.decide(self.memory));
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|current| {
            current.depth -= 1;
            if current.depth == 0 {
                current.decide(self.memory);
            }
        });
    }
}

/// False if the thread is in no section of this memory.
pub(super) fn note_store(memory: &'static StateMemory, at: u64, value: u64) -> bool {
    let note = |current: &RefCell<Current>| {
        let mut current = current.borrow_mut();
        let is_of = current.is_of(memory);
        if is_of {
            current.stores.push((at, value));
        }
        is_of
    };
    // A thread that ends is in no section.
    CURRENT.try_with(note).unwrap_or(false)
}

/// The record at `at` ends. False if the thread is in no section of this memory.
pub(super) fn note_end(memory: &'static StateMemory, at: u64) -> bool {
    let noted = note_store(memory, at, 0);
    if noted {
        CURRENT.with_borrow_mut(|current| current.ended.push(at));
    }
    noted
}

impl Current {
    fn is_of(&self, memory: &'static StateMemory) -> bool {
        self.depth > 0 && self.memory.is_some_and(|own| ptr::eq(own, memory))
    }

    fn begin(&mut self, memory: &'static StateMemory) {
        self.depth += 1;
        if self.memory.is_some_and(|own| ptr::eq(own, memory)) {
            return;
        }
        debug_assert!(self.depth == 1, "a thread is in a section of one memory only");
        self.end_list();
        self.memory = Some(memory);
        // Without one, the long list serves.
        self.list = new_list(&memory.map, &memory.slabs, SHORT).ok();
    }

    fn decide(&mut self, memory: &'static StateMemory) {
        match (self.stores.as_slice(), self.list) {
            ([], _) => return,
            ([(at, value)], _) => memory.map.word(*at).store(*value, Ordering::Release),
            (stores, Some(list)) if stores.len() <= SHORT => decide(&memory.map, list, stores),
            (stores, _) => {
                let list = memory.long.lock();
                // More is not decided together; nothing that the tree does at once is so long.
                stores.chunks(LONG).for_each(|stores| decide(&memory.map, *list, stores));
            }
        }
        self.stores.clear();
        for at in self.ended.drain(..) {
            memory.slabs.give(&memory.map, at);
        }
        if self.stores.capacity() > 4 * SHORT {
            (self.stores, self.ended) = (Vec::new(), Vec::new());
        }
    }

    fn end_list(&mut self) {
        if let Some((memory, list)) = self.memory.take().zip(self.list.take()) {
            memory.map.word(list).store(0, Ordering::Release);
            memory.slabs.give(&memory.map, list);
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        self.end_list();
    }
}

/// Bytes of a list.
pub(super) fn list_bytes(stores: usize) -> u64 {
    8 + 16 * stores as u64
}

fn decide(map: &Map, list: u64, stores: &[(u64, u64)]) {
    let mut to = list + 16;
    for (at, value) in stores {
        map.word(to).store(*at, Ordering::Relaxed);
        map.word(to + 8).store(*value, Ordering::Relaxed);
        to += 16;
    }
    // After all that it decides, and before anything of it is done.
    map.word(list + 8).store(stores.len() as u64, Ordering::Release);
    for (at, value) in stores {
        pause();
        map.word(*at).store(*value, Ordering::Release);
    }
    pause();
    map.word(list + 8).store(0, Ordering::Release);
}

/// Where a process is killed most often, in the test that kills it.
#[inline]
fn pause() {
    #[cfg(test)]
    if PAUSES.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
}

#[cfg(test)]
pub(super) static PAUSES: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Does once more what a list has decided, if that was not done.
pub(super) fn carry_out_again(map: &Map, list: u64) -> io::Result<()> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the state memory is damaged");
    let first = decode(map.word(list).load(Ordering::Acquire));
    let stores = map.word(list + 8).load(Ordering::Acquire);
    if first.kind != LIST || 8 + stores.saturating_mul(16) > first.bytes {
        return Err(damaged());
    }
    for number in 0..stores {
        let entry = list + 16 + 16 * number;
        let [at, value] = [entry, entry + 8].map(|at| map.word(at).load(Ordering::Relaxed));
        if at % 8 != 0 || at.checked_add(8).is_none_or(|end| end > map.length()) {
            return Err(damaged());
        }
        map.word(at).store(value, Ordering::Release);
    }
    map.word(list + 8).store(0, Ordering::Release);
    Ok(())
}

impl From<Full> for io::Error {
    fn from(full: Full) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, full)
    }
}

/// The calling thread's section ends as if the process was killed.
#[cfg(test)]
pub(super) fn forget() {
    CURRENT.with_borrow_mut(|current| {
        *current = Current { depth: 0, memory: None, list: None, stores: Vec::new(), ended: Vec::new() };
    });
}
