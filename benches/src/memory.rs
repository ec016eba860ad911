//! Memory that is a file's: the one thing here that takes `unsafe`.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapMut, MmapOptions};

/// Maps the beginning of a file that nobody makes shorter while it is mapped: all files here are made by a case, for it
/// alone, and removed at its end.
pub fn map(file: &File, length: usize) -> io::Result<MmapMut> {
    // SAFETY: see above; and other mappings of the same bytes are used in turns, as `word` says whose turn it is.
    unsafe { MmapOptions::new().len(length).map_mut(file) }
}

/// The first word, which more than one thread may change.
pub fn word(map: &mut MmapMut) -> &AtomicU32 {
    // SAFETY: the page is mapped as long as the reference lives, aligned, and this word is only used as an atomic.
    unsafe { AtomicU32::from_ptr(map.as_mut_ptr().cast()) }
}
