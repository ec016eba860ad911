//! Durable mailboxes: what survives `kill -9` of the daemon, a full disk, and a store that cannot be used.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers of tests

mod common;
#[path = "durable/disk.rs"]
mod disk;
#[path = "durable/forge.rs"]
mod forge;
#[path = "durable/hung.rs"]
mod hung;
#[path = "cli/place.rs"]
mod place;
#[path = "durable/power.rs"]
mod power;
#[path = "durable/replay.rs"]
mod replay;
#[path = "durable/settled.rs"]
mod settled;
#[path = "durable/trouble.rs"]
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use place::{Outcome, Place, run};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A place with a store beside it.
struct Stored {
    place: Place,
    store: PathBuf,
}

impl Stored {
    fn new() -> Option<Stored> {
        let place = Place::new()?;
        let store = place.beside("store");
        Some(Stored { place, store })
    }

    fn at(store: PathBuf) -> Option<Stored> {
        Place::new().map(|place| Stored { place, store })
    }

    fn mount(&self) {
        let outcome = self.try_mount(&[]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }

    fn try_mount(&self, options: &[&str]) -> Outcome {
        self.place.try_mount(&[&["--store", self.store.to_str().unwrap()], options].concat())
    }

    /// A mailbox that is kept.
    fn durable(&self, name: &str, how: &str) -> PathBuf {
        let path = self.place.path("mailboxes").join(name);
        drop(File::create(&path).unwrap());
        self.set(name, "durable", how);
        path
    }

    fn set(&self, name: &str, key: &str, value: &str) {
        fs::write(self.place.path(format!("control/mailboxes/{name}/config/{key}")), value).unwrap();
    }

    fn get(&self, name: &str, file: &str) -> String {
        fs::read_to_string(self.place.path(format!("control/mailboxes/{name}/{file}"))).unwrap()
    }

    fn figure(&self, name: &str, key: &str) -> u64 {
        let text = if name.is_empty() {
            fs::read_to_string(self.place.path("control/status")).unwrap()
        } else {
            self.get(name, "status")
        };
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
    }

    /// Waits until a daemon that was killed is gone. Its last fdatasync(2) may take long.
    fn wait_for_end(&self) {
        let is_free = || {
            let lock = File::open(self.store.join("lock"));
            let how = rustix::fs::FlockOperation::NonBlockingLockExclusive;
            lock.map_or(true, |lock| rustix::fs::flock(lock, how).is_ok())
        };
        common::wait_for("the daemon to be gone", || self.place.processes().is_empty() && is_free());
    }

    /// Kills the daemon and mounts again.
    fn crash(&self) {
        self.place.kill_daemon();
        self.wait_for_end();
        self.mount();
    }

    fn command(&self, words: &[&str]) -> Outcome {
        run(common::ipcfs().arg("store").arg(&self.store).args(words))
    }
}

fn receive(path: &std::path::Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn messages_of_a_store_expire_by_themselves() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "daemon");
    stored.set("jobs", "ttl", "300ms");
    fs::write(&path, "job").unwrap();
    stored.crash();
    // Nothing is done with the mailbox but to look.
    common::wait_for("the message to expire", || stored.figure("jobs", "expired") == 1);
    assert_eq!(stored.figure("jobs", "depth"), 0);
}

#[test]
fn what_was_accepted_is_there_after_kill_9_and_what_was_taken_is_not() {
    for how in ["daemon", "fsync"] {
        let Some(stored) = Stored::new() else { return };
        stored.mount();
        let path = stored.durable("jobs", how);
        for n in 0..5 {
            fs::write(&path, format!("job {n}\n")).unwrap();
        }
        assert_eq!(receive(&path), b"job 0\n");
        common::wait_for("the receipt to be written", || {
            stored.command(&["ls", "--json"]).stdout.contains("\"messages\":4")
        });
        stored.crash();
        assert_eq!((stored.figure("jobs", "depth"), stored.figure("jobs", "sent")), (4, 5));
        for n in 1..5 {
            assert_eq!(receive(&path), format!("job {n}\n").into_bytes());
        }
        // And after an orderly end.
        fs::write(&path, "last").unwrap();
        assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
        stored.mount();
        assert_eq!(receive(&path), b"last");
        assert_eq!(stored.figure("jobs", "received"), 6);
    }
}

