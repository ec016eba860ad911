//! What a journal keeps, whatever dies. The thread of [`Journal::run`] is played by the test, step by step.

pub(crate) mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{How, Message, Object, Record, Rounds, Why};
use super::*;
use crate::op::{Caller, FileTime, Moment, RequestId, Slice, Timestamp};
use fake::{Choices, Failing, FakeDisk};

const CALLER: Caller = Caller { uid: 1, gid: 2, pid: 3 };

fn object(ino: u64) -> Record {
    Record::Object(Arc::new(Object {
        ino: Ino(ino),
        parent: Ino(2),
        name: Arc::from(format!("box{ino}").into_bytes()),
        folder: false,
        mode: 0o600,
        uid: 1,
        gid: 2,
        atime: FileTime::new(1, 0),
        mtime: FileTime::new(2, 0),
        ctime: FileTime::new(3, 0),
        settings: String::new(),
        dead_letter: None,
        xattrs: Vec::new(),
    }))
}

fn body(id: u64) -> Vec<u8> {
    format!("message {id} {}\n", "x".repeat((id * 7 % 90) as usize)).into_bytes()
}

fn message(mailbox: u64, id: u64, lines: u64) -> Record {
    let body = if lines == 0 { body(id) } else { (id..id + lines).flat_map(body).collect() };
    Record::Message(Arc::new(Message {
        mailbox: Ino(mailbox),
        id,
        position: (1 << 32) + id,
        how: How::Sent,
        sent: Timestamp(id),
        sender: CALLER,
        priority: 0,
        tag: None,
        expires: None,
        key: None,
        due: None,
        since: None,
        reason: None,
        rounds: Rounds::default(),
        deliveries: 0,
        lines,
        body: Slice::whole(body),
    }))
}

fn open(disk: &FakeDisk) -> (Journal, Vec<Recovered>) {
    Journal::on_fake(disk)
}

impl Journal {
    /// One turn of [`Journal::run`].
    fn turn(&self) -> Vec<(RequestId, Reply)> {
        let mut due = Vec::new();
        self.write(&mut due);
        self.sync();
        self.take_due(&mut due);
        if !self.is_broken.load(Ordering::SeqCst) {
            self.make_room();
            self.compact(&mut Vec::new(), &|_: &mut Vec<_>| {});
        }
        due
    }
}

/// By id: the messages of a mailbox.
fn contents(recovered: &[Recovered], mailbox: u64) -> BTreeMap<u64, Vec<u8>> {
    let messages =
        recovered.iter().filter(|one| one.object.ino == Ino(mailbox)).flat_map(|one| &one.messages);
    let single =
        |message: &Message| (0..message.count()).map(|n| message.part(n, 1).unwrap()).collect::<Vec<_>>();
    let singles = messages.flat_map(|(message, _)| single(message));
    singles.map(|message| (message.id, message.body.as_bytes().to_vec())).collect()
}

/// What the test has done with each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Sent,
    /// And it was promised.
    Kept,
    /// It may be gone.
    Taken,
    Gone,
}

