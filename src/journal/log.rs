//! The files of the journal: written at the end, dropped at the beginning, and what is still in use is written again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use log::{info, warn};

use super::disk::{Disk, DiskFile};
use super::frame::{self, BadHeader, Frames, HEADER, Header, Seal};
use super::index::{Index, KeptKey, Place, Survivor};
use super::record::{Message, Object, Record};
use crate::op::{FileTime, Ino};

/// Bytes of a file. A longer record gets a file of its own size. Tests see more files.
pub(super) const FILE_SIZE: u64 = if cfg!(test) { 4 << 10 } else { 16 << 20 };
/// Files may take twice what is in use, and this much more.
const SLACK: u64 = 4 * FILE_SIZE;
/// Most bytes that are written again in one step.
const STEP: u64 = FILE_SIZE / 64;
/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 20;
/// More than a message's record takes beside its body, and more than each record about one takes.
const MOST_OF_MESSAGE: usize = 1 << 10;

const SUFFIX: &str = ".log";
/// Of a file in which something could not be read, once nothing that could be is in use.
const DAMAGED: &str = ".damaged";

/// The files and what they say.
#[derive(Debug)]
pub(super) struct Log {
    disk: Box<dyn Disk>,
    seed: u128,
    pub(super) index: Index,
    /// The oldest first. The last is written.
    files: VecDeque<LogFile>,
    /// Made, and not in use yet, in order of their numbers.
    spares: VecDeque<LogFile>,
    next_number: u64,
    /// Where the next frame is written, in the last file.
    offset: u64,
    /// Files that were written since they were last synchronized.
    unsynced: Vec<Arc<dyn DiskFile>>,
    /// Bytes that are encoded and not written.
    buffer: Vec<u8>,
    /// The position of the next record.
    position: u64,
    /// The position before which everything was synchronized, to be noted in the next write.
    synced: Option<u64>,
    /// What has to be written again before the oldest file can go.
    survivors: Option<(u64, Vec<(Ino, Survivor)>)>,
    damage: Damage,
}

#[derive(Debug)]
struct LogFile {
    number: u64,
    size: u64,
    file: Arc<dyn DiskFile>,
    damaged: bool,
}

/// What the files are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// To write more, after whatever has happened to them.
    Repair,
    /// To write more, after another process that did not die.
    Continue,
    Look,
}

/// What could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Records that were synchronized and are lost.
    pub lost: u64,
    /// The files in which they were.
    pub files: Vec<String>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A call failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another program, or another version of this one, has written it.
    #[error("it has format {0}, and this program knows format 1 only")]
    Version(u32),
}

fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

impl Log {
    /// Reads all files of a folder, and prepares to write more.
    pub(super) fn open(disk: Box<dyn Disk>) -> Result<Log, OpenError> {
        let (mut log, torn) = Log::load(disk, Use::Repair)?;
        log.drop_unused()?;
        log.append(&torn)?;
        Ok(log)
    }

    /// Reads all files of a folder, which stays as it is.
    pub(super) fn read(disk: Box<dyn Disk>) -> Result<Log, OpenError> {
        Ok(Log::load(disk, Use::Look)?.0)
    }

    /// Continues the log of another process, which has written all that it had to write. The folder stays as it is until something
    /// is written.
    pub(super) fn take_over(disk: Box<dyn Disk>) -> Result<Log, OpenError> {
        let (mut log, _) = Log::load(disk, Use::Continue)?;
        // What was written since it was last synchronized is in the file that is written.
        log.unsynced.extend(log.files.back().map(|last| Arc::clone(&last.file)));
        Ok(log)
    }

