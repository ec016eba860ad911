//! The journal of durable mailboxes: what was decided is written down, so that it can be had again after the daemon's death.
//!
//! ```text
//!  the domain, under a mailbox's lock       Journal::put         records in order, in memory
//!  whoever answers, with no lock held       Journal::write_soon  one write(2) for all that is there
//!  one thread                               Journal::run_writer  the same, where that may take long
//!  another                                  Journal::run         fdatasync(2); compaction; room for what comes
//! ```
//!
//! An answer that promises something waits until its records are written or synchronized ([`Journal::defer`]). There is no
//! timer: what comes while one fdatasync(2) runs shares the next one. A thread that serves requests must not wait for a disk,
//! because everybody would wait with it. So it writes only what has room in the file, without waiting if the file system can do
//! that, and nothing while the disk does not respond.
//!
//! Files (`log`, `frame`) hold records (`record`); `index` is what they say. `disk` is all that is needed of a file system.

mod disk;
mod frame;
mod index;
mod log;
mod promises;
pub mod record;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ::log::{error, info, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::op::{Barrier, Error, Ino, Moment, Reply, RequestId, Taken, Timestamp};
use crate::state::saved;
use disk::{Disk, StoreFolder};
use index::Index;
use log::{FILE_SIZE, Log};
use promises::Promises;
use record::{Counters, Message, Object, Record, Why};

pub use log::{Damage, OpenError};

/// Room that is kept for what must not fail: taking, settling, removing, and compaction.
const RESERVE: u64 = FILE_SIZE;

/// Bytes that a message takes beyond its body and tag, with the record that it is gone.
const MESSAGE_ROOM: u64 = 256;

/// How long the thread sleeps if the disk is full, before it tries to get room again.
const RETRY: Duration = Duration::from_millis(200);

/// A disk that has not done fdatasync(2) within this time may not do write(2) either.
const SLOW: Duration = Duration::from_millis(50);

/// Name of the threads of [`Journal::run`] and [`Journal::run_writer`].
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

saved!(enum Durable { 0 = Off, 1 = Daemon, 2 = Fsync });

/// What a mailbox or folder was.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Recovered {
    pub object: Arc<Object>,
    pub counters: Counters,
    /// In order of position. Of a message that was leased, the flag is set.
    pub messages: Vec<(Message, bool)>,
    /// The keys with which messages were sent.
    pub keys: Vec<Key>,
}

/// The key of a message, when that was accepted, and of which user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Key {
    /// Of the message.
    pub id: u64,
    pub key: Arc<[u8]>,
    pub at: Timestamp,
    pub uid: u32,
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
    promises: Mutex<Promises>,
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
    started: Instant,
    /// When the fdatasync(2) that runs began, in milliseconds since `started`; `u64::MAX` if none runs.
    syncing_since: AtomicU64,
    /// For the thread of [`Journal::run_writer`].
    to_write: Call,
    /// For the thread of [`Journal::run`].
    to_sync: Call,
}

/// A journal that writes nothing.
#[derive(Debug)]
pub struct Held<'a>(MutexGuard<'a, Log>);

impl Held<'_> {
    /// For [`Journal::take_over`].
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.descriptors()
    }
}

/// What a thread of the journal waits for.
#[derive(Debug, Default)]
struct Call {
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    any: bool,
    end: bool,
}

impl Call {
    fn call(&self) {
        let mut work = self.work.lock();
        if !work.any {
            work.any = true;
            self.wake.notify_one();
        }
    }

    fn is_called(&self) -> bool {
        self.work.lock().any
    }

    fn end(&self) {
        self.work.lock().end = true;
        self.wake.notify_one();
    }

