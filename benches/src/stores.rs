//! Ways to keep messages on a disk, behind one trait: the journal of ipcfs, and libraries that it could use instead.
//!
//! All have the same work: so many threads put a message each, and wait until it survives a power cut; for each, the oldest message
//! is taken. Each store gets what the journal has: what comes while one fdatasync(2) runs shares the next.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use ipcfs::journal::Journal as Log;
use ipcfs::journal::record::{How, Message, Object, Record, Rounds, Why};
use ipcfs::op::{Barrier, Caller, FileTime, Ino, Moment, Reply, RequestId, Slice, Timestamp};

/// Messages that wait all the time.
pub const WAITING: u64 = 1000;

/// By name.
pub const STORES: [&str; 4] = ["journal", "redb", "fjall", "sqlite"];

/// A store that threads share.
pub trait Store: Send + Sync {
    /// Puts a message and takes the oldest one. Returns when the first survives a power cut. `sender` is the thread's number.
    fn put(&self, sender: usize, body: &[u8]) -> Result<()>;
}

/// Makes a store in an empty folder, with [`WAITING`] messages in it.
pub fn open(name: &str, dir: &Path, senders: usize, body: &[u8]) -> Result<Box<dyn Store>> {
    Ok(match name {
        "journal" => Box::new(Journal::open(&dir.join("store"), senders, body)?),
        "redb" => Box::new(Grouped::start(Redb::open(dir)?, body)?),
        "fjall" => Box::new(Grouped::start(Fjall::open(dir)?, body)?),
        _ => Box::new(Grouped::start(Sqlite::open(dir)?, body)?),
    })
}

/// A library: puts and takes messages, all of which survive a power cut once it returns.
trait Library: Send + 'static {
    fn commit(&mut self, put: &[(u64, Vec<u8>)], take: std::ops::Range<u64>) -> Result<()>;
}

type Waiting = (Vec<u8>, Sender<Result<()>>);

/// A library whose commits are shared: one thread commits whatever has come meanwhile.
struct Grouped {
    puts: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl Grouped {
    fn start(mut library: impl Library, body: &[u8]) -> Result<Grouped> {
        let first: Vec<_> = (0..WAITING).map(|id| (id, body.to_vec())).collect();
        library.commit(&first, 0..0)?;
        let (puts, queue): (_, Receiver<Waiting>) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut next = WAITING;
            while let Ok(one) = queue.recv() {
                let (mut batch, mut answers) = (Vec::new(), Vec::new());
                for (body, answer) in std::iter::once(one).chain(queue.try_iter()) {
                    batch.push((next + batch.len() as u64, body));
                    answers.push(answer);
                }
                let count = batch.len() as u64;
                let result = library.commit(&batch, next - WAITING..next - WAITING + count);
                next += count;
                for answer in answers {
                    let result = result.as_ref().copied().map_err(|error| anyhow!("{error:#}"));
                    let _ = answer.send(result);
                }
            }
        });
        Ok(Grouped { puts: Some(puts), thread: Some(thread) })
    }
}