    fn load(disk: Box<dyn Disk>, how: Use) -> Result<(Log, Vec<Record>), OpenError> {
        let mut numbers: Vec<u64> = disk.list()?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let mut log = Log {
            disk,
            seed: random(),
            index: Index::default(),
            files: VecDeque::new(),
            spares: VecDeque::new(),
            next_number: numbers.last().map_or(1, |last| last + 1),
            offset: u64::MAX,
            unsynced: Vec::new(),
            buffer: Vec::new(),
            position: 1,
            synced: None,
            survivors: None,
            damage: Damage::default(),
        };
        let mut reading = Reading::default();
        for number in &numbers {
            let mut header = [0; HEADER];
            // A shorter file has none.
            let _ = log.disk.open(&name(*number))?.read_at(&mut header, 0);
            if let Ok(header) = Header::decode(&header) {
                log.seed = header.seal.seed;
            }
        }
        for number in numbers {
            log.open_file(number, &mut reading, how)?;
        }
        log.position = reading.next.max(1);
        let mut records = log.note_losses(reading);
        for ino in log.index.strays() {
            // Only damage loses the record of a mailbox that was promised; its messages are kept.
            let record = if log.damage.lost > 0 { recovered(ino) } else { Record::Removed(ino) };
            log.index.apply(&record, Place::default(), true);
            records.push(record);
        }
        Ok((log, records))
    }

    /// Takes in the records of a file.
    fn open_file(&mut self, number: u64, reading: &mut Reading, how: Use) -> Result<(), OpenError> {
        let file = self.disk.open(&name(number))?;
        let bytes = file.read_all()?;
        let header = match Header::decode(&bytes) {
            Err(BadHeader::Version(version)) => return Err(OpenError::Version(version)),
            Ok(header) if header.seal.file == number => Some(header),
            Ok(_) | Err(BadHeader::Damaged) => None,
        };
        let usual = Header { seal: Seal { seed: self.seed, file: number }, near: reading.next };
        let (mut any, mut begin, mut end, gaps) = (false, false, HEADER, reading.gaps.len());
        for frame in Frames::new(header.unwrap_or(usual), &bytes) {
            let place = Place { file: number, offset: frame.offset as u64, length: frame.length as u32 };
            let record = Record::decode(frame.record);
            end = frame.offset + frame.length;
            match record {
                Some(Record::Begin) => {
                    (any, begin) = (true, true);
                    reading.begin(frame.position);
                    continue;
                }
                Some(Record::Synced(before)) => {
                    reading.synced = reading.synced.max(before);
                    continue;
                }
                _ => {}
            }
            if !any && !begin {
                // What the file began with is missing, whatever it was.
                reading.gaps.push((frame.position, frame.position + 1, number));
            }
            any = true;
            reading.note(frame.position, number);
            match record {
                Some(Record::Torn { from, to }) => reading.torn.push((from, to)),
                Some(record) => self.index.apply(&record, place, true),
                // Its checksum is right, but no version of this format has it.
                None => reading.unknown.push(number),
            }
        }
        // A header is synchronized before its file is used.
        let damaged = header.is_none() && bytes.iter().any(|byte| *byte != 0);
        if damaged {
            reading.unknown.push(number);
        }
        let blank = bytes.iter().skip(end).all(|byte| *byte == 0);
        let log_file = LogFile { number, size: bytes.len() as u64, file, damaged };
        match (any, how) {
            (true, _) => {
                for spare in std::mem::take(&mut self.spares) {
                    if how == Use::Repair {
                        self.disk.remove(&name(spare.number))?;
                    }
                }
                if how == Use::Repair {
                    // It may have been written and not synchronized before the daemon died.
                    log_file.file.sync()?;
                }
                let is_whole = blank && !damaged && reading.gaps.len() == gaps;
                // Otherwise new records go to a file of their own, behind whatever a power cut has left in this one.
                self.offset = if is_whole { end as u64 } else { u64::MAX };
                self.files.push_back(log_file);
            }
            // It was made for later.
            (false, Use::Repair | Use::Continue) if header.is_some() && blank => {
                self.spares.push_back(log_file);
            }
            (false, Use::Look | Use::Continue) => {}
            (false, Use::Repair) if damaged => self.set_aside(number)?,
            (false, Use::Repair) => self.disk.remove(&name(number))?,
        }
        Ok(())
    }

