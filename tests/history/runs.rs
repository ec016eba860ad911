//! The runs: processes that write and read, and a killer.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::checker::{History, Id, Received, Written, check};
use crate::common::{self, Mount, reap, wait_for};
use crate::tools::{BOTH, READ, TRUNC, WRITE, again, open, read, role, try_receive};

const WRITERS: u32 = 8;
const READERS: usize = 8;
/// Messages that a run consists of, at least.
const MESSAGES: u64 = 15_000;
/// Whoever is killed in a run is killed so often at least.
const KILLS: usize = 150;

const TEST: &str = "runs::plays_a_writer_or_a_reader";

/// One process's life. A writer or reader that follows a killed one is another one, with a number and a log of its own.
#[derive(Debug)]
struct Life {
    child: Child,
    log: PathBuf,
    number: u32,
    killed: bool,
}

struct Run {
    mount: Mount,
    logs: tempfile::TempDir,
    writers: Vec<Life>,
    readers: Vec<Life>,
    past_writers: Vec<Life>,
    past_readers: Vec<Life>,
    next: u32,
    random: u64,
}

impl Run {
    fn new(seed: u64) -> Option<Run> {
        let mount = common::mount()?;
        mount.make_mailbox("box", &[("maxmsg", "16")]);
        let logs = tempfile::tempdir().unwrap();
        let mut run = Run {
            mount,
            logs,
            writers: Vec::new(),
            readers: Vec::new(),
            past_writers: Vec::new(),
            past_readers: Vec::new(),
            next: 0,
            random: seed | 1,
        };
        for _ in 0..WRITERS {
            let writer = run.start("writer");
            run.writers.push(writer);
        }
        for _ in 0..READERS {
            let reader = run.start("reader");
            run.readers.push(reader);
        }
        Some(run)
    }

    fn start(&mut self, what: &str) -> Life {
        let number = self.next;
        self.next += 1;
        let log = self.logs.path().join(format!("{what}-{number}"));
        File::create(&log).unwrap();
        let path = self.mount.mailbox("box");
        let role = format!("{what} {number} {} {}", path.display(), log.display());
        let child = again(TEST, &role).stderr(Stdio::inherit()).spawn().unwrap();
        Life { child, log, number, killed: false }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 16).unwrap() % bound
    }

    /// Kills one at random and starts another in its place, after some more messages have gone through.
    fn kill_one(&mut self, writer: bool) {
        let target = self.received() + self.below(100) as u64;
        wait_for("messages to go through", || self.received() >= target);
        let place = self.below(if writer { self.writers.len() } else { self.readers.len() });
        let fresh = self.start(if writer { "writer" } else { "reader" });
        let (living, past) = if writer {
            (&mut self.writers, &mut self.past_writers)
        } else {
            (&mut self.readers, &mut self.past_readers)
        };
        let mut old = std::mem::replace(&mut living[place], fresh);
        old.child.kill().unwrap();
        reap(&mut old.child);
        old.killed = true;
        past.push(old);
    }

    fn received(&self) -> u64 {
        self.mount.figure("mailboxes/box/status", "received")
    }

    /// Lets the writers end, then the readers, and gathers what they wrote down, and what nobody has fetched.
    fn finish(mut self) -> History {
        wait_for("the messages to go through", || self.received() >= MESSAGES);
        for writer in &mut self.writers {
            // At its next message.
            fs::write(writer.log.with_extension("stop"), "").unwrap();
        }
        for mut writer in std::mem::take(&mut self.writers) {
            assert!(reap(&mut writer.child).success());
            self.past_writers.push(writer);
        }
        self.mount.wait_for_figure("box", "waiting_readers", READERS as u64);
        self.mount.wait_for_figure("box", "depth", 0);
        let path = self.mount.mailbox("box");
        let mut rest = Vec::new();
        while let Ok(body) = try_receive(&path) {
            rest.push(body);
        }
        fs::remove_file(&path).unwrap();
        for mut reader in std::mem::take(&mut self.readers) {
            assert!(reap(&mut reader.child).success());
            self.past_readers.push(reader);
        }
        let written = self.past_writers.iter().map(|writer| {
            let logged = u32::try_from(fs::metadata(&writer.log).unwrap().len()).unwrap();
            (writer.number, Written { logged, killed: writer.killed })
        });
        let mut received: Vec<_> = self.past_readers.iter().map(Life::received).collect();
        received.push(Received { bodies: rest, killed: false });
        History { written: written.collect::<HashMap<_, _>>(), received }
    }
}

