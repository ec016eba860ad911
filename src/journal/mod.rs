//! The journal of durable mailboxes: what was decided is written down, so that it can be had again after the daemon's death.
//!
//! ```text
//!  the domain, under a mailbox's lock       Journal::put        records in order, in memory
//!  whoever answers, with no lock held       Journal::write      one write(2) for all that is there
//!  one thread                               Journal::run        fdatasync(2); compaction; room for what comes
//! ```
//!
//! An answer that promises something waits until its records are written or synchronized ([`Journal::defer`]). There is no
//! timer: what comes while one fdatasync(2) runs shares the next one. Nobody waits for a write: who finds another thread writing
//! leaves its records to that thread.
//!
//! Files (`log`, `frame`) hold records (`record`); `index` is what they say. `disk` is all that is needed of a file system.

mod disk;
mod frame;
mod index;
mod log;
pub mod record;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::log::{error, info, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::op::{Barrier, Error, Ino, Reply, RequestId, Taken};
use disk::{Disk, StoreFolder};
use index::Index;
use log::{FILE_SIZE, Log};
use record::{Counters, Message, Object, Record, Why};

pub use log::{Damage, OpenError};

/// Room that is kept for what must not fail: taking, settling, removing, and compaction.
const RESERVE: u64 = FILE_SIZE;

/// Bytes that a message takes beyond its body and tag, with the record that it is gone.
const MESSAGE_ROOM: u64 = 256;

/// How long the thread sleeps if the disk is full, before it tries to get room again.
const RETRY: Duration = Duration::from_millis(200);

/// Name of the thread of [`Journal::run`].
pub const JOURNAL_THREAD: &str = "journal";

/// What a durable mailbox survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durable {
    /// Nothing: it is in memory only.
    #[default]
    Off,
    /// The daemon's death. Calls return when their records are written.
    Daemon,
    /// A power cut. Calls return when their records are synchronized.
    Fsync,
}

/// What a mailbox or folder was.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Recovered {
    pub object: Arc<Object>,
    pub counters: Counters,
    /// In order of position. Of a message that was leased, the flag is set.
    pub messages: Vec<(Message, bool)>,
}

/// Figures, for `control/status`.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Figures {
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of it in use.
    pub live: u64,
    /// Records that were synchronized and could not be read.
    pub lost: u64,
    /// Calls of fdatasync(2).
    pub syncs: u64,
    /// There is no room for more messages.
    pub full: bool,
    /// Why nothing is written any more.
    pub broken: Option<String>,
}

/// A journal, shared by all threads.
#[derive(Debug)]
pub struct Journal {
    /// Records that are not written.
    pending: Mutex<Vec<Record>>,
    log: Mutex<Log>,
    waiting: Mutex<Vec<(Barrier, RequestId, Reply)>>,
    /// There may be some in `waiting`: can be read without the lock.
    any_waits: AtomicBool,
    /// Records put so far. Changed with `pending` locked.
    put: AtomicU64,
    /// Records written, and synchronized.
    written: AtomicU64,
    synced: AtomicU64,
    /// Bytes for new messages. Below 0 while records come faster than files are made.
    room: AtomicU64,
    disk_full: AtomicBool,
    is_broken: AtomicBool,
    broken: Mutex<Option<String>>,
    syncs: AtomicU64,
    /// For people, who do not wait for the log.
    size: AtomicU64,
    live: AtomicU64,
    lost: u64,
    /// For the thread of [`Journal::run`].
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    any: bool,
    end: bool,
}

