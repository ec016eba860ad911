//! What a process of the crew does, again and again until it is killed, and how it says so: a line after each deed.

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

use super::ledger::MOST_LINES;
use super::report::{Random, Report, message, parse};
use super::role::Role;

/// Where receivers are killed: each may take one message with it. The operator moves messages from the first to the
/// second.
pub const PLAIN: [&str; 2] = ["plain", "plain2"];
/// Where receivers are never killed: nothing may be lost.
pub const KEPT: &str = "kept";
/// Where workers lease, and are killed: nothing may be lost either.
pub const LEASED: &str = "leased";
/// Where what was given up there goes.
pub const DEAD: &str = "dead";
const ASKED: &str = "asked";
/// Where nothing is ever sent.
const EMPTY: &str = "empty";
pub const MAILBOXES: [&str; 7] = [PLAIN[0], PLAIN[1], KEPT, LEASED, DEAD, ASKED, EMPTY];

/// Does what its role is until it is killed. What goes wrong is said, and then it waits for its end.
pub fn run(role: &str, life: u64, dir: &Path) -> Result<()> {
    let role = Role::named(role).with_context(|| format!("no role {role}"))?;
    let mut actor = Actor { life, dir: dir.to_owned(), random: Random::new(life), said: 0 };
    let error = match role {
        Role::Sender => {
            let to = PLAIN[life as usize % 2];
            actor.send(to)
        }
        Role::KeptSender => actor.send(KEPT),
        Role::LeasedSender => actor.send(LEASED),
        Role::Taker => actor.take(),
        Role::Keeper => actor.keep(),
        Role::Streamer => actor.stream(),
        Role::Worker => actor.work(),
        Role::Client => actor.ask(),
        Role::Server => actor.serve(),
        Role::Herald => actor.herald(),
        Role::Listener => actor.hear(),
        Role::Counter => actor.count(),
        Role::Churner => actor.churn(),
        Role::Operator => actor.operate(),
        Role::Waiter => actor.wait(),
    };
    if let Err(error) = error {
        Report::Wrong(format!("{}: {error:#}", role.name())).say();
    }
    loop {
        std::thread::park();
    }
}

struct Actor {
    life: u64,
    dir: PathBuf,
    random: Random,
    /// Messages sent and said.
    said: u64,
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
    let (life, number) = parse(bytes)?;
    Report::Received { life, number }.say();
    Ok((life, number))
}

impl Actor {
    fn mailbox(&self, name: &str) -> PathBuf {
        self.dir.join("mailboxes").join(name)
    }

    fn door(&self, mailbox: &str, door: &str) -> PathBuf {
        self.dir.join("control/mailboxes").join(mailbox).join(door)
    }

    /// Now and then, so that others get their turn and nobody's steps stay in step.
    fn pause(&mut self) {
        if self.random.below(8) == 0 {
            std::thread::sleep(Duration::from_micros(self.random.below(3000)));
        }
    }

    /// The next message to send; most are short, some long.
    fn next(&mut self, ahead: u64) -> String {
        let filler = match self.random.below(100) {
            0 => self.random.below(100_000),
            1..=20 => self.random.below(2000),
            _ => self.random.below(50),
        };
        message(self.life, self.said + ahead, filler as usize)
    }

    fn send(&mut self, to: &str) -> Result<()> {
        Report::Sent { to: to.to_owned(), upto: 0 }.say();
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
                    count = 1 + self.random.below(MOST_LINES);
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
            self.said += count;
            Report::Sent { to: to.to_owned(), upto: self.said }.say();
            self.pause();
        }
    }

    /// Each life in another way.
    fn take(&mut self) -> Result<()> {
        let name = PLAIN[self.random.below(2) as usize];
        let from_me = format!("from/{}", rustix::process::geteuid().as_raw());
        // From a sender one can only read; so nobody opens the first two for both.
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
                    // Every other read is an end of file.
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

    fn keep(&mut self) -> Result<()> {
        self.receive(&self.mailbox(KEPT))
    }

    fn stream(&mut self) -> Result<()> {
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
                let (life, number) = received(&buffer[..length])?;
                self.pause();
                match self.random.below(20) {
                    0 => break,
                    1 => {
                        lease.write_all(b"reject").context("giving up a message")?;
                    }
                    2..=4 => lease.write_all(b"nack").context("giving back a message")?,
                    _ => {
                        lease.write_all(b"ack").context("acknowledging")?;
                        Report::Settled { life, number }.say();
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
            self.said += 1;
            link.write_all(question.as_bytes()).context("asking")?;
            let length = link.read(&mut buffer).context("reading an answer")?;
            ensure!(buffer[..length] == *answer(&question).as_bytes(), "the answer is to another question");
            Report::Answered.say();
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
                // Its client was killed.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {}
                other => other.context("answering")?,
            }
            self.pause();
        }
    }

    fn herald(&mut self) -> Result<()> {
        let mut topic = writing(&self.dir.join("topics/news"))?;
        loop {
            topic.write_all(message(self.life, self.said, 20).as_bytes()).context("telling news")?;
            self.said += 1;
            self.pause();
        }
    }

    fn hear(&mut self) -> Result<()> {
        let mut topic = File::open(self.dir.join("topics/news"))?;
        let mut heard: HashMap<u64, u64> = HashMap::new();
        let mut buffer = [0; 4096];
        loop {
            let length = topic.read(&mut buffer).context("hearing news")?;
            if length == 0 {
                continue;
            }
            let (life, number) = parse(&buffer[..length])?;
            if let Some(before) = heard.insert(life, number) {
                ensure!(before < number, "news {number} of {life} came after {before}");
            }
            Report::Heard.say();
            self.pause();
        }
    }

    fn count(&mut self) -> Result<()> {
        let file = both(&self.dir.join("segments/counter"))?;
        loop {
            flock(&file, FlockOperation::LockExclusive).context("locking the counter")?;
            let mut count = [0; 8];
            file.read_exact_at(&mut count, 0).context("reading the counter")?;
            let next = u64::from_le_bytes(count) + 1;
            file.write_all_at(&next.to_le_bytes(), 0).context("writing the counter")?;
            flock(&file, FlockOperation::Unlock).context("unlocking the counter")?;
            Report::Counted.say();
            self.pause();
        }
    }

    /// Makes, uses, moves and removes one of each kind.
    fn churn(&mut self) -> Result<()> {
        let mut round = 0;
        loop {
            let name = format!("churn-{}-{round}", self.life);
            let folder = self.mailbox(&name);
            fs::create_dir(&folder).context("making a folder")?;
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
            File::create(&topic).context("making a topic")?;
            fs::remove_file(&topic).context("removing a topic")?;
            round += 1;
            Report::Named.say();
            self.pause();
        }
    }

    /// What whoever looks after a mount does.
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
                // Another may have taken it.
                match fs::read(&path) {
                    Ok(bytes) => drop(parse(&bytes).context("looking at a message")?),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => bail!("looking at a message: {error}"),
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

    /// For what never comes.
    fn wait(&mut self) -> Result<()> {
        let file = both(&self.mailbox(EMPTY))?;
        if self.random.below(2) == 0 {
            let ready = poll(&mut [PollFd::new(&file, PollFlags::IN)], None)?;
            bail!("poll says {ready}, and nothing was sent");
        }
        let mut buffer = [0; 64];
        let length = (&file).read(&mut buffer)?;
        bail!("{length} bytes came, and nothing was sent");
    }
}

fn answer(question: &str) -> String {
    format!("to {question}")
}