impl Life {
    /// A reader's log: each message behind its length. Each was appended by one write(2), which the death of its caller
    /// cuts at most at the end of a page: what is cut was in hand.
    fn received(&self) -> Received {
        let log = fs::read(&self.log).unwrap();
        let mut bodies = Vec::new();
        let mut rest = &log[..];
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let Some((body, behind)) = behind.split_at_checked(u32::from_le_bytes(*length) as usize) else {
                break;
            };
            bodies.push(body.to_vec());
            rest = behind;
        }
        assert!(rest.is_empty() || self.killed);
        Received { bodies, killed: self.killed }
    }
}

/// Plays a writer or a reader where this program was started as one, and is nothing otherwise.
#[test]
fn plays_a_writer_or_a_reader() {
    let Some(role) = role() else { return };
    let words: Vec<_> = role.split(' ').collect();
    let (number, path, log) = (words[1].parse().unwrap(), Path::new(words[2]), Path::new(words[3]));
    let play = if words[0] == "writer" { play_writer } else { play_reader };
    play(number, path, log);
    std::process::exit(0);
}

/// Sends one message after the other, and writes one byte down for each that has been sent.
fn play_writer(writer: u32, path: &Path, log: &Path) {
    let stop = log.with_extension("stop");
    let log = open(log, WRITE | OFlags::APPEND);
    let mut kept = None;
    for number in 0.. {
        if stop.exists() {
            return;
        }
        // By a descriptor of its own, as `echo >` does, or by one that stays open.
        let body = Id { writer, number }.body();
        let sent = if writer.is_multiple_of(2) {
            rustix::io::write(kept.get_or_insert_with(|| open(path, WRITE)), &body)
        } else {
            rustix::io::write(open(path, WRITE | TRUNC), &body)
        };
        assert_eq!(sent, Ok(body.len()));
        assert_eq!(rustix::io::write(&log, b"."), Ok(1));
    }
}

/// Receives until the mailbox is removed, and writes each message down.
fn play_reader(reader: u32, path: &Path, log: &Path) {
    let log = open(log, WRITE | OFlags::APPEND);
    let file = open(path, if reader.is_multiple_of(2) { READ } else { BOTH });
    loop {
        match read(&file, 4096) {
            Ok(end) if end.is_empty() && reader.is_multiple_of(2) => {}
            Ok(body) => {
                let entry = [&(body.len() as u32).to_le_bytes()[..], &body[..]].concat();
                assert_eq!(rustix::io::write(&log, &entry), Ok(entry.len()));
            }
            Err(error) => return assert_eq!(error, Errno::IDRM),
        }
    }
}

/// One run; whoever is named is killed, again and again.
fn run(kill_writers: bool, kill_readers: bool) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("IPCFS_TEST_SEED").map_or(now, |seed| seed.parse().unwrap());
    eprintln!("IPCFS_TEST_SEED={seed}");
    let Some(mut run) = Run::new(seed) else { return };
    for _ in 0..KILLS {
        if kill_writers {
            run.kill_one(true);
        }
        if kill_readers {
            run.kill_one(false);
        }
    }
    let history = run.finish();
    let received = || history.received.iter().map(|reader| &reader.bodies);
    let logged: u32 = history.written.values().map(|written| written.logged).sum();
    eprintln!("{logged} messages written down as sent, {} received", received().map(Vec::len).sum::<usize>());
    assert!(
        u64::from(logged) >= MESSAGES / 2
            && received().filter(|bodies| !bodies.is_empty()).count() >= READERS
    );
    assert_eq!(check(&history), Ok(()));
}

#[test]
fn without_deaths_each_message_arrives_once_and_in_order() {
    run(false, false);
}

#[test]
fn dying_writers_lose_and_double_nothing() {
    run(true, false);
}

#[test]
fn dying_readers_take_with_them_what_they_had_in_hand_and_no_more() {
    run(false, true);
}

#[test]
fn dying_writers_and_readers_together_do_no_more_harm() {
    run(true, true);
}
