//! What an actor does until it is killed. It reports each operation when it is done.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;

use super::event::{Event, Random, message, parse};
use super::names::{ASKED, EMPTY, KEPT, LEASED, MAILBOXES, MAX_LINES, PLAIN};
use super::role::Role;
use crate::process::sure;

/// Does the work of a role until it is killed. Reports an error, and then waits to be killed.
pub fn run(role: &str, instance: u64, dir: &Path) -> Result<()> {
    let role = Role::named(role).with_context(|| format!("no role {role}"))?;
    let mut actor = Actor { instance, dir: dir.to_owned(), random: Random::new(instance), reported: 0 };
    let error = match role {
        Role::Sender => {
            let to = PLAIN[instance as usize % 2];
            actor.send(to)
        }
        Role::KeptSender => actor.send(KEPT),
        Role::LeasedSender => actor.send(LEASED),
        Role::Consumer => actor.consume(),
        Role::SafeConsumer => actor.consume_safely(),
        Role::StreamConsumer => actor.consume_stream(),
        Role::Worker => actor.work(),
        Role::Client => actor.ask(),
        Role::Server => actor.serve(),
        Role::Publisher => actor.publish(),
        Role::Subscriber => actor.subscribe(),
        Role::Incrementer => actor.increment(),
        Role::Churner => actor.churn(),
        Role::Operator => actor.operate(),
        Role::BlockedReader => actor.block(),
    };
    if let Err(error) = error {
        Event::Failed(format!("{}: {error:#}", role.name())).send();
    }
    loop {
        std::thread::park();
    }
}

struct Actor {
    instance: u64,
    dir: PathBuf,
    random: Random,
    /// Messages that were sent and reported.
    reported: u64,
}

fn both(path: &Path) -> Result<File> {
    sure(|| OpenOptions::new().read(true).write(true).open(path))
        .with_context(|| format!("opening {}", path.display()))
}

fn writing(path: &Path) -> Result<File> {
    sure(|| OpenOptions::new().write(true).open(path)).with_context(|| format!("opening {}", path.display()))
}

/// Opens to write, writes once and closes, as a shell's `echo >` does.
fn write_to(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = sure(|| File::create(path))?;
    sure(|| file.write_all(text.as_bytes()))
}