#[test]
fn what_was_purged_stays_so() {
    for how in ["daemon", "fsync"] {
        let Some(stored) = Stored::new() else { return };
        stored.mount();
        let path = stored.durable("jobs", how);
        let door = |name: &str| stored.place.path(format!("control/mailboxes/jobs/{name}"));
        fs::write(door("stream"), "line\n".repeat(2000)).unwrap();
        fs::write(door("tag/red"), "red").unwrap();
        fs::write(&path, "last").unwrap();
        fs::write(door("purge"), "tag red").unwrap();
        assert_eq!(stored.figure("jobs", "depth"), 2001);
        fs::write(door("purge"), "all").unwrap();
        fs::write(&path, "young").unwrap();
        // Nothing is waited for: the answer has come when all of it is kept.
        stored.crash();
        assert_eq!((stored.figure("jobs", "depth"), stored.figure("jobs", "removed")), (1, 2002));
        assert_eq!(receive(&path), b"young");
    }
}

#[test]
fn what_is_delayed_stays_so_until_its_time() {
    for how in ["daemon", "fsync"] {
        let Some(stored) = Stored::new() else { return };
        stored.mount();
        let path = stored.durable("jobs", how);
        let door = |name: &str| stored.place.path(format!("control/mailboxes/jobs/{name}"));
        fs::write(&path, "failed").unwrap();
        let mut worker = OpenOptions::new().read(true).write(true).open(door("lease")).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(worker.read(&mut buffer).unwrap(), 6);
        let began = SystemTime::now();
        worker.write_all(b"nack 2s").unwrap();
        fs::write(door("delay/2s"), "later").unwrap();
        fs::write(door("delay/1h"), "much later").unwrap();
        drop(worker);
        stored.crash();
        assert_eq!((stored.figure("jobs", "sent"), stored.figure("jobs", "redelivered")), (3, 1));
        let delayed = stored.figure("jobs", "delayed");
        let is_early = began.elapsed().is_ok_and(|passed| passed < Duration::from_secs(2));
        assert!(!is_early || delayed == 3, "none may have come: {delayed}");
        fs::write(&path, "now").unwrap();
        let mut all = [receive(&path), receive(&path), receive(&path)];
        assert!(began.elapsed().is_ok_and(|passed| passed >= Duration::from_secs(2)));
        all.sort();
        assert_eq!(all, [&b"failed"[..], b"later", b"now"]);
        assert_eq!((stored.figure("jobs", "delayed"), stored.figure("jobs", "depth")), (1, 0));
        // What has come stays where it is.
        fs::write(door("delay/1ms"), "came").unwrap();
        common::wait_for("it to come", || stored.figure("jobs", "depth") == 1);
        fs::write(&path, "behind").unwrap();
        common::wait_for("the receipts to be written", || {
            stored.command(&["ls", "--json"]).stdout.contains("\"messages\":3")
        });
        stored.crash();
        assert_eq!((stored.figure("jobs", "delayed"), stored.figure("jobs", "redelivered")), (1, 1));
        assert_eq!([receive(&path), receive(&path)], [&b"came"[..], b"behind"]);
    }
}

#[test]
fn why_a_message_died_is_kept() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    drop(stored.durable("grave", "daemon"));
    let path = stored.durable("jobs", "daemon");
    stored.set("jobs", "dead_letter", "grave");
    fs::write(&path, "job").unwrap();
    let door = stored.place.path("control/mailboxes/jobs/lease");
    let mut worker = OpenOptions::new().read(true).write(true).open(door).unwrap();
    assert_eq!(worker.read(&mut [0; 10]).unwrap(), 3);
    worker.write_all(b"reject").unwrap();
    stored.crash();
    let letters = fs::read_dir(stored.place.path("control/mailboxes/grave/messages")).unwrap();
    let mut value = [0; 20];
    for letter in letters {
        let length =
            rustix::fs::getxattr(letter.unwrap().path(), "user.ipcfs.reason", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"rejected");
    }
    assert_eq!(stored.figure("grave", "depth"), 1);
}

#[test]
fn a_mailbox_that_is_not_durable_is_gone() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    stored.durable("kept", "fsync");
    let path = stored.durable("dropped", "fsync");
    fs::write(&path, "x").unwrap();
    stored.set("dropped", "durable", "off");
    fs::write(stored.place.path("mailboxes/plain"), "x").unwrap();
    stored.crash();
    let names: Vec<_> =
        fs::read_dir(stored.place.path("mailboxes")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["kept"]);
}