/// Random sends and receives of three mailboxes, with crashes between any two steps.
fn history(seed: u64) {
    let mut choices = Choices(seed);
    let disk = FakeDisk::default();
    let mut disk = disk;
    let (mut journal, _) = open(&disk);
    let mut fates: BTreeMap<(u64, u64), Fate> = BTreeMap::new();
    let mut next = 1;
    for mailbox in 20..23 {
        journal.put(object(mailbox));
    }
    journal.turn();
    for _ in 0..200 {
        match choices.next(20) {
            0..8 => {
                let (mailbox, lines) = (20 + choices.next(3), choices.next(4) * choices.next(4));
                journal.put(message(mailbox, next, lines));
                for _ in 0..lines.max(1) {
                    fates.insert((mailbox, next), Fate::Sent);
                    next += 1;
                }
            }
            8..14 => {
                let live: Vec<_> =
                    fates.iter().filter(|(_, fate)| **fate < Fate::Taken).map(|(key, _)| *key).collect();
                if let Some(&(mailbox, id)) = live.get(choices.next(live.len() as u64) as usize) {
                    journal.put(Record::Gone {
                        mailbox: Ino(mailbox),
                        first: id,
                        count: 1,
                        why: Why::Received,
                    });
                    fates.insert((mailbox, id), Fate::Taken);
                }
            }
            14 => {
                journal.put(object(20 + choices.next(3)));
            }
            15 => journal.write(&mut Vec::new()),
            16 => {
                disk.set_busy(choices.next(3) == 0);
                journal.write_soon(&mut Vec::new());
            }
            17 | 18 => {
                journal.turn();
                for fate in fates.values_mut() {
                    *fate = match *fate {
                        Fate::Sent => Fate::Kept,
                        Fate::Taken => Fate::Gone,
                        other => other,
                    };
                }
            }
            _ => {
                let killed = choices.next(3) == 0;
                if killed {
                    journal.write(&mut Vec::new());
                    for fate in fates.values_mut() {
                        *fate = if *fate < Fate::Taken { Fate::Kept } else { Fate::Gone };
                    }
                }
                disk = if killed { disk.after_kill() } else { disk.after_power_cut(&mut choices) };
                let recovered;
                (journal, recovered) = open(&disk);
                assert_eq!(journal.figures().lost, 0, "a crash is no damage");
                let found: BTreeMap<(u64, u64), Vec<u8>> = (20..23)
                    .flat_map(|mailbox| {
                        contents(&recovered, mailbox).into_iter().map(move |(id, body)| ((mailbox, id), body))
                    })
                    .collect();
                for (key, found) in &found {
                    assert_eq!(*found, body(key.1), "{key:?}");
                    assert!(fates.get(key).is_some_and(|fate| *fate != Fate::Gone), "{key:?} has come back");
                }
                fates.retain(|key, fate| {
                    let is_there = found.contains_key(key);
                    assert!(is_there || *fate != Fate::Kept, "{key:?} is lost");
                    *fate = if is_there { Fate::Kept } else { Fate::Gone };
                    true
                });
                journal.turn();
            }
        }
    }
    let live = fates.values().filter(|fate| **fate < Fate::Taken).count() as u64;
    journal.turn();
    let figures = journal.figures();
    let bound = 2 * figures.live + 8 * FILE_SIZE;
    assert!(figures.size <= bound, "{figures:?} with {live} messages");
}

#[test]
fn whatever_a_crash_leaves_what_was_promised_is_there_and_what_is_gone_stays_gone() {
    let histories = std::env::var("IPCFS_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    for seed in 0..histories {
        history(seed * 7919 + 1);
    }
}

#[test]
fn a_flipped_bit_is_found_and_costs_one_record() {
    let mut found = 0;
    for seed in 0..400 {
        let mut choices = Choices(seed);
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk);
        journal.put(object(20));
        for id in 1..60 {
            journal.put(message(20, id, 0));
            if id % 10 == 0 {
                journal.turn();
            }
        }
        journal.turn();
        // What says that the rest was synchronized.
        journal.put(Record::Gone { mailbox: Ino(20), first: 99, count: 1, why: Why::Received });
        journal.turn();
        assert!(disk.flip(&mut choices));
        let (journal, recovered) = open(&disk.after_kill());
        let kept = contents(&recovered, 20);
        let lost = journal.figures().lost;
        found += u64::from(lost > 0);
        for (id, bytes) in &kept {
            assert_eq!(*bytes, body(*id), "with seed {seed}");
        }
        assert!(kept.len() as u64 + 1 >= 59, "with seed {seed}: {} are left", kept.len());
        assert!(lost > 0 || kept.len() == 59, "with seed {seed}: a loss that nobody is told of");
        // The next start finds it again, and keeps the file.
        let (again, _) = open(&disk.after_kill());
        assert_eq!(again.figures().lost, lost);
    }
    assert!(found > 300, "{found}");
}

