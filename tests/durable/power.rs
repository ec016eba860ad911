//! Power cuts: a daemon works on a disk that records every write and flush; the disk is made again as a cut at any point could
//! leave it, mounted, and its store is read. `IPCFS_CUTS` sets how many cuts each file system gets.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use parking_lot::Mutex;

use crate::disk::{Cuts, Disk};
use crate::{Stored, common};

/// What was done with a message, each with the number of operations of the disk by then.
#[derive(Debug, Default, Clone)]
struct Fate {
    /// write(2) was called, and has returned.
    sent: (usize, Option<usize>),
    /// Somebody began to take, remove or move it.
    touched: Option<usize>,
    /// `ack` or rm(1) has returned: it is gone for good.
    gone: Option<usize>,
    /// mv(1) has returned: it is in the other mailbox.
    moved: Option<usize>,
}

/// What the users of the mount know. By the name of the mailbox and the body.
type Ledger = Mutex<BTreeMap<String, Fate>>;

struct Run<'a> {
    disk: &'a Disk,
    stored: &'a Stored,
    ledger: Ledger,
}

impl Run<'_> {
    fn note(&self, body: &str, change: impl FnOnce(&mut Fate, usize)) {
        let now = self.disk.recorded();
        change(self.ledger.lock().entry(body.to_owned()).or_default(), now);
    }

    fn path(&self, below: &str) -> PathBuf {
        self.stored.place.path(below)
    }

    fn send(&self, path: &Path, body: &str) {
        self.note(body, |fate, now| fate.sent = (now, None));
        fs::write(path, body).unwrap();
        self.note(body, |fate, now| fate.sent.1 = Some(now));
    }

    /// Messages one by one, and now and then several lines in one write.
    fn send_many(&self, mailbox: &str, sender: usize, count: usize) {
        let path = self.path(&format!("mailboxes/{mailbox}"));
        for n in 0..count {
            let body = |n: usize| format!("{mailbox} {sender} {n:05} {}\n", "x".repeat(n * 37 % 3000));
            if n % 8 == 7 {
                let lines: Vec<String> = (0..20).map(|line| body(n * 100 + line)).collect();
                for line in &lines {
                    self.note(line, |fate, now| fate.sent = (now, None));
                }
                fs::write(self.path(&format!("control/mailboxes/{mailbox}/stream")), lines.concat()).unwrap();
                for line in &lines {
                    self.note(line, |fate, now| fate.sent.1 = Some(now));
                }
            } else {
                self.send(&path, &body(n * 100));
            }
        }
    }

    /// Long messages, so that files are begun and dropped.
    fn fill(&self, mailbox: &str, count: usize) {
        let path = self.path(&format!("mailboxes/{mailbox}"));
        for n in 0..count {
            self.send(&path, &format!("{mailbox} 0 {n:05} {}", "x".repeat(300_000)));
            self.receive(mailbox, 1);
        }
    }

    fn receive(&self, mailbox: &str, count: usize) {
        let path = self.path(&format!("mailboxes/{mailbox}"));
        for _ in 0..count {
            let before = self.disk.recorded();
            let body = fs::read_to_string(&path).unwrap();
            self.note(&body, |fate, _| fate.touched = Some(before));
        }
    }

    /// Leases that are acknowledged.
    fn work(&self, mailbox: &str, count: usize) {
        let door = self.path(&format!("control/mailboxes/{mailbox}/lease"));
        let mut door = OpenOptions::new().read(true).write(true).open(door).unwrap();
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..count {
            let before = self.disk.recorded();
            let length = door.read(&mut buffer).unwrap();
            let body = std::str::from_utf8(&buffer[..length]).unwrap().to_owned();
            self.note(&body, |fate, _| fate.touched = Some(before));
            door.write_all(b"ack").unwrap();
            self.note(&body, |fate, now| fate.gone = Some(now));
        }
    }

    /// Removes some messages, and moves others to another mailbox.
    fn tidy(&self, mailbox: &str, to: &str, count: usize) {
        let messages = self.path(&format!("control/mailboxes/{mailbox}/messages"));
        let other = self.path(&format!("control/mailboxes/{to}/messages"));
        let mut done = 0;
        while done < count {
            for entry in fs::read_dir(&messages).unwrap().flatten().take(count - done) {
                let before = self.disk.recorded();
                // Another may have taken it meanwhile.
                let Ok(body) = fs::read_to_string(entry.path()) else { continue };
                let moves = done % 2 == 0;
                let result = if moves {
                    fs::rename(entry.path(), other.join(entry.file_name()))
                } else {
                    fs::remove_file(entry.path())
                };
                if result.is_ok() {
                    self.note(&body, |fate, now| {
                        fate.touched = Some(fate.touched.map_or(before, |at| at.min(before)));
                        *(if moves { &mut fate.moved } else { &mut fate.gone }) = Some(now);
                    });
                    done += 1;
                }
            }
        }
    }
}

/// What the store on a disk after a power cut says: the bodies in each mailbox, in order.
fn contents(store: &Stored) -> Result<BTreeMap<String, Vec<String>>, String> {
    let verify = store.command(&["verify"]);
    if verify.code != Some(0) || !verify.stdout.contains(" 0 records lost") {
        return Err(format!("a power cut is no damage: {verify:?}"));
    }
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let dump = common::ipcfs().arg("store").arg(&store.store).arg("dump").output().unwrap();
    for line in dump.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let text =
            |key: &str| line[key].as_str().map(str::to_owned).ok_or_else(|| format!("no {key}: {line}"));
        found.entry(text("mailbox")?).or_default().push(text("body")?);
    }
    Ok(found)
}