    /// Records are missing. Those that had been synchronized are lost; a power cut took the others, which is noted, so that
    /// they are not missed again.
    fn note_losses(&mut self, reading: Reading) -> Vec<Record> {
        let mut torn = Vec::new();
        let mut files = reading.unknown;
        self.damage.lost = files.len() as u64;
        for (from, to, file) in reading.gaps {
            // Where it begins may have been in a file that is gone.
            if reading.torn.iter().any(|torn| torn.0 <= from && to <= torn.1) {
                continue;
            }
            let lost = to.min(reading.synced).saturating_sub(from);
            self.damage.lost += lost;
            if lost > 0 {
                files.push(file);
            } else {
                torn.push(Record::Torn { from, to });
            }
        }
        files.sort_unstable();
        files.dedup();
        for file in self.files.iter_mut().filter(|file| files.contains(&file.number)) {
            file.damaged = true;
        }
        self.damage.files = files.into_iter().map(name).collect();
        if self.damage.lost > 0 {
            warn!("the store is damaged: {} records are lost, in {:?}", self.damage.lost, self.damage.files);
        }
        torn
    }

    fn set_aside(&self, number: u64) -> io::Result<()> {
        let (from, to) = (name(number), format!("{number:016x}{DAMAGED}"));
        info!("a damaged file of the store is kept as {to}");
        self.disk.rename(&from, &to)
    }