#[test]
fn a_damaged_file_is_kept_when_it_would_go() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    for id in 1..200 {
        journal.put(message(20, id, 0));
    }
    journal.turn();
    journal.put(object(20));
    journal.turn();
    assert!(disk.flip(&mut Choices(5)));
    let disk = disk.after_kill();
    let (journal, recovered) = open(&disk);
    assert!(journal.figures().lost > 0);
    for id in contents(&recovered, 20).keys() {
        journal.put(Record::Gone { mailbox: Ino(20), first: *id, count: 1, why: Why::Received });
    }
    journal.turn();
    journal.turn();
    assert_eq!(
        disk.names().iter().filter(|name| name.ends_with(".damaged")).count(),
        1,
        "{:?}",
        disk.names()
    );
}

#[test]
fn answers_wait_for_what_they_promise() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    let id = |unique| RequestId { unique, reply_path: 0, pid: 0 };
    let record = journal.put(object(20));
    let defer = |record, synced, unique| {
        journal.defer(Barrier { record, synced }, id(unique), Reply::Done, Moment(unique as i64))
    };
    for (record, synced, unique) in [(record, false, 1), (record, true, 2), (record + 1, false, 3)] {
        assert_eq!(defer(record, synced, unique), None);
    }
    let mut due = Vec::new();
    journal.take_due(&mut due);
    assert_eq!(due, []);
    journal.write(&mut due);
    assert_eq!(due, [(id(1), Reply::Done)]);
    assert_eq!(defer(record, false, 4), Some(Reply::Done), "it is written already");
    assert_eq!(journal.turn(), [(id(2), Reply::Done)]);
    assert_eq!(defer(record, true, 5), Some(Reply::Done), "it is synchronized already");
    journal.put(object(21));
    assert_eq!(journal.turn(), [(id(3), Reply::Done)]);
}

/// The thread that serves writes what does not wait, and leaves the rest to another.
#[test]
fn on_a_busy_disk_records_are_left_to_the_writer() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    journal.turn();
    let mut due = Vec::new();
    let send = |id: u64| {
        let record = journal.put(message(20, id, 0));
        let request_id = RequestId { unique: id, reply_path: 0, pid: 7 };
        assert_eq!(
            journal.defer(Barrier { record, synced: false }, request_id, Reply::Done, Moment(0)),
            None
        );
    };
    send(1);
    journal.write_soon(&mut due);
    assert_eq!((due.len(), journal.to_write.is_called()), (1, false));
    disk.set_busy(true);
    send(2);
    journal.write_soon(&mut due);
    assert_eq!((due.len(), journal.to_write.is_called()), (1, true));
    assert_eq!(contents(&open(&disk.after_kill()).1, 20).len(), 1);
    send(3);
    journal.write(&mut due);
    assert_eq!((due.len(), contents(&open(&disk.after_kill()).1, 20).len()), (3, 3));
}

#[test]
fn a_wait_for_the_disk_can_be_ended_and_the_record_stays() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    let record = journal.put(message(20, 1, 0));
    let request_id = RequestId { unique: 8, reply_path: 0, pid: 7 };
    let barrier = Barrier { record, synced: true };
    assert_eq!(journal.defer(barrier, request_id, Reply::Written(5), Moment(3)), None);
    assert_eq!((journal.find(8), journal.find(9)), (Some(request_id), None));
    assert_eq!((journal.waiting_since(Moment(2)), journal.waiting_since(Moment(3))), (vec![], vec![8]));
    assert_eq!((journal.cancel(8), journal.cancel(8)), (Some(request_id), None));
    assert_eq!(journal.turn(), []);
    assert_eq!(contents(&open(&disk.after_kill()).1, 20).len(), 1);
}

