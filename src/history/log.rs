//! The files of a history, and what is in them.
//!
//! ```text
//! head    magic, layout, generation (0: it is not valid), where the calls begin and end, whether something is missing
//! state   of the tree, when the generation began
//! kept    the numbers of the memories of its segments
//! calls   call, what memory answered to it …, what it decided │ call, …
//! ```
//!
//! The generations take turns in two files. The older one stays until all is performed that its calls have decided.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::history_file::HistoryFile;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call of the tree.
    Call,
    /// What the memory of a segment answered, or the kernel's table of backing files.
    Result,
    /// The call is done. A checksum of what it decided.
    Done,
}

const MAGIC: u64 = u64::from_le_bytes(*b"ipcfs-hi");
/// Of the layout of the files and of the calls.
const LAYOUT: u64 = 1;

const MAGIC_AT: u64 = 0;
const LAYOUT_AT: u64 = 8;
const GENERATION_AT: u64 = 16;
const BEGIN_AT: u64 = 24;
const END_AT: u64 = 32;
const MISSING_AT: u64 = 40;
const STATE_LENGTH_AT: u64 = 48;
const KEPT_COUNT_AT: u64 = 56;
const STATE_AT: u64 = 64;

/// Bytes of memory that are taken at once.
const CHUNK: u64 = 256 << 10;
/// Bytes of calls after which a new generation begins, unless the state is longer.
const SHORTEST: u64 = 8 << 20;
/// Bytes of a file whose memory is kept for the next generation.
const KEPT: u64 = 2 * SHORTEST;

/// Both files.
#[derive(Debug)]
pub(super) struct Log {
    files: [Option<File>; 2],
    /// Which of them the present generation is in.
    current: usize,
    generation: u64,
}

#[derive(Debug)]
struct File {
    bytes: HistoryFile,
    end: u64,
    /// Up to here there is memory.
    allocated: u64,
    /// Up to here the calls may go before a new generation begins.
    limit: u64,
}

/// There is no more memory for the history.
#[derive(Debug, thiserror::Error)]
#[error("there is no memory for its history: {0}")]
pub(super) struct Full(io::Error);

impl File {
    fn new(bytes: HistoryFile) -> File {
        File { bytes, end: 0, allocated: 0, limit: 0 }
    }

    fn reserve(&mut self, end: u64) -> Result<(), Full> {
        if end > self.allocated {
            let more = (end - self.allocated).next_multiple_of(CHUNK);
            if self.allocated.saturating_add(more) > self.bytes.length() {
                return Err(Full(io::ErrorKind::OutOfMemory.into()));
            }
            self.bytes.allocate(self.allocated, more).map_err(Full)?;
            self.allocated += more;
        }
        Ok(())
    }

    fn append(&mut self, parts: &[&[u8]]) -> Result<(), Full> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.reserve(self.end + length as u64)?;
        for part in parts {
            self.bytes.write(self.end, part);
            self.end += part.len() as u64;
        }
        Ok(())
    }

    fn is_valid(&self) -> bool {
        self.bytes.word(GENERATION_AT) != 0
    }
}