    /// By these another process can continue it.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.disk.descriptors()
    }

    /// What could not be read.
    pub(super) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Bytes of all files.
    pub(super) fn size(&self) -> u64 {
        self.files.iter().chain(&self.spares).map(|file| file.size).sum()
    }

    /// Bytes that are certain to be there for records.
    pub(super) fn room(&self) -> u64 {
        let left = self.files.back().map_or(0, |last| last.size.saturating_sub(self.offset));
        left + self.spares.iter().map(|spare| spare.size - HEADER as u64).sum::<u64>()
    }

    /// A file is made for later.
    pub(super) fn add_spare(&mut self, size: u64) -> io::Result<()> {
        let number = self.next_number;
        let file = self.disk.create(&name(number), size)?;
        self.next_number += 1;
        let header = Header { seal: Seal { seed: self.seed, file: number }, near: self.position };
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        self.spares.push_back(LogFile { number, size, file, damaged: false });
        Ok(())
    }

    /// Whether these records are small and the file that is written has room for them: then no other has to be made.
    pub(super) fn fits(&self, records: &[Record]) -> bool {
        let size = |record: &Record| match record {
            Record::Message(message) => Some((message.body.as_bytes().len() + MOST_OF_MESSAGE) as u64),
            Record::Gone { .. } | Record::Leased { .. } | Record::Returned { .. } => {
                Some(MOST_OF_MESSAGE as u64)
            }
            _ => None,
        };
        let needed = records.iter().try_fold(MOST_OF_MESSAGE as u64, |sum, record| Some(sum + size(record)?));
        let end = self.offset.saturating_add(self.buffer.len() as u64);
        let left = self.files.back().map_or(0, |last| last.size.saturating_sub(end));
        needed.is_some_and(|needed| needed <= left && self.buffer.len() as u64 + needed < BUFFER as u64)
    }

    /// Appends records that fit. False if [`Log::append`] has to write them, because the disk is busy.
    pub(super) fn append_now(&mut self, records: &[Record]) -> io::Result<bool> {
        self.put_all(records)?;
        let Some(last) = self.files.back() else { return Ok(false) };
        let written = last.file.write_now(&self.buffer, self.offset)?;
        if written {
            self.note_written();
        }
        Ok(written)
    }

    /// Appends records. They are written when this returns.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.put_all(records)?;
        self.write()
    }

    fn put_all(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if let Some(synced) = self.synced.take() {
            self.put(&Record::Synced(synced))?;
        }
        for record in records {
            self.put(record)?;
            self.position += 1;
        }
        Ok(())
    }

    /// The position of the next record.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Everything before this position is synchronized.
    pub(super) fn note_synced(&mut self, before: u64) {
        self.synced = Some(before);
    }

    /// The files that must be synchronized for everything written so far to survive a power cut.
    pub(super) fn take_unsynced(&mut self) -> Vec<Arc<dyn DiskFile>> {
        std::mem::take(&mut self.unsynced)
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        if !self.encode(record) {
            self.write()?;
            self.begin_file(u64::try_from(encoded_length(record)).unwrap_or(u64::MAX))?;
            self.encode(record);
        }
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    /// Encodes a record, if the file has room for it.
    fn encode(&mut self, record: &Record) -> bool {
        let Some(last) = self.files.back() else { return false };
        let (at, seal) = (self.buffer.len(), Seal { seed: self.seed, file: last.number });
        if self.offset == u64::MAX {
            return false;
        }
        seal.append(&mut self.buffer, self.offset, self.position, |to| record.encode(to));
        let (offset, length) = (self.offset + at as u64, self.buffer.len() - at);
        if offset + length as u64 > last.size {
            self.buffer.truncate(at);
            return false;
        }
        self.index.apply(record, Place { file: last.number, offset, length: length as u32 }, false);
        true
    }

    /// Begins the next file, which has room for `length` bytes.
    fn begin_file(&mut self, length: u64) -> io::Result<()> {
        let needed = HEADER as u64 + length + encoded_length(&Record::Begin) as u64;
        if self.spares.front().is_none_or(|spare| spare.size < needed) {
            // One that is too small stays for later: its number must be higher than that of the next file.
            for spare in std::mem::take(&mut self.spares) {
                self.disk.remove(&name(spare.number))?;
            }
            self.add_spare(needed.max(FILE_SIZE))?;
        }
        let Some(next) = self.spares.pop_front() else { return Err(io::ErrorKind::StorageFull.into()) };
        self.offset = HEADER as u64;
        self.files.push_back(next);
        self.encode(&Record::Begin);
        Ok(())
    }

    /// Writes what is encoded.
    fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(last) = self.files.back() else { return Ok(()) };
        last.file.write_at(&self.buffer, self.offset)?;
        self.note_written();
        Ok(())
    }

    /// What was encoded is written.
    fn note_written(&mut self) {
        let Some(last) = self.files.back() else { return };
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > 4 * BUFFER {
            self.buffer = Vec::new();
        }
        if !self.unsynced.iter().any(|file| Arc::ptr_eq(file, &last.file)) {
            self.unsynced.push(Arc::clone(&last.file));
        }
    }

    /// Whether the oldest file can go, or has to be emptied: earlier if the disk is full.
    pub(super) fn wants_compaction(&self, disk_full: bool) -> bool {
        let Some(oldest) = self.files.front().filter(|_| self.files.len() > 1) else { return false };
        !self.index.uses(oldest.number)
            || self.size() > 2 * self.index.live() + if disk_full { FILE_SIZE } else { SLACK }
    }

    /// Writes again what is in use of the oldest file, about [`STEP`] bytes of it. True once that is all.
    pub(super) fn compact(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.files.front() else { return Ok(true) };
        let (number, file) = (oldest.number, Arc::clone(&oldest.file));
        let mut rest = match self.survivors.take() {
            Some((of, rest)) if of == number => rest,
            _ => self.index.survivors_of(number),
        };
        let (mut records, mut bytes) = (Vec::new(), 0);
        while bytes < STEP
            && let Some((ino, survivor)) = rest.pop()
        {
            let Some(kept) = self.index.kept.get(&ino) else { continue };
            let (place, record) = match survivor {
                Survivor::Message(id) => {
                    let Some(entry) = kept.messages.get(&id).filter(|entry| entry.place.file == number)
                    else {
                        continue;
                    };
                    let message =
                        self.reread(&*file, entry.place)?.and_then(|message| entry.message(&message));
                    let damaged =
                        || io::Error::new(io::ErrorKind::InvalidData, "a record has changed on disk");
                    records.push(Record::Message(Arc::new(message.ok_or_else(damaged)?)));
                    (entry.place, entry.leased.then_some(Record::Leased { mailbox: ino, id }))
                }
                Survivor::Object => {
                    let object = kept.object.as_ref().filter(|(_, place)| place.file == number);
                    let Some((object, place)) = object else { continue };
                    (*place, Some(Record::Object(Arc::clone(object))))
                }
                Survivor::Key(id) => {
                    let found = kept.keys.get(&id).filter(|key| key.place.file == number);
                    let Some(KeptKey { key, at, uid, place }) = found.cloned() else { continue };
                    (place, Some(Record::Key { mailbox: ino, id, key, at, uid }))
                }
            };
            records.extend(record);
            bytes += u64::from(place.length);
        }
        let done = rest.is_empty();
        if done {
            records.extend(self.index.counters_in(number));
        }
        self.survivors = Some((number, rest)).filter(|_| !done);
        self.append(&records)?;
        Ok(done)
    }

    /// Keeps only what is in use, in new files.
    pub(super) fn compact_all(&mut self) -> io::Result<()> {
        self.begin_file(0)?;
        // It may be one that was made for later.
        let first_new = self.files.back().map_or(0, |file| file.number);
        while self.files.front().is_some_and(|oldest| oldest.number < first_new) {
            if self.compact()? {
                for file in self.take_unsynced() {
                    file.sync()?;
                }
                self.drop_oldest()?;
            }
        }
        self.write()
    }

    fn reread(&self, file: &dyn DiskFile, place: Place) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; place.length as usize];
        file.read_at(&mut bytes, place.offset)?;
        let record = Seal { seed: self.seed, file: place.file }.record_at(&bytes, place.offset);
        Ok(match record.and_then(Record::decode) {
            Some(Record::Message(message)) => Arc::into_inner(message),
            _ => None,
        })
    }

    /// Drops the oldest file. Everything of it that is in use must have been written again and synchronized.
    pub(super) fn drop_oldest(&mut self) -> io::Result<()> {
        if self.files.front().is_none_or(|oldest| self.index.uses(oldest.number)) || self.files.len() < 2 {
            return Ok(());
        }
        let Some(oldest) = self.files.pop_front() else { return Ok(()) };
        if oldest.damaged { self.set_aside(oldest.number) } else { self.disk.remove(&name(oldest.number)) }
    }

    /// Drops files in which nothing is in use, from the oldest on.
    fn drop_unused(&mut self) -> io::Result<()> {
        while self.files.len() > 1
            && let Some(oldest) = self.files.front()
            && !self.index.uses(oldest.number)
            && self.index.counters_in(oldest.number).is_empty()
        {
            self.drop_oldest()?;
        }
        Ok(())
    }
}