impl Store for Grouped {
    fn put(&self, _: usize, body: &[u8]) -> Result<()> {
        let (answer, answered) = mpsc::channel();
        self.puts.as_ref().context("closed")?.send((body.to_vec(), answer))?;
        answered.recv()?
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        self.puts = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Redb(redb::Database);

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("queue");

impl Redb {
    fn open(dir: &Path) -> Result<Redb> {
        Ok(Redb(redb::Database::create(dir.join("db"))?))
    }
}

impl Library for Redb {
    fn commit(&mut self, put: &[(u64, Vec<u8>)], take: std::ops::Range<u64>) -> Result<()> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(TABLE)?;
            for (id, body) in put {
                table.insert(id, body.as_slice())?;
            }
            for id in take {
                table.remove(id)?;
            }
        }
        Ok(write.commit()?)
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Fjall {
    fn open(dir: &Path) -> Result<Fjall> {
        let database = fjall::Database::builder(dir).open()?;
        let keyspace = database.keyspace("queue", fjall::KeyspaceCreateOptions::default)?;
        Ok(Fjall(database, keyspace))
    }
}

impl Library for Fjall {
    fn commit(&mut self, put: &[(u64, Vec<u8>)], take: std::ops::Range<u64>) -> Result<()> {
        let mut batch = self.0.batch().durability(Some(fjall::PersistMode::SyncData));
        for (id, body) in put {
            batch.insert(&self.1, id.to_be_bytes(), body.as_slice());
        }
        for id in take {
            batch.remove(&self.1, id.to_be_bytes());
        }
        Ok(batch.commit()?)
    }
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(dir: &Path) -> Result<Sqlite> {
        let connection = rusqlite::Connection::open(dir.join("db"))?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; create table queue(id integer primary key, body blob);",
        )?;
        Ok(Sqlite(connection))
    }
}

impl Library for Sqlite {
    fn commit(&mut self, put: &[(u64, Vec<u8>)], take: std::ops::Range<u64>) -> Result<()> {
        let write = self.0.transaction()?;
        for (id, body) in put {
            write.prepare_cached("insert into queue values(?1, ?2)")?.execute((*id as i64, body))?;
        }
        for id in take {
            write.prepare_cached("delete from queue where id = ?1")?.execute((id as i64,))?;
        }
        Ok(write.commit()?)
    }
}

const BOX: Ino = Ino(20);

/// The journal, used as the daemon uses it.
struct Journal {
    log: Arc<Log>,
    next: AtomicU64,
    answers: Arc<Vec<Sender<()>>>,
    answered: Vec<Mutex<Receiver<()>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Journal {
    fn open(dir: &Path, senders: usize, body: &[u8]) -> Result<Journal> {
        fs::create_dir(dir)?;
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let (log, _) = Log::open(dir)?;
        let log = Arc::new(log);
        log.put(Record::Object(Arc::new(Object {
            ino: BOX,
            parent: Ino(2),
            name: Arc::from(&b"box"[..]),
            folder: false,
            mode: 0o600,
            uid: 0,
            gid: 0,
            atime: FileTime::default(),
            mtime: FileTime::default(),
            ctime: FileTime::default(),
            settings: String::new(),
            dead_letter: None,
            xattrs: Vec::new(),
        })));
        for id in 1..=WAITING {
            log.put(message(id, body));
        }
        log.write(&mut Vec::new());
        let (answers, answered): (Vec<_>, Vec<_>) = (0..senders).map(|_| mpsc::channel()).unzip();
        let answers = Arc::new(answers);
        let thread = |work: fn(&Log, &[Sender<()>])| {
            let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
            thread::spawn(move || work(&log, &answers))
        };
        let threads = vec![
            thread(|log, answers| log.run(|due| tell(due, answers))),
            thread(|log, answers| log.run_writer(|due| tell(due, answers))),
        ];
        let answered = answered.into_iter().map(Mutex::new).collect();
        Ok(Journal { log, next: AtomicU64::new(WAITING + 1), answers, answered, threads })
    }
}

fn tell(due: &mut Vec<(RequestId, Reply)>, answers: &[Sender<()>]) {
    for (request_id, reply) in due.drain(..) {
        // A failure is told by silence: the sender's channel stays empty, and the benchmark fails.
        if reply == Reply::Done
            && let Some(answer) = answers.get(request_id.unique as usize)
        {
            let _ = answer.send(());
        }
    }
}

fn message(id: u64, body: &[u8]) -> Record {
    Record::Message(Arc::new(Message {
        mailbox: BOX,
        id,
        position: (1 << 32) + id,
        how: How::Sent,
        sent: Timestamp(1 << 60),
        sender: Caller { uid: 1000, gid: 1000, pid: 100_000 },
        priority: 0,
        tag: None,
        expires: None,
        key: None,
        due: None,
        since: None,
        reason: None,
        rounds: Rounds::default(),
        deliveries: 0,
        lines: 0,
        body: Slice::whole(body),
    }))
}

impl Store for Journal {
    fn put(&self, sender: usize, body: &[u8]) -> Result<()> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let record = self.log.put(message(id, body));
        self.log.put(Record::Gone { mailbox: BOX, first: id - WAITING, count: 1, why: Why::Received });
        let request_id = RequestId { unique: sender as u64, reply_path: 0, pid: 0 };
        let barrier = Barrier { record, synced: true };
        let at_once = self.log.defer(barrier, request_id, Reply::Done, Moment(0));
        let mut due = Vec::new();
        self.log.write_soon(&mut due);
        tell(&mut due, &self.answers);
        if at_once.is_none() {
            let answered = self.answered.get(sender).context("a sender too many")?;
            let answered = answered.lock().map_err(|_| anyhow!("a sender has died"))?;
            answered.recv_timeout(std::time::Duration::from_secs(30)).context("the journal is silent")?;
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.log.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
