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

use super::event::{Event, Random, message, parse};
use super::names::{ASKED, EMPTY, KEPT, LEASED, MAILBOXES, MAX_LINES, PLAIN};
use super::role::Role;

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
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

fn writing(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).with_context(|| format!("opening {}", path.display()))
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
                0 => fs::write(self.mailbox(to), &text).context("sending, opened for it")?,
                1 => fs::write(self.door(to, "whole"), &text).context("sending whole")?,
                2 => {
                    let priority = format!("priority/{}", self.random.below(4));
                    fs::write(self.door(to, &priority), &text).context("sending with priority")?;
                }
                3 => fs::write(self.door(to, "tag/some"), &text).context("sending with a tag")?,
                4 => {
                    count = 1 + self.random.below(MAX_LINES);
                    for ahead in 1..count {
                        text += &self.next(ahead);
                    }
                    stream.write_all(text.as_bytes()).context("sending lines")?;
                }
                _ => {
                    let sent = held.write(text.as_bytes()).context("sending")?;
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
                received(&fs::read(&path).context("receiving, opened for it")?)?;
                self.pause();
            },
            1 => {
                let mut file = File::open(&path).context("opening to receive")?;
                loop {
                    // Every second read is an end of file.
                    let length = file.read(&mut buffer).context("receiving")?;
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
            let length = file.read(&mut buffer).context("receiving")?;
            received(&buffer[..length])?;
            self.pause();
        }
    }

    fn consume_safely(&mut self) -> Result<()> {
        self.receive(&self.mailbox(KEPT))
    }

    fn consume_stream(&mut self) -> Result<()> {
        let mut file = File::open(self.door(KEPT, "stream"))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut buffer).context("reading stream")?;
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
                let length = lease.read(&mut buffer).context("leasing")?;
                let (instance, number) = received(&buffer[..length])?;
                self.pause();
                match self.random.below(20) {
                    0 => break,
                    1 => {
                        lease.write_all(b"reject").context("giving up a message")?;
                    }
                    2..=4 => lease.write_all(b"nack").context("giving back a message")?,
                    _ => {
                        lease.write_all(b"ack").context("acknowledging")?;
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
            link.write_all(question.as_bytes()).context("asking")?;
            let length = link.read(&mut buffer).context("reading an answer")?;
            ensure!(buffer[..length] == *answer(&question).as_bytes(), "the answer is to another question");
            Event::Answered.send();
            self.pause();
        }
    }

    fn serve(&mut self) -> Result<()> {
        let mut link = both(&self.door(ASKED, "serve"))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = link.read(&mut buffer).context("reading a request")?;
            parse(&buffer[..length]).context("a request")?;
            let question = std::str::from_utf8(&buffer[..length])?;
            match link.write_all(answer(question).as_bytes()) {
                // The client was killed.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {}
                other => other.context("answering")?,
            }
            self.pause();
        }
    }

    fn publish(&mut self) -> Result<()> {
        let mut topic = writing(&self.dir.join("topics/news"))?;
        loop {
            topic.write_all(message(self.instance, self.reported, 20).as_bytes()).context("publishing")?;
            self.reported += 1;
            self.pause();
        }
    }

    fn subscribe(&mut self) -> Result<()> {
        let mut topic = File::open(self.dir.join("topics/news"))?;
        let mut delivered: HashMap<u64, u64> = HashMap::new();
        let mut buffer = [0; 4096];
        loop {
            let length = topic.read(&mut buffer).context("reading a topic")?;
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
            flock(&file, FlockOperation::LockExclusive).context("locking the counter")?;
            let mut count = [0; 8];
            file.read_exact_at(&mut count, 0).context("reading the counter")?;
            let next = u64::from_le_bytes(count) + 1;
            file.write_all_at(&next.to_le_bytes(), 0).context("writing the counter")?;
            flock(&file, FlockOperation::Unlock).context("unlocking the counter")?;
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
            fs::create_dir(&folder).context("creating a folder")?;
            let (a, b) = (folder.join("a"), folder.join("b"));
            for text in ["one", "two", "three"] {
                fs::write(&a, text).context("sending to a new mailbox")?;
            }
            fs::rename(&a, &b).context("renaming a mailbox")?;
            let first = fs::read(&b).context("receiving from a renamed mailbox")?;
            ensure!(first == b"one", "a renamed mailbox gives {first:?}");
            let reader = File::open(&b)?;
            fs::remove_file(&b).context("removing a mailbox with messages")?;
            drop(reader);
            fs::remove_dir(&folder).context("removing a folder")?;

            let segment = self.dir.join("segments").join(&name);
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&segment)?;
            file.set_len(65_536).context("growing a segment")?;
            file.write_all_at(name.as_bytes(), 4096).context("writing a segment")?;
            fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, 4096)
                .context("punching a hole")?;
            let mut back = vec![0; name.len()];
            File::open(&segment)?.read_exact_at(&mut back, 4096).context("reading a segment")?;
            ensure!(back == name.as_bytes(), "a segment has other bytes than were written");
            fs::remove_file(&segment).context("removing a segment")?;

            let topic = self.dir.join("topics").join(&name);
            File::create(&topic).context("creating a topic")?;
            fs::remove_file(&topic).context("removing a topic")?;
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
                let status = fs::read_to_string(self.door(name, "status")).context("reading status")?;
                write!(seen, "{}", status.lines().count())?;
            }
            fs::read_to_string(self.dir.join("control/status")).context("reading the mount's status")?;
            let names: Vec<_> =
                fs::read_dir(&from)?.take(20).collect::<Result<_, _>>().context("listing messages")?;
            for entry in names {
                let path = entry.path();
                // A consumer may have received it.
                match fs::read(&path) {
                    Ok(bytes) => drop(parse(&bytes).context("reading a waiting message")?),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => bail!("reading a waiting message: {error}"),
                }
                match fs::rename(&path, to.join(entry.file_name())) {
                    Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StorageFull) => {
                        bail!("moving a message: {error}");
                    }
                    _ => {}
                }
            }
            let mut peek = OpenOptions::new()
                .read(true)
                .custom_flags(OFlags::NONBLOCK.bits() as i32)
                .open(self.door(PLAIN[1], "peek"))?;
            let mut buffer = vec![0; 1 << 20];
            match peek.read(&mut buffer) {
                Ok(length) => drop(parse(&buffer[..length]).context("peeking")?),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => bail!("peeking: {error}"),
            }
            let maxmsg = 1000 + self.random.below(9000);
            fs::write(self.door(PLAIN[1], "config/maxmsg"), format!("{maxmsg}\n"))
                .context("setting maxmsg")?;
            std::thread::sleep(Duration::from_millis(self.random.below(20)));
        }
    }

    /// Waits for a message that is never sent.
    fn block(&mut self) -> Result<()> {
        let file = both(&self.mailbox(EMPTY))?;
        if self.random.below(2) == 0 {
            let ready = poll(&mut [PollFd::new(&file, PollFlags::IN)], None)?;
            bail!("poll returned {ready}, but nothing was sent");
        }
        let mut buffer = [0; 64];
        let length = (&file).read(&mut buffer)?;
        bail!("received {length} bytes, but nothing was sent");
    }
}

fn answer(question: &str) -> String {
    format!("to {question}")
}