#[test]
fn everything_that_a_message_and_a_mailbox_have_is_kept() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    fs::create_dir(stored.place.path("mailboxes/team")).unwrap();
    stored.set("team", "durable", "fsync");
    stored.set("team", "maxmsg", "77");
    let path = stored.place.path("mailboxes/team/jobs");
    fs::write(&path, "plain").unwrap();
    assert_eq!(stored.get("team/jobs", "config/durable"), "fsync\n");
    let door = |name: &str| stored.place.path(format!("control/mailboxes/team/jobs/{name}"));
    fs::write(door("priority/9"), "urgent").unwrap();
    fs::write(door("tag/red"), [0xff, b'\n', 0]).unwrap();
    fs::write(door("stream"), "a\nb\nc\n").unwrap();
    stored.set("team/jobs", "ttl", "1h");
    fs::write(&path, "mortal").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    std::os::unix::fs::chown(&path, Some(common::USER), Some(common::OTHER)).unwrap();
    rustix::fs::setxattr(&path, "user.note", b"\x00bytes", rustix::fs::XattrFlags::empty()).unwrap();
    let moon = SystemTime::UNIX_EPOCH - Duration::from_secs(14_182_940);
    File::open(&path).unwrap().set_times(fs::FileTimes::new().set_accessed(moon)).unwrap();
    drop(stored.durable("dead", "daemon"));
    stored.set("team/jobs", "dead_letter", "dead");
    fs::rename(stored.place.path("mailboxes/team"), stored.place.path("mailboxes/crew")).unwrap();
    let shown = || {
        let folder = stored.place.path("control/mailboxes/crew/jobs/messages");
        let mut messages = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let about = fs::metadata(&path).unwrap();
            let attributes: Vec<Vec<u8>> = ["pid", "priority", "deliveries", "tag", "expires"]
                .iter()
                .map(|name| {
                    let mut value = vec![0; 100];
                    let read = rustix::fs::getxattr(&path, format!("user.ipcfs.{name}"), &mut value[..]);
                    value.truncate(read.unwrap_or(0));
                    value
                })
                .collect();
            let times = (about.mtime(), about.mtime_nsec(), about.uid(), about.gid());
            let name = path.file_name().unwrap().to_owned();
            assert!(messages.insert(name, (fs::read(&path).unwrap(), times, attributes)).is_none());
        }
        messages
    };
    let before = shown();
    assert_eq!(before.len(), 7);
    stored.crash();
    assert_eq!(shown(), before);
    let path = stored.place.path("mailboxes/crew/jobs");
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o622, common::USER, common::OTHER));
    assert_eq!(about.accessed().unwrap(), moon, "the first man on it");
    let mut value = [0; 10];
    assert_eq!(rustix::fs::getxattr(&path, "user.note", &mut value[..]), Ok(6));
    assert_eq!(stored.get("crew/jobs", "config/maxmsg"), "77\n");
    assert_eq!(stored.get("crew/jobs", "config/ttl"), "1h\n");
    assert_eq!(stored.get("crew/jobs", "config/dead_letter"), "dead\n");
    assert_eq!(stored.get("crew", "config/durable"), "fsync\n");
    let order = ["urgent", "plain"];
    for expected in order {
        assert_eq!(receive(&path), expected.as_bytes());
    }
    // New messages come behind the old ones, with new ids.
    fs::write(&path, "new").unwrap();
    let rest: Vec<Vec<u8>> = (0..6).map(|_| receive(&path)).collect();
    let expected: [&[u8]; 6] = [&[0xff, b'\n', 0], b"a\n", b"b\n", b"c\n", b"mortal", b"new"];
    assert_eq!(rest, expected);
}

#[test]
fn a_lease_comes_back_first_with_one_delivery_more_and_what_was_settled_stays_so() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    for body in ["one", "two", "three"] {
        fs::write(&path, body).unwrap();
    }
    let lease = || {
        let door = stored.place.path("control/mailboxes/jobs/lease");
        OpenOptions::new().read(true).write(true).open(door).unwrap()
    };
    let (mut acked, mut held) = (lease(), lease());
    let mut buffer = [0; 10];
    assert_eq!(acked.read(&mut buffer).unwrap(), 3);
    acked.write_all(b"ack").unwrap();
    assert_eq!(held.read(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer[..3], b"two");
    common::wait_for("the lease to be written", || {
        stored.command(&["ls", "--json"]).stdout.contains("\"leased\":1")
    });
    stored.crash();
    let mut lines = vec![0; 1000];
    let mut json = File::open(stored.place.path("control/mailboxes/jobs/json")).unwrap();
    let read = json.read(&mut lines).unwrap();
    let lines: Vec<serde_json::Value> = lines[..read]
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let shown: Vec<_> =
        lines.iter().map(|line| (line["body"].as_str(), line["deliveries"].as_u64())).collect();
    assert_eq!(shown, [(Some("two"), Some(1)), (Some("three"), Some(0))]);
}