    /// Waits for a call, no longer than `limit`. False once it has ended.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let mut work = self.work.lock();
        while !work.any && !work.end {
            match limit {
                Some(limit) if self.wake.wait_for(&mut work, limit).timed_out() => break,
                Some(_) => {}
                None => self.wake.wait(&mut work),
            }
        }
        work.any = false;
        !work.end
    }
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
        Ok((Journal::with(log, disk_full), recovered))
    }

    /// Continues the journal of another process, which has settled it ([`Journal::settle`]) and holds it. `folder` and `lock` are its
    /// [`Held::descriptors`]. The store stays as it is until something is put.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn take_over(folder: OwnedFd, lock: OwnedFd) -> Result<Journal, OpenError> {
        let mut log = Log::take_over(Box::new(StoreFolder::of_descriptors(folder, lock)))?;
        // Their messages have come with the state of the tree.
        drop(recover(&mut log.index));
        let journal = Journal::with(log, false);
        // What the other may have been about to do: to make room, for example.
        journal.to_sync.call();
        Ok(journal)
    }

    fn with(log: Log, disk_full: bool) -> Journal {
        let lost = log.damage().lost;
        let journal = Journal {
            pending: Mutex::default(),
            room: AtomicU64::new(log.room().saturating_sub(RESERVE)),
            log: Mutex::new(log),
            promises: Mutex::default(),
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
            started: Instant::now(),
            syncing_since: AtomicU64::new(u64::MAX),
            to_write: Call::default(),
            to_sync: Call::default(),
        };
        journal.note_size(&journal.log.lock());
        journal
    }

    /// Writes and synchronizes all that was put, with nobody putting more, and has all answers sent that wait for it. False if
    /// that is not done within `limit`.
    pub fn settle(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        self.to_sync.call();
        while !self.is_settled() {
            if begin.elapsed() > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn is_settled(&self) -> bool {
        let put = self.put.load(Ordering::SeqCst);
        self.synced.load(Ordering::SeqCst) >= put && self.promises.lock().since(Moment::LAST).is_empty()
    }

    /// Nothing is written as long as what this returns is kept. `None` if the disk does not respond within `limit`.
    pub fn hold(&self, limit: Duration) -> Option<Held<'_>> {
        self.log.try_lock_for(limit).map(Held)
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

    /// The number of the record that was put last.
    pub fn last_put(&self) -> u64 {
        self.put.load(Ordering::SeqCst)
    }

    /// Adds records of messages that were received.
    pub fn put_taken(&self, taken: Vec<Taken>) {
        for taken in taken {
            if let Taken::Stored { mailbox, first, count } = taken {
                self.put(Record::Gone { mailbox, first, count, why: Why::Received });
            }
        }
    }

    /// An answer that must wait for its records, since `now`. Returns it if it need not wait. To be followed by
    /// [`Journal::write_soon`].
    #[must_use]
    pub fn defer(&self, barrier: Barrier, request_id: RequestId, reply: Reply, now: Moment) -> Option<Reply> {
        let mut promises = self.promises.lock();
        if self.is_broken.load(Ordering::SeqCst) {
            return Some(Reply::Failed(Error::Io));
        }
        let is_written = barrier.record <= self.written.load(Ordering::SeqCst);
        if is_written && (!barrier.synced || barrier.record <= self.synced.load(Ordering::SeqCst)) {
            return Some(reply);
        }
        promises.insert(barrier, request_id, reply, now);
        drop(promises);
        if is_written {
            self.to_sync.call();
        }
        None
    }

    /// Takes a request out that waits for its records, which stay. Its answer is the caller's then.
    pub fn cancel(&self, unique: u64) -> Option<RequestId> {
        self.promises.lock().cancel(unique)
    }

    /// The request with this number, if it waits for its records.
    pub fn find(&self, unique: u64) -> Option<RequestId> {
        self.promises.lock().find(unique)
    }

    /// The numbers of the requests that have waited for their records since `limit` or longer.
    pub fn waiting_since(&self, limit: Moment) -> Vec<u64> {
        self.promises.lock().since(limit)
    }

    /// Writes what was put if that does not take long, and adds the answers that need not wait any longer to `due`. Otherwise the
    /// thread of [`Journal::run_writer`] will do it.
    pub fn write_soon(&self, due: &mut Vec<(RequestId, Reply)>) {
        if self.put.load(Ordering::SeqCst) <= self.written.load(Ordering::SeqCst) || self.to_write.is_called()
        {
            return;
        }
        if self.write_now() {
            self.take_due(due);
        } else {
            self.to_write.call();
        }
    }

    fn write_now(&self) -> bool {
        let since = self.syncing_since.load(Ordering::Relaxed);
        let syncing = self.started.elapsed().saturating_sub(Duration::from_millis(since));
        let Some(mut log) = self.log.try_lock().filter(|_| syncing < SLOW) else { return false };
        let (records, count) = {
            let mut pending = self.pending.lock();
            if !log.fits(&pending) {
                return false;
            }
            (std::mem::take(&mut *pending), self.put.load(Ordering::SeqCst))
        };
        self.note_written(|log| log.append_now(&records), count, &mut log)
    }

    /// Writes what was put, until [`Journal::end`]. `answer` sends answers that have waited.
    pub fn run_writer(&self, answer: impl Fn(&mut Vec<(RequestId, Reply)>)) {
        let mut due = Vec::new();
        while self.to_write.wait(None) {
            self.write(&mut due);
            answer(&mut due);
        }
    }

    /// Writes what was put. Adds the answers that need not wait any longer to `due`.
    pub fn write(&self, due: &mut Vec<(RequestId, Reply)>) {
        while self.put.load(Ordering::SeqCst) > self.written.load(Ordering::SeqCst) {
            self.write_pending(&mut self.log.lock());
        }
        self.take_due(due);
    }

    /// Writes what was put. `false` if that is not possible any more.
    fn write_pending(&self, log: &mut Log) -> bool {
        let (records, count) = {
            let mut pending = self.pending.lock();
            (std::mem::take(&mut *pending), self.put.load(Ordering::SeqCst))
        };
        self.note_written(|log| log.append(&records).map(|()| true), count, log);
        !self.is_broken.load(Ordering::SeqCst)
    }

    /// Writes records, up to number `count`. False if `write` has left something to be written.
    fn note_written(
        &self,
        write: impl FnOnce(&mut Log) -> io::Result<bool>,
        count: u64,
        log: &mut Log,
    ) -> bool {
        if !self.is_broken.load(Ordering::SeqCst) {
            match write(log) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => self.give_up("write", &error),
            }
            let room = log.room();
            self.room.store(room.saturating_sub(RESERVE), Ordering::Relaxed);
            self.note_size(log);
            if room < 2 * RESERVE || log.wants_compaction(self.disk_full.load(Ordering::SeqCst)) {
                self.to_sync.call();
            }
        }
        self.written.store(count, Ordering::SeqCst);
        true
    }

    /// Takes the answers whose records are where they must be.
    fn take_due(&self, due: &mut Vec<(RequestId, Reply)>) {
        let mut promises = self.promises.lock();
        if self.is_broken.load(Ordering::SeqCst) {
            let from = due.len();
            promises.take_due(u64::MAX, u64::MAX, due);
            due.iter_mut().skip(from).for_each(|(_, reply)| *reply = Reply::Failed(Error::Io));
        } else {
            let (written, synced) = (self.written.load(Ordering::SeqCst), self.synced.load(Ordering::SeqCst));
            promises.take_due(written, synced, due);
            if promises.want_sync() {
                self.to_sync.call();
            }
        }
    }

    /// Synchronizes, makes room and compacts, until [`Journal::end`]. `answer` sends answers that have waited.
    pub fn run(&self, answer: impl Fn(&mut Vec<(RequestId, Reply)>)) {
        let mut due = Vec::new();
        loop {
            let limit = self.disk_full.load(Ordering::SeqCst).then_some(RETRY);
            let ended = !self.to_sync.wait(limit);
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

    /// Ends [`Journal::run`], once everything is synchronized, and [`Journal::run_writer`].
    pub fn end(&self) {
        self.to_write.end();
        self.to_sync.end();
    }

    /// Synchronizes all that was put by now.
    fn sync(&self) {
        let (files, position, written) = {
            let mut log = self.log.lock();
            if !self.write_pending(&mut log) {
                return;
            }
            (log.take_unsynced(), log.position(), self.written.load(Ordering::SeqCst))
        };
        if files.is_empty() {
            return;
        }
        for file in files {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.syncing_since.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
            let synced = file.sync();
            self.syncing_since.store(u64::MAX, Ordering::Relaxed);
            if let Err(error) = synced {
                // A second attempt could succeed although the first one has lost the bytes.
                self.give_up("fdatasync", &error);
                return;
            }
        }
        self.log.lock().note_synced(position);
        self.synced.store(written, Ordering::SeqCst);
    }

    /// Makes files for what comes.
    fn make_room(&self) {
        loop {
            let mut log = self.log.lock();
            if log.room() >= 2 * RESERVE {
                self.disk_full.store(false, Ordering::SeqCst);
                return;
            }
            let made = log.add_spare(FILE_SIZE);
            self.room.store(log.room().saturating_sub(RESERVE), Ordering::SeqCst);
            if let Err(error) = made {
                if !self.disk_full.swap(true, Ordering::SeqCst) {
                    warn!("the store cannot grow, and durable mailboxes take no more messages: {error}");
                }
                return;
            }
        }
    }

    /// Drops files that are not needed, one step after the other.
    fn compact(&self, due: &mut Vec<(RequestId, Reply)>, answer: &impl Fn(&mut Vec<(RequestId, Reply)>)) {
        loop {
            let emptied = {
                let mut log = self.log.lock();
                let is_well = self.write_pending(&mut log);
                if !is_well || !log.wants_compaction(self.disk_full.load(Ordering::SeqCst)) {
                    return;
                }
                log.compact()
            };
            let dropped = match emptied {
                Ok(true) => {
                    self.sync();
                    let mut log = self.log.lock();
                    let dropped = log.drop_oldest();
                    self.note_size(&log);
                    dropped
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
        self.to_sync.call();
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
        let keys = kept.keys.iter();
        all.push(Recovered {
            object: Arc::clone(object),
            counters: kept.counters,
            messages: messages.into_values().collect(),
            keys: keys
                .map(|(id, kept)| Key { id: *id, key: Arc::clone(&kept.key), at: kept.at, uid: kept.uid })
                .collect(),
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
    let messages = recovered.iter().flat_map(|one| &one.messages).map(|(message, _)| last(message));
    let keys = recovered.iter().flat_map(|one| &one.keys).map(|key| key.id.min(u64::MAX / 2));
    (ino, messages.chain(keys).max().unwrap_or(0))
}