/// The beginning of a body, which tells it from all others.
fn short(body: &str) -> &str {
    body.get(..20).unwrap_or(body)
}

fn check(
    found: &BTreeMap<String, Vec<String>>,
    ledger: &BTreeMap<String, Fate>,
    cut: usize,
) -> Result<(), String> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for (mailbox, bodies) in found {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for body in bodies {
            let Some(fate) = ledger.get(body).filter(|fate| fate.sent.0 <= cut) else {
                return Err(format!("nobody has sent {}", short(body)));
            };
            if places.insert(body, mailbox).is_some() {
                return Err(format!("twice: {}", short(body)));
            }
            if fate.gone.is_some_and(|at| at <= cut) {
                return Err(format!("it has come back: {}", short(body)));
            }
            if mailbox == "moved" {
                continue;
            }
            // Those of one sender are in order: what leads each body is its mailbox, sender and number.
            let (sender, number) = body.split_at(body.find(' ').map_or(0, |at| at + 2));
            if last.insert(sender, number).is_some_and(|before| before >= number) {
                return Err(format!("out of order in {mailbox}: {}", short(body)));
            }
        }
    }
    for (body, fate) in ledger.iter().filter(|(body, _)| !body.starts_with("daemon")) {
        let sent = fate.sent.1.is_some_and(|at| at <= cut);
        let touched = fate.touched.is_some_and(|at| at <= cut);
        if sent && !touched && !places.contains_key(body.as_str()) {
            return Err(format!("lost: {}", short(body)));
        }
        if fate.moved.is_some_and(|at| at <= cut) && places.get(body.as_str()) != Some(&"moved") {
            return Err(format!("not where it was moved to: {}", short(body)));
        }
    }
    Ok(())
}

fn power_cuts(kind: &str, size: u64) {
    let cuts: usize = std::env::var("IPCFS_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if Disk::tools(kind).is_none() || !known.lines().any(|line| line.trim() == kind) {
        return eprintln!("SKIP: needs mkfs.{kind} and a kernel with it");
    }
    let Some(mut disk) = Disk::new(size) else { return };
    disk.format(kind);
    let Some(stored) = Stored::at(disk.path().join("store")) else { return };
    stored.mount();
    for (name, how) in [("fsync", "fsync"), ("moved", "fsync"), ("daemon", "daemon"), ("filler", "fsync")] {
        stored.durable(name, how);
        stored.set(name, "maxmsg", "max");
    }
    let begin = disk.record();
    let run = Run { disk: &disk, stored: &stored, ledger: Ledger::default() };
    thread::scope(|scope| {
        for sender in 0..4 {
            let run = &run;
            scope.spawn(move || run.send_many("fsync", sender, 60));
            scope.spawn(move || run.send_many("daemon", sender, 60));
        }
        scope.spawn(|| run.fill("filler", 150));
        scope.spawn(|| run.receive("fsync", 60));
        scope.spawn(|| run.receive("daemon", 60));
        scope.spawn(|| run.work("fsync", 60));
        scope.spawn(|| run.tidy("fsync", "moved", 40));
    });
    let ledger = run.ledger.into_inner();
    let ops = disk.end_record();
    assert!(ledger.values().filter(|fate| fate.moved.is_some()).count() == 20);
    stored.place.kill_daemon();
    stored.wait_for_end();

    let mut random = 1_u64;
    let mut choose = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    let mut points: Vec<usize> = (0..cuts).map(|_| choose(ops.len() + 1)).collect();
    points.sort_unstable();
    let mut images = Cuts::new(begin, &ops);
    for (count, cut) in points.into_iter().enumerate() {
        let image = images.image(cut, &mut choose);
        let result = disk.replace(image, kind).and_then(|()| contents(&stored)).and_then(|found| {
            check(&found, &ledger, cut)?;
            // Now and then a daemon opens it, which receives the same.
            if count % 20 == 0 {
                stored.mount();
                for (mailbox, bodies) in &found {
                    assert_eq!(stored.figure(mailbox, "depth"), bodies.len() as u64);
                    let mut stream = File::options();
                    let stream = stream.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
                    let door = stored.place.path(format!("control/mailboxes/{mailbox}/stream"));
                    let (mut stream, mut all) = (stream.open(door).unwrap(), Vec::new());
                    let mut buffer = vec![0; 1 << 20];
                    while let Ok(length) = stream.read(&mut buffer) {
                        all.extend_from_slice(&buffer[..length]);
                    }
                    assert!(all == bodies.concat().into_bytes(), "not what the store had of {mailbox}");
                }
                stored.place.kill_daemon();
                stored.wait_for_end();
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{kind}, cut {cut} of {}, number {count}: {error}", ops.len());
        }
    }
    eprintln!("{kind}: {cuts} cuts in {} writes and flushes", ops.len());
}

#[test]
fn after_a_power_cut_everything_that_was_promised_is_there_ext4() {
    power_cuts("ext4", 160 << 20);
}

#[test]
fn after_a_power_cut_everything_that_was_promised_is_there_xfs() {
    power_cuts("xfs", 400 << 20);
}