/// Senders and receivers in threads, and a daemon that is killed again and again. A message is `sender.number`.
fn under_load(how: &str, kills: usize) {
    const SENDERS: usize = 4;
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("load", how);
    stored.set("load", "maxmsg", "50");
    let (mut accepted, mut next): (Vec<Vec<u64>>, u64) = (vec![Vec::new(); SENDERS], 0);
    let mut received: BTreeMap<(usize, u64), u32> = BTreeMap::new();
    // What each receiver got before each crash, in order.
    let mut rounds: Vec<Vec<Vec<(usize, u64)>>> = Vec::new();
    // Calls that the crash has ended, which may have been carried out.
    let mut unsure: Vec<(usize, u64)> = Vec::new();
    for round in 0..kills {
        let stop = AtomicBool::new(false);
        let from = next;
        next += 1_000_000;
        thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (path, stop) = (&path, &stop);
                    scope.spawn(move || {
                        let (mut accepted, mut unsure) = (Vec::new(), None);
                        let mut number = from;
                        while !stop.load(Ordering::SeqCst) {
                            let Ok(mut file) = OpenOptions::new().write(true).open(path) else { break };
                            if file.write(format!("{sender}.{number}\n").as_bytes()).is_err() {
                                unsure = Some((sender, number));
                                break;
                            }
                            accepted.push(number);
                            number += 1;
                        }
                        (accepted, unsure)
                    })
                })
                .collect();
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let path = &path;
                    scope.spawn(move || {
                        let mut got = Vec::new();
                        let mut buffer = [0; 64];
                        while let Ok(mut file) = File::open(path) {
                            match file.read(&mut buffer) {
                                Ok(0) | Err(_) => break,
                                Ok(length) => got.push(parse(&buffer[..length])),
                            }
                        }
                        got
                    })
                })
                .collect();
            let enough = 20 + round as u64 * 7 % 200;
            let start = stored.figure("load", "received");
            common::wait_for("some messages to pass", || stored.figure("load", "received") >= start + enough);
            stored.place.kill_daemon();
            stop.store(true, Ordering::SeqCst);
            for (sender, thread) in senders.into_iter().enumerate() {
                let (more, doubt) = thread.join().unwrap();
                accepted[sender].extend(more);
                unsure.extend(doubt);
            }
            let got: Vec<Vec<_>> = receivers.into_iter().map(|thread| thread.join().unwrap()).collect();
            for key in got.iter().flatten() {
                *received.entry(*key).or_default() += 1;
            }
            rounds.push(got);
        });
        stored.wait_for_end();
        stored.mount();
        assert_eq!(stored.figure("", "store_lost"), 0);
    }
    let mut stream = File::open(stored.place.path("control/mailboxes/load/stream")).unwrap();
    let mut left: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    while stored.figure("load", "depth") > 0 {
        let mut buffer = vec![0; 1 << 16];
        let length = stream.read(&mut buffer).unwrap();
        for line in buffer[..length].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let key = parse(line);
            *received.entry(key).or_default() += 1;
            left.entry(key.0).or_default().push(key.1);
        }
    }
    for (sender, numbers) in &accepted.iter().enumerate().collect::<Vec<_>>() {
        for number in *numbers {
            // A receiver that was killed with its message in hand has taken it; so a message may be missing only if its
            // answer was on the way. Here no receiver dies, so none is missing.
            assert!(received.contains_key(&(*sender, *number)), "{how}: message {sender}.{number} is lost");
        }
    }
    for (key, times) in &received {
        assert!(accepted[key.0].contains(&key.1) || unsure.contains(key), "{how}: {key:?} was never sent");
        // Delivered once more only if the daemon died between the answer and its record.
        assert!(*times <= 2, "{how}: {key:?} came {times} times");
    }
    // Records are written in order: the missing ones are the last. However slow the disk is, they are of no more messages than the
    // mailbox has room for, and one of each sender and receiver, because a sender waits for the record of its message. Only a
    // thread that has answered and is about to put its record can have been overtaken by others.
    let mut seen = BTreeSet::new();
    for got in &rounds {
        let all: BTreeSet<_> = got.iter().flatten().collect();
        assert_eq!(all.len(), got.iter().map(Vec::len).sum::<usize>(), "{how}: twice without a crash");
        let (mut last, mut overtaken) = (0, 0);
        for of_one in got {
            let again = |key: &(usize, u64)| received[key] > 1 && !seen.contains(key);
            let suffix = of_one.iter().rev().take_while(|key| again(key)).count();
            last += suffix;
            overtaken += of_one.iter().rev().skip(suffix).filter(|key| again(key)).count();
        }
        seen.extend(got.iter().flatten().copied());
        let threads = thread::available_parallelism().unwrap().get().max(2) + 1;
        assert!(last <= 50 + SENDERS + 2, "{how}: {last} messages came twice after a crash");
        assert!(overtaken <= threads, "{how}: {overtaken} came twice although later ones did not");
    }
    for numbers in left.values() {
        assert!(numbers.is_sorted(), "{how}: {numbers:?}");
    }
}