/// What is known while files are read.
#[derive(Debug, Default)]
struct Reading {
    /// One beyond the highest position so far.
    next: u64,
    /// Everything before this position was synchronized.
    synced: u64,
    /// Positions that did not come, from and to, and the file in which they should have been.
    gaps: Vec<(u64, u64, u64)>,
    /// Of those, the ones that a power cut has taken.
    torn: Vec<(u64, u64)>,
    /// Files in which a record or a header means nothing.
    unknown: Vec<u64>,
    begun: bool,
}

impl Reading {
    /// A file begins with this position.
    fn begin(&mut self, position: u64) {
        if !self.begun {
            (self.begun, self.next) = (true, position);
        }
    }

    fn note(&mut self, position: u64, file: u64) {
        if self.begun && position > self.next {
            self.gaps.push((self.next, position, file));
        }
        self.begun = true;
        self.next = self.next.max(position.saturating_add(1));
    }
}

/// The record of a mailbox whose own is lost.
fn recovered(ino: Ino) -> Record {
    Record::Object(Arc::new(Object {
        ino,
        // Where that is not a folder, its name is told by its number.
        parent: Ino(0),
        name: Arc::from(&b""[..]),
        folder: false,
        mode: 0o600,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        atime: FileTime::default(),
        mtime: FileTime::default(),
        ctime: FileTime::default(),
        settings: String::from("durable fsync\n"),
        dead_letter: None,
        xattrs: Vec::new(),
    }))
}

/// Bytes that a record takes in a file.
fn encoded_length(record: &Record) -> usize {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    frame::size(bytes.len())
}

fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok().filter(|number| self::name(*number) == name)
}

/// A number that nobody can guess.
fn random() -> u128 {
    let mut bytes = [0; 16];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u128::from_le_bytes(bytes)
}