impl Journal {
    /// Opens the store in a folder, and returns what it says.
    ///
    /// # Errors
    /// It is in use, others may use it, it is of another format, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Recovered>), OpenError> {
        Journal::on(Box::new(StoreFolder::open(path, false)?))
    }

    fn on(disk: Box<dyn Disk>) -> Result<(Journal, Vec<Recovered>), OpenError> {
        let mut log = Log::open(disk)?;
        let recovered = recover(&mut log.index);
        let mut disk_full = false;
        while log.room() < 2 * RESERVE && !disk_full {
            match log.add_spare(FILE_SIZE) {
                Ok(()) => {}
                // What is there can be received.
                Err(error) if log.room() > 0 => {
                    warn!("the store cannot grow, and durable mailboxes take no more messages: {error}");
                    disk_full = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        info!(
            "the store has {} mailboxes and folders, and {} messages",
            recovered.len(),
            log.index.messages()
        );
        let lost = log.damage().lost;
        let journal = Journal {
            pending: Mutex::default(),
            room: AtomicU64::new(log.room().saturating_sub(RESERVE)),
            log: Mutex::new(log),
            waiting: Mutex::default(),
            any_waits: AtomicBool::new(false),
            put: AtomicU64::new(0),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            disk_full: AtomicBool::new(disk_full),
            is_broken: AtomicBool::new(false),
            broken: Mutex::default(),
            syncs: AtomicU64::new(0),
            size: AtomicU64::new(0),
            live: AtomicU64::new(0),
            lost,
            work: Mutex::default(),
            wake: Condvar::new(),
        };
        journal.note_size(&journal.log.lock());
        Ok((journal, recovered))
    }

    fn note_size(&self, log: &Log) {
        self.size.store(log.size(), Ordering::Relaxed);
        self.live.store(log.index.live(), Ordering::Relaxed);
    }

    /// Whether messages with this many bytes can be promised to be kept.
    ///
    /// # Errors
    /// `NoSpace` if the disk is full; `Io` if nothing is written any more.
    pub fn check_room(&self, bytes: u64) -> Result<(), Error> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(Error::Io);
        }
        let needed = bytes.saturating_add(MESSAGE_ROOM);
        if self.room.load(Ordering::Relaxed) < needed && self.disk_full.load(Ordering::Relaxed) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Adds a record. Returns its number. Records are written in the order in which they were put.
    pub fn put(&self, record: Record) -> u64 {
        if let Record::Message(message) = &record {
            let needed = message.body.as_bytes().len() as u64 + MESSAGE_ROOM;
            let less = |room: u64| Some(room.saturating_sub(needed));
            let _ = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        let mut pending = self.pending.lock();
        pending.push(record);
        self.put.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Adds records of messages that were received.
    pub fn put_taken(&self, taken: Vec<Taken>) {
        for Taken { mailbox, first, count } in taken {
            self.put(Record::Gone { mailbox, first, count, why: Why::Received });
        }
    }

    /// An answer that must wait for its records. To be followed by [`Journal::write`].
    pub fn defer(&self, barrier: Barrier, request_id: RequestId, reply: Reply) {
        self.waiting.lock().push((barrier, request_id, reply));
        self.any_waits.store(true, Ordering::SeqCst);
    }

    /// Writes what was put, unless another thread is writing, which then does it. Adds the answers that need not wait any longer
    /// to `due`.
    pub fn write(&self, due: &mut Vec<(RequestId, Reply)>) {
        self.write_rest();
        self.take_due(due);
    }

    fn write_rest(&self) {
        while self.put.load(Ordering::SeqCst) > self.written.load(Ordering::SeqCst) {
            let Some(mut log) = self.log.try_lock() else { return };
            self.write_pending(&mut log);
        }
    }

    /// Works on the log. Whoever comes meanwhile does not wait for it and leaves records here, so that they are written then. To be
    /// followed by [`Journal::take_due`].
    fn with_log<T>(&self, work: impl FnOnce(&mut MutexGuard<'_, Log>) -> T) -> T {
        let result = work(&mut self.log.lock());
        self.write_rest();
        result
    }

    /// Writes what was put. `false` if that is not possible any more.
    fn write_pending(&self, log: &mut MutexGuard<'_, Log>) -> bool {
        let (records, count) = {
            let mut pending = self.pending.lock();
            (std::mem::take(&mut *pending), self.put.load(Ordering::SeqCst))
        };
        if !self.is_broken.load(Ordering::SeqCst) {
            if let Err(error) = log.append(&records) {
                self.give_up("write", &error);
            }
            let room = log.room();
            self.room.store(room.saturating_sub(RESERVE), Ordering::Relaxed);
            self.note_size(log);
            if room < 2 * RESERVE || log.wants_compaction(self.disk_full.load(Ordering::SeqCst)) {
                self.call();
            }
        }
        self.written.store(count, Ordering::SeqCst);
        !self.is_broken.load(Ordering::SeqCst)
    }

    /// Takes the answers whose records are where they must be.
    fn take_due(&self, due: &mut Vec<(RequestId, Reply)>) {
        if !self.any_waits.load(Ordering::SeqCst) {
            return;
        }
        let mut waiting = self.waiting.lock();
        let (written, synced) = (self.written.load(Ordering::SeqCst), self.synced.load(Ordering::SeqCst));
        let broken = self.is_broken.load(Ordering::SeqCst);
        let mut sync = false;
        waiting.retain(|(barrier, request_id, reply)| {
            let reached = if barrier.synced { synced } else { written };
            let is_due = broken || barrier.record <= reached;
            if is_due {
                due.push((*request_id, if broken { Reply::Failed(Error::Io) } else { reply.clone() }));
            }
            sync |= !is_due && barrier.synced;
            !is_due
        });
        self.any_waits.store(!waiting.is_empty(), Ordering::SeqCst);
        drop(waiting);
        if sync {
            self.call();
        }
    }

    /// Synchronizes, makes room and compacts, until [`Journal::end`]. `answer` sends answers that have waited.
    pub fn run(&self, answer: impl Fn(&mut Vec<(RequestId, Reply)>)) {
        let mut due = Vec::new();
        loop {
            let ended = {
                let mut work = self.work.lock();
                while !work.any && !work.end {
                    if self.disk_full.load(Ordering::SeqCst) {
                        self.wake.wait_for(&mut work, RETRY);
                        break;
                    }
                    self.wake.wait(&mut work);
                }
                work.any = false;
                work.end
            };
            self.sync();
            self.take_due(&mut due);
            answer(&mut due);
            if ended || self.is_broken.load(Ordering::SeqCst) {
                if ended {
                    return;
                }
                continue;
            }
            self.compact(&mut due, &answer);
            self.make_room();
            self.take_due(&mut due);
            answer(&mut due);
        }
    }

    /// Calls the thread of [`Journal::run`].
    fn call(&self) {
        let mut work = self.work.lock();
        if !work.any {
            work.any = true;
            self.wake.notify_one();
        }
    }

    /// Ends [`Journal::run`], once everything is synchronized.
    pub fn end(&self) {
        self.work.lock().end = true;
        self.wake.notify_one();
    }

    /// Synchronizes all that was put by now.
    fn sync(&self) {
        let begun = self.with_log(|log| {
            let written = self.write_pending(log).then(|| self.written.load(Ordering::SeqCst))?;
            Some((log.take_unsynced(), log.position(), written)).filter(|(files, ..)| !files.is_empty())
        });
        let Some((files, position, written)) = begun else { return };
        for file in files {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = file.sync() {
                // A second attempt could succeed although the first one has lost the bytes.
                self.give_up("fdatasync", &error);
                return;
            }
        }
        self.with_log(|log| log.note_synced(position));
        self.synced.store(written, Ordering::SeqCst);
    }

    /// Makes files for what comes.
    fn make_room(&self) {
        let enough = |log: &mut MutexGuard<'_, Log>| {
            if log.room() >= 2 * RESERVE {
                self.disk_full.store(false, Ordering::SeqCst);
                return true;
            }
            let made = log.add_spare(FILE_SIZE);
            self.room.store(log.room().saturating_sub(RESERVE), Ordering::SeqCst);
            if let Err(error) = &made
                && !self.disk_full.swap(true, Ordering::SeqCst)
            {
                warn!("the store cannot grow, and durable mailboxes take no more messages: {error}");
            }
            made.is_err()
        };
        while !self.with_log(enough) {}
    }

    /// Drops files that are not needed, one step after the other.
    fn compact(&self, due: &mut Vec<(RequestId, Reply)>, answer: &impl Fn(&mut Vec<(RequestId, Reply)>)) {
        loop {
            let emptied = self.with_log(|log| {
                let wanted =
                    self.write_pending(log) && log.wants_compaction(self.disk_full.load(Ordering::SeqCst));
                wanted.then(|| log.compact())
            });
            let Some(emptied) = emptied else { return };
            let dropped = match emptied {
                Ok(true) => {
                    self.sync();
                    self.with_log(|log| {
                        let dropped = log.drop_oldest();
                        self.note_size(log);
                        dropped
                    })
                }
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = dropped {
                self.give_up("compact", &error);
            }
            self.sync();
            self.take_due(due);
            answer(due);
            if self.is_broken.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn give_up(&self, call: &str, error: &io::Error) {
        error!("the store is broken: {call}: {error}; durable mailboxes take no more messages");
        self.broken.lock().get_or_insert_with(|| format!("{call}: {error}"));
        self.is_broken.store(true, Ordering::SeqCst);
        self.call();
    }

    /// For people.
    pub fn figures(&self) -> Figures {
        Figures {
            size: self.size.load(Ordering::Relaxed),
            live: self.live.load(Ordering::Relaxed),
            lost: self.lost,
            syncs: self.syncs.load(Ordering::Relaxed),
            full: self.disk_full.load(Ordering::Relaxed),
            broken: self.broken.lock().clone(),
        }
    }
}

/// What a store says, without a change to it.
///
/// # Errors
/// As [`Journal::open`], but the store may be in use.
pub fn look(path: &Path) -> Result<(Vec<Recovered>, Damage), OpenError> {
    let mut log = Log::read(Box::new(StoreFolder::open(path, true)?))?;
    let damage = log.damage().clone();
    Ok((recover(&mut log.index), damage))
}

/// Writes again what is in use of a store, and drops everything else. Returns the bytes of its files before and after.
///
/// # Errors
/// As [`Journal::open`].
pub fn compact(path: &Path) -> Result<(u64, u64), OpenError> {
    let mut log = Log::open(Box::new(StoreFolder::open(path, false)?))?;
    let before = log.size();
    log.compact_all()?;
    Ok((before, log.size()))
}

fn recover(index: &mut Index) -> Vec<Recovered> {
    let mut all = Vec::new();
    for kept in index.kept.values_mut() {
        let Some((object, _)) = &kept.object else { continue };
        let mut messages = BTreeMap::new();
        for entry in kept.messages.values_mut() {
            let message = entry.record.take().and_then(|record| entry.message(&record));
            messages.extend(message.map(|message| (message.position, (message, entry.leased))));
        }
        all.push(Recovered {
            object: Arc::clone(object),
            counters: kept.counters,
            messages: messages.into_values().collect(),
        });
    }
    all.sort_by_key(|recovered| recovered.object.ino);
    all
}

/// The highest number of a mailbox or folder, and the highest id of a message.
pub fn highest(recovered: &[Recovered]) -> (Ino, u64) {
    let ino = recovered.iter().map(|one| one.object.ino).max().unwrap_or(Ino(0));
    let last =
        |message: &Message| (message.id + message.count()).max(message.position.saturating_sub(1 << 32));
    let id = recovered.iter().flat_map(|one| &one.messages).map(|(message, _)| last(message)).max();
    (ino, id.unwrap_or(0))
}