fn parse(bytes: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(bytes).unwrap().trim_end();
    let (sender, number) = text.split_once('.').unwrap_or_else(|| panic!("cut or mixed: {text:?}"));
    (sender.parse().unwrap(), number.parse().unwrap())
}

/// How often the daemon is killed: `IPCFS_KILLS`, or a few times.
fn kills() -> usize {
    std::env::var("IPCFS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn under_load_nothing_that_was_accepted_is_lost_by_kill_9_daemon() {
    under_load("daemon", kills());
}

#[test]
fn under_load_nothing_that_was_accepted_is_lost_by_kill_9_fsync() {
    under_load("fsync", kills());
}

#[test]
fn without_a_store_nothing_is_durable_and_error_says_so() {
    let Some(place) = Place::new() else { return };
    place.mount(&[]);
    fs::write(place.path("mailboxes/a"), "x").unwrap();
    let error = fs::write(place.path("control/mailboxes/a/config/durable"), "fsync").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(22));
    let why = fs::read_to_string(place.path("control/mailboxes/a/error")).unwrap();
    assert_eq!(why, "durable: this mount has no store (ipcfs mount --store DIR)\n");
    fs::write(place.path("control/mailboxes/a/config/durable"), "off").unwrap();
}

#[test]
fn a_store_that_cannot_be_used_is_refused_with_the_reason_and_nothing_is_mounted() {
    let Some(stored) = Stored::new() else { return };
    let refused = |why: &str| {
        let outcome = stored.try_mount(&[]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(why), "{outcome:?}");
        stored.place.assert_nothing_left();
    };
    fs::write(&stored.store, "a file").unwrap();
    refused("ot a directory");
    fs::remove_file(&stored.store).unwrap();
    fs::create_dir(&stored.store).unwrap();
    fs::set_permissions(&stored.store, fs::Permissions::from_mode(0o755)).unwrap();
    refused("other users may use this folder: it must belong to you and have mode 0700");
    fs::set_permissions(&stored.store, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&stored.store, Some(common::USER), None).unwrap();
    refused("other users may use this folder");
    std::os::unix::fs::chown(&stored.store, Some(0), None).unwrap();
    stored.mount();
    let other = Place::new().unwrap();
    let outcome = other.try_mount(&["--store", stored.store.to_str().unwrap()]);
    assert!(outcome.stderr.contains("a running daemon uses this store"), "{outcome:?}");
    assert_eq!(other.mounts(), 0);
    assert!(stored.command(&["compact"]).stderr.contains("a running daemon uses this store"));
}

#[test]
fn on_a_full_disk_sends_fail_receiving_goes_on_and_room_is_used_again() {
    let Some(stored) = Stored::new() else { return };
    fs::create_dir(&stored.store).unwrap();
    mount("none", &stored.store, "tmpfs", MountFlags::empty(), Some(c"size=50m,mode=700")).unwrap();
    stored.mount();
    let path = stored.durable("big", "daemon");
    stored.set("big", "maxmsg", "max");
    stored.set("big", "maxbytes", "max");
    let body = vec![b'x'; 500_000];
    let mut sent = 0_u64;
    let error = loop {
        match fs::write(&path, &body) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1000);
    };
    assert_eq!(error.raw_os_error(), Some(28), "{error}");
    assert!(sent > 20, "{sent}");
    let status = fs::read_to_string(stored.place.path("control/status")).unwrap();
    assert!(status.contains("\nstore full\n"), "{status}");
    // What is accepted can be taken, settled and moved on, and is still there after a crash.
    for _ in 0..5 {
        assert_eq!(receive(&path).len(), body.len());
    }
    let written = format!("\"messages\":{}", sent - 5);
    common::wait_for("the receipts to be written", || {
        stored.command(&["ls", "--json"]).stdout.contains(&written)
    });
    stored.crash();
    let left = stored.figure("big", "depth");
    assert_eq!(left, sent - 5);
    for _ in 0..left {
        assert_eq!(receive(&path).len(), body.len());
    }
    common::wait_for("room", || fs::write(&path, &body).is_ok());
    assert_eq!(stored.figure("", "store_lost"), 0);
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    unmount(&stored.store, UnmountFlags::DETACH).unwrap();
}

