//! Store files made from any bytes: frames with right checksums around records that no daemon would write, and bytes that are no
//! frames. What must hold whatever a store says: it is read or refused, and what is read stays when it is written again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use ipcfs::journal::record::{Counters, How, Message, Object, Reason, Record, Rounds, Why};
use ipcfs::journal::{OpenError, Recovered, compact, look};
use ipcfs::op::{Caller, FileTime, Ino, Slice, Timestamp};

const SEED: u128 = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;

struct File {
    number: u64,
    bytes: Vec<u8>,
}

impl File {
    fn new(number: u64, near: u64, version: u32) -> File {
        let mut bytes = b"ipcfslog".to_vec();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&SEED.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&near.to_le_bytes());
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(64, 0);
        File { number, bytes }
    }

    fn frame(&mut self, position: u64, record: &[u8]) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let mut rest = (record.len() as u32).to_le_bytes().to_vec();
        rest.extend_from_slice(&(position as u32).to_le_bytes());
        rest.extend_from_slice(record);
        let sum = crc32c::crc32c(&SEED.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &self.number.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &(self.bytes.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(&crc32c::crc32c_append(sum, &rest).to_le_bytes());
        self.bytes.extend_from_slice(&rest);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn write(self, folder: &Path) {
        fs::write(folder.join(format!("{:016x}.log", self.number)), self.bytes).unwrap();
    }
}

/// Numbers, small as a rule and now and then at the end of what there is.
fn number(byte: u8) -> u64 {
    match byte {
        0..=250 => u64::from(byte),
        251 => 1 << 32,
        252 => u64::from(u32::MAX),
        253 => u64::MAX / 2,
        254 => u64::MAX - 1,
        255 => u64::MAX,
    }
}

fn record(bytes: [u8; 6]) -> Record {
    let [what, mailbox, a, b, c, d] = bytes;
    let mailbox = Ino(20 + u64::from(mailbox % 4));
    let caller = Caller { uid: u32::from(a), gid: 0, pid: 1 };
    match what % 14 {
        0 => Record::Object(Arc::new(Object {
            ino: mailbox,
            parent: Ino(number(a)),
            name: Arc::from(vec![b'a' + b % 8; usize::from(c % 20)]),
            folder: d % 4 == 0,
            mode: 0o600,
            uid: 0,
            gid: 0,
            atime: FileTime::new(number(b) as i64, 7),
            mtime: FileTime::new(number(c) as i64, 7),
            ctime: FileTime::new(number(d) as i64, 7),
            settings: String::from("durable fsync\n"),
            dead_letter: (d % 3 == 0).then_some((Ino(number(c)), caller)),
            xattrs: vec![(Box::from(&b"user.a"[..]), Box::from(&[a, b, c][..])); usize::from(d % 3)],
        })),
        1 => Record::Removed(mailbox),
        2..=5 => {
            let lines = if d % 2 == 0 { 0 } else { number(d / 2) };
            let body = if lines > 300 { vec![b'\n'; 3] } else { b"line\n".repeat(lines.max(1) as usize) };
            Record::Message(Arc::new(Message {
                mailbox,
                id: number(a),
                position: number(b).wrapping_add(1 << 32),
                how: [How::Sent, How::Moved, How::Kept, How::MovedFrom(Ino(u64::from(b)), Why::Moved)]
                    [usize::from(c % 4)],
                sent: Timestamp(number(c)),
                sender: caller,
                priority: u16::from(c % 3),
                tag: (c % 5 == 0).then(|| Arc::from(&b"tag"[..])),
                expires: (c % 7 == 0).then_some(Timestamp(number(d))),
                reason: (c % 9 == 0).then_some(Reason::Deliveries),
                due: (c % 4 == 0).then_some(Timestamp(number(a))),
                key: (c % 6 == 0).then(|| Arc::from(&[b % 4][..])),
                since: (c % 10 == 0).then_some(Timestamp(number(a))),
                rounds: Rounds {
                    count: u32::from(c % 8),
                    idle: d % 2 == 0,
                    stopped_in: (c % 8 == 7).then_some(mailbox),
                },
                deliveries: u32::from(b),
                lines,
                body: Slice::whole(&body[..body.len().saturating_sub(usize::from(c == 255))]),
            }))
        }
        6 => Record::Gone { mailbox, first: number(a), count: number(b), why: Why::Received },
        7 => Record::Leased { mailbox, id: number(a) },
        8 => Record::Returned { mailbox, id: number(a), position: number(b), deliveries: u32::from(c) },
        9 => Record::Counters(
            mailbox,
            Counters { sent: number(a), received: number(b), ..Counters::default() },
        ),
        10 => Record::Synced(number(a)),
        11 => {
            let (key, at) = (Arc::from(&[a % 4][..]), Timestamp(number(b)));
            Record::Key { mailbox, id: number(c), key, at, uid: u32::from(b) }
        }
        12 => Record::Forgotten { mailbox, until: number(a) },
        _ => Record::Torn { from: number(a), to: number(b) },
    }
}

/// Makes the files of a store in a folder.
fn forge(mut bytes: &[u8], folder: &Path) {
    let (mut position, mut file) = (1_u64, File::new(1, 1, 1));
    let mut encoded = Vec::new();
    Record::Begin.encode(&mut encoded);
    file.frame(position, &encoded);
    while let [what, more @ ..] = bytes {
        encoded.clear();
        let taken = match (what % 16, more) {
            (0, [skip, near, ..]) => {
                let number = file.number + 1 + u64::from(skip % 2);
                let version = if *near == 77 { 2 } else { 1 };
                let next = File::new(number, position.wrapping_add(number_of_skip(*near)), version);
                std::mem::replace(&mut file, next).write(folder);
                2
            }
            (1, [length, rest @ ..]) => {
                // Any bytes as a record.
                let length = usize::from(*length).min(rest.len());
                file.frame(position, &rest[..length]);
                position = position.wrapping_add(1);
                1 + length
            }
            (2, [length, rest @ ..]) => {
                let length = usize::from(*length).min(rest.len());
                file.bytes.extend_from_slice(&rest[..length]);
                1 + length
            }
            (3, [length, ..]) => {
                file.bytes.resize(file.bytes.len() + usize::from(*length), 0);
                1
            }
            (4, [by, ..]) => {
                position = position.wrapping_add(number_of_skip(*by));
                1
            }
            _ => match more.first_chunk() {
                Some(chunk) => {
                    record(*chunk).encode(&mut encoded);
                    file.frame(position, &encoded);
                    position = position.wrapping_add(1);
                    chunk.len()
                }
                None => more.len(),
            },
        };
        bytes = &more[taken..];
    }
    file.bytes.resize(file.bytes.len() + 100, 0);
    file.write(folder);
}

/// How far positions jump: mostly not at all.
fn number_of_skip(byte: u8) -> u64 {
    if byte < 200 { 0 } else { number(byte.wrapping_mul(5)) }
}

/// What a user can see of it: by mailbox, its name, and its messages one by one in their order.
fn seen(recovered: &[Recovered]) -> BTreeMap<u64, String> {
    let single = |message: &Message, leased: bool| -> Vec<String> {
        let parts = (0..message.count()).filter_map(|n| message.part(n, 1));
        let show = |part: Message| {
            let body = part.body.as_bytes().to_vec();
            format!("{:?}", (part.id, part.position, part.sent, part.sender, part.priority, body, leased))
        };
        parts.map(show).collect()
    };
    let show = |one: &Recovered| {
        let messages = one.messages.iter().flat_map(|(message, leased)| single(message, *leased));
        format!("{:?} {:?} {:?}", one.object, one.counters, messages.collect::<Vec<_>>())
    };
    recovered.iter().map(|one| (one.object.ino.0, show(one))).collect()
}

/// Reads a store that is made from these bytes, and writes it again.
pub fn check(bytes: &[u8]) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    forge(bytes, folder.path());
    let (first, damage) = match look(folder.path()) {
        Ok(read) => read,
        Err(OpenError::Version(2)) => return,
        Err(error) => panic!("{error}"),
    };
    let before = seen(&first);
    let (again, same) = look(folder.path()).unwrap();
    assert_eq!((seen(&again), same), (before.clone(), damage), "reading has changed it");
    compact(folder.path()).unwrap();
    let (after, _) = look(folder.path()).unwrap();
    assert_eq!(seen(&after), before, "writing it again has changed it");
}