/// Takes the state of a tree in.
struct Sink<'a>(&'a mut File);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(&[bytes]).map_err(|Full(error)| error)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Two new files for up to `length` bytes.
    pub(super) fn new(length: u64) -> io::Result<Log> {
        let make = || HistoryFile::new(length).map(File::new).map(Some);
        Ok(Log { files: [make()?, make()?], current: 1, generation: 0 })
    }

    /// The files that another process has left.
    pub(super) fn of_files(files: [OwnedFd; 2]) -> io::Result<Log> {
        let mut log = Log { files: [None, None], current: 0, generation: 0 };
        for (number, file) in files.into_iter().enumerate() {
            let mut file = File::new(HistoryFile::of_file(file)?);
            let generation = if file.bytes.length() > STATE_AT { file.bytes.word(GENERATION_AT) } else { 0 };
            if generation != 0 {
                let [magic, layout, end] = [MAGIC_AT, LAYOUT_AT, END_AT].map(|at| file.bytes.word(at));
                if (magic, layout) != (MAGIC, LAYOUT) {
                    return Err(damaged("it is of another version"));
                }
                if end > file.bytes.length() {
                    return Err(damaged("it is damaged"));
                }
                if file.bytes.word(MISSING_AT) != 0 {
                    return Err(io::Error::other("there was no memory for all of it"));
                }
                file.end = end;
                file.limit = end.max(SHORTEST);
                if generation > log.generation {
                    (log.generation, log.current) = (generation, number);
                }
            }
            file.allocated = file.end;
            if let Some(place) = log.files.get_mut(number) {
                *place = Some(file);
            }
        }
        if log.generation == 0 { Err(damaged("there is none")) } else { Ok(log) }
    }

    /// For whoever keeps them.
    pub(super) fn files(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        self.files.iter().flatten().map(|file| file.bytes.file())
    }

    fn file(&self, number: usize) -> Option<&File> {
        self.files.get(number)?.as_ref()
    }

    fn current(&mut self) -> Option<&mut File> {
        self.files.get_mut(self.current)?.as_mut()
    }

    /// Whether the present generation is in the second file.
    pub(super) fn parity(&self) -> usize {
        self.current
    }

    /// The generations that are there, the older one first, as numbers of files.
    pub(super) fn generations(&self) -> Vec<usize> {
        let valid = |number: &usize| self.file(*number).is_some_and(File::is_valid);
        [1 - self.current, self.current].into_iter().filter(valid).collect()
    }

    /// The older generation is still there.
    pub(super) fn has_older(&self) -> bool {
        self.file(1 - self.current).is_some_and(File::is_valid)
    }

    /// The older generation is not needed any more.
    pub(super) fn drop_older(&mut self) {
        if let Some(Some(file)) = self.files.get_mut(1 - self.current) {
            file.bytes.set_word(GENERATION_AT, 0);
            if file.allocated > KEPT {
                file.bytes.discard(KEPT, file.allocated - KEPT);
                file.allocated = KEPT;
            }
        }
    }

    /// The calls are so many that a new generation is to begin, and there is room for it.
    pub(super) fn is_long(&self) -> bool {
        self.file(self.current).is_some_and(|file| file.end >= file.limit) && !self.has_older()
    }

    /// Begins a generation: `save` writes the state, and returns the numbers of the memories. Until this returns without an error,
    /// the present one is what counts.
    pub(super) fn begin(
        &mut self,
        save: impl FnOnce(&mut dyn io::Write) -> io::Result<Vec<u64>>,
    ) -> io::Result<()> {
        let next = 1 - self.current;
        let Some(Some(file)) = self.files.get_mut(next) else { return Err(io::ErrorKind::NotFound.into()) };
        file.reserve(STATE_AT).map_err(|Full(error)| error)?;
        file.bytes.set_word(GENERATION_AT, 0);
        file.end = STATE_AT;
        let kept = save(&mut Sink(file))?;
        let length = file.end - STATE_AT;
        for number in &kept {
            file.append(&[&number.to_le_bytes()]).map_err(|Full(error)| error)?;
        }
        file.end = file.end.next_multiple_of(8);
        file.limit = file.end + length.max(SHORTEST);
        let words = [
            (MAGIC_AT, MAGIC),
            (LAYOUT_AT, LAYOUT),
            (BEGIN_AT, file.end),
            (END_AT, file.end),
            (MISSING_AT, 0),
            (STATE_LENGTH_AT, length),
            (KEPT_COUNT_AT, kept.len() as u64),
            // The last one makes it valid.
            (GENERATION_AT, self.generation + 1),
        ];
        for (at, word) in words {
            file.bytes.set_word(at, word);
        }
        self.generation += 1;
        self.current = next;
        Ok(())
    }

    /// The state with which a generation begins, and the numbers of the memories.
    pub(super) fn state(&self, number: usize) -> Option<(&[u8], Vec<u64>)> {
        let file = &self.file(number)?.bytes;
        let (length, count) = (file.word(STATE_LENGTH_AT), file.word(KEPT_COUNT_AT));
        let end = STATE_AT.checked_add(length)?.checked_add(count.checked_mul(8)?)?;
        if end > file.length() {
            return None;
        }
        let numbers = file.bytes(STATE_AT + length, count * 8).chunks_exact(8);
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        Some((file.bytes(STATE_AT, length), numbers.filter_map(number).collect()))
    }

    /// Where the first entry of a generation is.
    pub(super) fn first(&self, number: usize) -> u64 {
        self.file(number).map_or(0, |file| file.bytes.word(BEGIN_AT))
    }

    /// The entry at a place, and where the next one is. `None`: there are no more, or it is damaged.
    pub(super) fn entry(&self, number: usize, at: u64) -> Option<(Kind, &[u8], u64)> {
        let file = self.file(number)?;
        if !at.is_multiple_of(8) || at.checked_add(8)? > file.end {
            return None;
        }
        let head = file.bytes.word(at);
        let kind = match head >> 56 {
            0 => Kind::Call,
            1 => Kind::Result,
            2 => Kind::Done,
            _ => return None,
        };
        let length = head & u64::from(u32::MAX);
        let end = (at + 8).checked_add(length)?;
        (end <= file.end).then(|| (kind, file.bytes.bytes(at + 8, length), end.next_multiple_of(8)))
    }

    /// Adds an entry.
    pub(super) fn append(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<(), Full> {
        let Some(file) = self.current() else { return Ok(()) };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let kind = match kind {
            Kind::Call => 0,
            Kind::Result => 1,
            Kind::Done => 2,
        };
        file.reserve(file.end + 16 + length as u64)?;
        file.bytes.set_word(file.end, kind << 56 | length as u64);
        let mut at = file.end + 8;
        for part in parts {
            file.bytes.write(at, part);
            at += part.len() as u64;
        }
        file.end = at.next_multiple_of(8);
        file.bytes.set_word(END_AT, file.end);
        Ok(())
    }

    /// From now on something is missing, and nobody can take over by it.
    pub(super) fn give_up(&mut self) {
        for file in self.files.iter_mut().flatten() {
            file.bytes.set_word(MISSING_AT, 1);
            file.bytes.discard(STATE_AT.next_multiple_of(4096), file.allocated);
        }
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}