/// Opens to read, reads to the end and closes, as cat(1) does.
fn read_from(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = sure(|| File::open(path))?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match sure(|| file.read(&mut buffer))? {
            0 => return Ok(all),
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

fn received(bytes: &[u8]) -> Result<(u64, u64)> {
    let (instance, number) = parse(bytes)?;
    Event::Received { instance, number }.send();
    Ok((instance, number))
}

impl Actor {
    fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.join("mailboxes").join(name)
    }

    fn door(&self, mailbox: &str, door: &str) -> PathBuf {
        self.dir.join("control/mailboxes").join(mailbox).join(door)
    }

    /// Sleeps now and then, so that actors do not run in lockstep.
    fn pause(&mut self) {
        if self.random.below(8) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        }
    }

    /// The next message to send. Most are short, some are long.
    fn next(&mut self, ahead: u64) -> String {
        let filler = match self.random.below(100) {
            0 => self.random.below(100_000),
            1..=20 => self.random.below(2000),
            _ => self.random.below(50),
        };
        message(self.instance, self.reported + ahead, filler as usize)
    }

    fn send(&mut self, to: &str) -> Result<()> {
        Event::Sent { to: to.to_owned(), upto: 0 }.send();
        let mut held = writing(&self.mailbox(to))?;
        let mut stream = writing(&self.door(to, "stream"))?;
        loop {
            let mut count = 1;
            let mut text = self.next(0);
            match self.random.below(8) {
                0 => write_to(&self.mailbox(to), &text).context("sending, opened for it")?,
                1 => write_to(&self.door(to, "whole"), &text).context("sending whole")?,
                2 => {
                    let priority = format!("priority/{}", self.random.below(4));
                    write_to(&self.door(to, &priority), &text).context("sending with priority")?;
                }
                3 => write_to(&self.door(to, "tag/some"), &text).context("sending with a tag")?,
                4 => {
                    count = 1 + self.random.below(MAX_LINES);
                    for ahead in 1..count {
                        text += &self.next(ahead);
                    }
                    sure(|| stream.write_all(text.as_bytes())).context("sending lines")?;
                }
                _ => {
                    let sent = sure(|| held.write(text.as_bytes())).context("sending")?;
                    ensure!(sent == text.len(), "{sent} bytes of {} were sent", text.len());
                }
            }
            self.reported += count;
            Event::Sent { to: to.to_owned(), upto: self.reported }.send();
            self.pause();
        }
    }

    /// Each instance receives in another way.
    fn consume(&mut self) -> Result<()> {
        let name = PLAIN[self.random.below(2) as usize];
        let from_me = format!("from/{}", rustix::process::geteuid().as_raw());
        // `from/` can only be read, so the first two are not opened for reading and writing.
        let (path, ways) = match self.random.below(4) {
            0 => (self.door(name, &from_me), 2),
            1 => (self.door(name, "tag/some"), 2),
            _ => (self.mailbox(name), 3),
        };
        let mut buffer = vec![0; 1 << 20];
        match self.random.below(ways) {
            0 => loop {
                received(&read_from(&path).context("receiving, opened for it")?)?;
                self.pause();
            },
            1 => {
                let mut file = sure(|| File::open(&path)).context("opening to receive")?;
                loop {
                    // Every second read is an end of file.
                    let length = sure(|| file.read(&mut buffer)).context("receiving")?;
                    if length > 0 {
                        received(&buffer[..length])?;
                    }
                    self.pause();
                }
            }
            _ => self.receive(&path),
        }
    }

    fn receive(&mut self, path: &Path) -> Result<()> {
        let mut file = both(path)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = sure(|| file.read(&mut buffer)).context("receiving")?;
            received(&buffer[..length])?;
            self.pause();
        }
    }

    fn consume_safely(&mut self) -> Result<()> {
        self.receive(&self.mailbox(KEPT))
    }

    fn consume_stream(&mut self) -> Result<()> {
        let mut file = sure(|| File::open(self.door(KEPT, "stream")))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = sure(|| file.read(&mut buffer)).context("reading stream")?;
            for line in buffer[..length].split_inclusive(|byte| *byte == b'\n') {
                received(line)?;
            }
            self.pause();
        }
    }

    fn work(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let mut lease = both(&self.door(LEASED, "lease"))?;
            loop {
                let length = sure(|| lease.read(&mut buffer)).context("leasing")?;
                let (instance, number) = received(&buffer[..length])?;
                self.pause();
                match self.random.below(20) {
                    0 => break,
                    1 => {
                        sure(|| lease.write_all(b"reject")).context("giving up a message")?;
                    }
                    2..=4 => sure(|| lease.write_all(b"nack")).context("giving back a message")?,
                    _ => {
                        sure(|| lease.write_all(b"ack")).context("acknowledging")?;
                        Event::Settled { instance, number }.send();
                    }
                }
            }
        }
    }

    fn ask(&mut self) -> Result<()> {
        let mut link = both(&self.door(ASKED, "rpc"))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let question = self.next(0);
            self.reported += 1;
            sure(|| link.write_all(question.as_bytes())).context("asking")?;
            let length = sure(|| link.read(&mut buffer)).context("reading an answer")?;
            ensure!(buffer[..length] == *answer(&question).as_bytes(), "the answer is to another question");
            Event::Answered.send();
            self.pause();
        }
    }

    fn serve(&mut self) -> Result<()> {
        let mut link = both(&self.door(ASKED, "serve"))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = sure(|| link.read(&mut buffer)).context("reading a request")?;
            parse(&buffer[..length]).context("a request")?;
            let question = std::str::from_utf8(&buffer[..length])?;
            // ECANCELED: the client was killed, and there is nothing to answer any more (ENOMSG); or the daemon was, and there is.
            let mut cancelled = false;
            loop {
                let answered = link.write_all(answer(question).as_bytes());
                match answered.as_ref().map_err(std::io::Error::raw_os_error) {
                    Err(Some(error)) if error == Errno::CANCELED.raw_os_error() => cancelled = true,
                    Err(Some(error)) if error == Errno::NOMSG.raw_os_error() && cancelled => break,
                    _ => break answered.context("answering")?,
                }
            }
            self.pause();
        }
    }

    fn publish(&mut self) -> Result<()> {
        let mut topic = writing(&self.dir.join("topics/news"))?;
        loop {
            let news = message(self.instance, self.reported, 20);
            sure(|| topic.write_all(news.as_bytes())).context("publishing")?;
            self.reported += 1;
            self.pause();
        }
    }

    fn subscribe(&mut self) -> Result<()> {
        let mut topic = sure(|| File::open(self.dir.join("topics/news")))?;
        let mut delivered: HashMap<u64, u64> = HashMap::new();
        let mut buffer = [0; 4096];
        loop {
            let length = sure(|| topic.read(&mut buffer)).context("reading a topic")?;
            if length == 0 {
                continue;
            }
            let (instance, number) = parse(&buffer[..length])?;
            if let Some(before) = delivered.insert(instance, number) {
                ensure!(before < number, "topic message {number} of {instance} came after {before}");
            }
            Event::Delivered.send();
            self.pause();
        }
    }

    fn increment(&mut self) -> Result<()> {
        let file = both(&self.dir.join("segments/counter"))?;
        loop {
            sure(|| flock(&file, FlockOperation::LockExclusive)).context("locking the counter")?;
            let mut count = [0; 8];
            sure(|| file.read_exact_at(&mut count, 0)).context("reading the counter")?;
            let next = u64::from_le_bytes(count) + 1;
            sure(|| file.write_all_at(&next.to_le_bytes(), 0)).context("writing the counter")?;
            sure(|| flock(&file, FlockOperation::Unlock)).context("unlocking the counter")?;
            Event::Counted.send();
            self.pause();
        }
    }

    /// Creates, uses, renames and removes an object of each kind.
    fn churn(&mut self) -> Result<()> {
        let mut round = 0;
        loop {
            let name = format!("churn-{}-{round}", self.instance);
            let folder = self.mailbox(&name);
            sure(|| fs::create_dir(&folder)).context("creating a folder")?;
            let (a, b) = (folder.join("a"), folder.join("b"));
            for text in ["one", "two", "three"] {
                write_to(&a, text).context("sending to a new mailbox")?;
            }
            sure(|| fs::rename(&a, &b)).context("renaming a mailbox")?;
            let first = read_from(&b).context("receiving from a renamed mailbox")?;
            ensure!(first == b"one", "a renamed mailbox gives {first:?}");
            // Else who has just received does not remove what still waits.
            write_to(&self.door(&format!("{name}/b"), "config/remove"), "any\n")
                .context("allowing to remove")?;
            let reader = sure(|| File::open(&b))?;
            sure(|| fs::remove_file(&b)).context("removing a mailbox with messages")?;
            drop(reader);
            sure(|| fs::remove_dir(&folder)).context("removing a folder")?;

            let segment = self.dir.join("segments").join(&name);
            let file = sure(|| {
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&segment)
            })?;
            sure(|| file.set_len(65_536)).context("growing a segment")?;
            sure(|| file.write_all_at(name.as_bytes(), 4096)).context("writing a segment")?;
            sure(|| fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096))
                .context("punching a hole")?;
            let mut back = vec![0; name.len()];
            sure(|| File::open(&segment)?.read_exact_at(&mut back, 4096)).context("reading a segment")?;
            ensure!(back == name.as_bytes(), "a segment has other bytes than were written");
            sure(|| fs::remove_file(&segment)).context("removing a segment")?;

            let topic = self.dir.join("topics").join(&name);
            sure(|| File::create(&topic)).context("creating a topic")?;
            sure(|| fs::remove_file(&topic)).context("removing a topic")?;
            round += 1;
            Event::Churned.send();
            self.pause();
        }
    }

    /// Does what the administrator of a mount does.
    fn operate(&mut self) -> Result<()> {
        let messages = |mailbox: &str| self.dir.join("control/mailboxes").join(mailbox).join("messages");
        let (from, to) = (messages(PLAIN[0]), messages(PLAIN[1]));
        loop {
            let mut seen = String::new();
            for name in MAILBOXES {
                let status =
                    sure(|| fs::read_to_string(self.door(name, "status"))).context("reading status")?;
                write!(seen, "{}", status.lines().count())?;
            }
            sure(|| fs::read_to_string(self.dir.join("control/status")))
                .context("reading the mount's status")?;
            let names: Vec<_> = sure(|| fs::read_dir(&from)?.take(20).collect::<Result<_, _>>())
                .context("listing messages")?;
            for entry in names {
                let path = entry.path();
                // A consumer may have received it.
                match sure(|| fs::read(&path)) {
                    Ok(bytes) => drop(parse(&bytes).context("reading a waiting message")?),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => bail!("reading a waiting message: {error}"),
                }
                match sure(|| fs::rename(&path, to.join(entry.file_name()))) {
                    Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StorageFull) => {
                        bail!("moving a message: {error}");
                    }
                    _ => {}
                }
            }
            let mut peek = sure(|| {
                let flags = OFlags::NONBLOCK.bits() as i32;
                OpenOptions::new().read(true).custom_flags(flags).open(self.door(PLAIN[1], "peek"))
            })?;
            let mut buffer = vec![0; 1 << 20];
            match sure(|| peek.read(&mut buffer)) {
                Ok(length) => drop(parse(&buffer[..length]).context("peeking")?),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => bail!("peeking: {error}"),
            }
            let maxmsg = 1000 + self.random.below(9000);
            write_to(&self.door(PLAIN[1], "config/maxmsg"), &format!("{maxmsg}\n"))
                .context("setting maxmsg")?;
            std::thread::sleep(Duration::from_millis(self.random.below(20)));
        }
    }

    /// Waits for a message that is never sent.
    fn block(&mut self) -> Result<()> {
        let file = both(&self.mailbox(EMPTY))?;
        if self.random.below(2) == 0 {
            let mut polled = [PollFd::new(&file, PollFlags::IN)];
            // An error is a call that the kernel has cancelled, as a daemon was killed.
            while polled[0].revents().is_empty() || polled[0].revents() == PollFlags::ERR {
                sure(|| poll(&mut polled, None))?;
            }
            bail!("poll returned {:?}, but nothing was sent", polled[0].revents());
        }
        let mut buffer = [0; 64];
        let length = sure(|| (&file).read(&mut buffer))?;
        bail!("received {length} bytes, but nothing was sent");
    }
}

fn answer(question: &str) -> String {
    format!("to {question}")
}