#[test]
fn damage_is_told_and_the_rest_is_kept() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    for n in 0..20 {
        fs::write(&path, format!("message number {n}\n")).unwrap();
    }
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    let verify = stored.command(&["verify"]);
    assert_eq!(
        (verify.code, verify.stdout.as_str()),
        (Some(0), "1 mailboxes, 20 messages, 0 records lost\n")
    );
    let name = fs::read_dir(&stored.store)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"));
    let damaged = name
        .filter(|path| fs::read(path).unwrap().windows(17).any(|bytes| bytes == b"message number 7\n"))
        .last()
        .unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    let at = bytes.windows(17).position(|bytes| bytes == b"message number 7\n").unwrap();
    bytes[at] = b'M';
    fs::write(&damaged, bytes).unwrap();
    let verify = stored.command(&["verify"]);
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.stdout.starts_with("1 mailboxes, 19 messages, 1 records lost\ndamaged: "), "{verify:?}");
    let doctor = run(common::ipcfs().args(["doctor", "--store"]).arg(&stored.store));
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.stdout.contains("damaged  store             1 records are lost, in 0"), "{doctor:?}");
    stored.mount();
    assert_eq!((stored.figure("jobs", "depth"), stored.figure("", "store_lost")), (19, 1));
    let dump = stored.command(&["dump"]);
    assert_eq!(dump.stdout.lines().count(), 19);
    assert!(dump.stdout.lines().all(|line| line.contains("\"mailbox\":\"jobs\"")), "{dump:?}");
}

#[test]
fn a_store_that_is_compacted_says_the_same() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let path = stored.durable("jobs", "fsync");
    for n in 0..10 {
        fs::write(&path, format!("message {n}\n")).unwrap();
    }
    assert_eq!(receive(&path), b"message 0\n");
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
    let before = stored.command(&["dump"]);
    assert_eq!(stored.command(&["compact"]).code, Some(0));
    assert_eq!(stored.command(&["dump"]).stdout, before.stdout);
    stored.mount();
    assert_eq!((stored.figure("jobs", "depth"), stored.figure("jobs", "received")), (9, 1));
    assert_eq!(stored.place.ipcfs(&["umount"]).code, Some(0));
}

#[test]
fn a_removed_mailbox_and_a_renamed_one_stay_so() {
    let Some(stored) = Stored::new() else { return };
    stored.mount();
    let (gone, old) = (stored.durable("gone", "fsync"), stored.durable("old", "fsync"));
    fs::write(&gone, "x").unwrap();
    fs::write(&old, "y").unwrap();
    fs::create_dir(stored.place.path("mailboxes/folder")).unwrap();
    fs::create_dir(stored.place.path("mailboxes/empty")).unwrap();
    fs::remove_file(&gone).unwrap();
    fs::remove_dir(stored.place.path("mailboxes/empty")).unwrap();
    let new = stored.place.path("mailboxes/folder/new");
    fs::rename(&old, &new).unwrap();
    // Removed and made again: another mailbox.
    drop(File::create(&gone).unwrap());
    stored.set("gone", "durable", "fsync");
    stored.crash();
    assert_eq!(stored.figure("gone", "depth"), 0);
    assert!(!old.exists() && !stored.place.path("mailboxes/empty").exists());
    assert_eq!(receive(&new), b"y");
    // Messages that were moved are in one mailbox.
    fs::write(&new, "moved").unwrap();
    let from = stored.place.path("control/mailboxes/folder/new/messages");
    let id = fs::read_dir(&from).unwrap().next().unwrap().unwrap().file_name();
    fs::rename(from.join(&id), stored.place.path("control/mailboxes/gone/messages").join(&id)).unwrap();
    stored.crash();
    assert_eq!((stored.figure("gone", "depth"), stored.figure("folder/new", "depth")), (1, 0));
    assert_eq!(receive(&gone), b"moved");
}