#[test]
fn a_failed_fdatasync_is_the_end_and_is_told() {
    for failing in [Failing::Sync, Failing::Write] {
        let disk = FakeDisk::default();
        let (journal, _) = open(&disk);
        journal.put(object(20));
        journal.turn();
        disk.set_failing(Some(failing));
        let record = journal.put(message(20, 1, 0));
        let request_id = RequestId { unique: 1, reply_path: 0, pid: 0 };
        let defer = |record| {
            journal.defer(Barrier { record, synced: true }, request_id, Reply::Written(5), Moment(0))
        };
        assert_eq!(defer(record), None);
        assert_eq!(journal.turn(), [(request_id, Reply::Failed(Error::Io))]);
        // A second attempt is not believed.
        disk.set_failing(None);
        assert_eq!(journal.check_room(1), Err(Error::Io));
        let record = journal.put(message(20, 2, 0));
        assert_eq!(defer(record), Some(Reply::Failed(Error::Io)));
        assert!(journal.figures().broken.is_some());
    }
}

#[test]
fn on_a_full_disk_nothing_more_is_accepted_and_all_can_be_taken() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    journal.turn();
    disk.set_full(true);
    let mut id = 0;
    while journal.check_room(body(id + 1).len() as u64).is_ok() {
        id += 1;
        journal.put(message(20, id, 0));
        journal.turn();
        assert!(id < 10_000);
    }
    assert_eq!(journal.check_room(body(id + 1).len() as u64), Err(Error::NoSpace));
    assert!(id > 10 && journal.figures().full);
    for id in 1..=id {
        journal.put(Record::Gone { mailbox: Ino(20), first: id, count: 1, why: Why::Received });
        journal.turn();
    }
    assert_eq!(journal.figures().broken, None);
    let (_, recovered) = open(&disk.after_kill());
    assert_eq!((contents(&recovered, 20).len(), recovered[0].counters.received), (0, id));
    disk.set_full(false);
    journal.turn();
    assert_eq!(journal.check_room(1000), Ok(()));
}

#[test]
fn counters_survive_the_files_that_they_were_counted_in() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    for id in 1..2_000 {
        journal.put(message(20, id, 0));
        journal.put(Record::Gone { mailbox: Ino(20), first: id, count: 1, why: Why::Received });
        if id % 10 == 0 {
            journal.turn();
        }
    }
    journal.turn();
    assert!(!disk.names().contains(&String::from("0000000000000001.log")), "{:?}", disk.names());
    let (_, recovered) = open(&disk.after_kill());
    assert_eq!((recovered[0].counters.sent, recovered[0].counters.received), (1_999, 1_999));
}

/// What a small message costs the disk beside its bytes, with the record that it is gone.
#[test]
fn a_message_takes_64_bytes_more_than_its_own() {
    let Record::Message(message) = message(1_000, 1_000_000, 0) else { unreachable!() };
    let (sender, sent) = (Caller { uid: 1000, gid: 1000, pid: 100_000 }, Timestamp(1 << 60));
    let position = (1 << 32) + message.id;
    let gone = Record::Gone { mailbox: message.mailbox, first: message.id, count: 1, why: Why::Received };
    let length = message.body.as_bytes().len();
    let sent = Record::Message(Arc::new(Message { position, sent, sender, ..(*message).clone() }));
    let size = |record: &Record| {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        frame::size(bytes.len())
    };
    assert!(size(&sent) + size(&gone) <= length + 64, "{} + {}", size(&sent) - length, size(&gone));
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let disk = FakeDisk::default();
    let (journal, _) = open(&disk);
    journal.put(object(20));
    journal.turn();
    let header = frame::Header { seal: frame::Seal { seed: 1, file: 1 }, near: 0 };
    disk.open("0000000000000001.log").unwrap().write_at(&header.encode_as(2), 0).unwrap();
    let names = disk.names();
    assert!(matches!(Journal::on(Box::new(disk.clone())), Err(OpenError::Version(2))));
    assert_eq!(disk.names(), names);
}
