//! Random arguments: numbers from a seed, and the names, texts and sizes that make a difference to ipcfs.

use std::ops::BitOr;

/// Pseudo-random numbers from a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Chance(u64);

const NAMES: [&[u8]; 8] =
    [b"a", b"b", b"c", b"folder", b"folder/a", b"folder/b", b"folder/deep", b"folder/deep/a"];
const ODD: [&[u8]; 10] = [
    b"",
    b".",
    b"..",
    b"config",
    b"\xff\xfe",
    b"a\nb",
    b"a/b/c/d/e/f/g/h",
    &[b'x'; 255],
    &[b'x'; 256],
    b" a ",
];

/// What has a folder in `control/`, with the files that are in it.
const MAILBOX: [&str; 42] = [
    "stream",
    "whole",
    "peek",
    "json",
    "lease",
    "lease.json",
    "once/k",
    "rpc",
    "serve",
    "status",
    "error",
    "messages",
    "messages/1",
    "messages/70",
    "priority/1",
    "priority/32767",
    "priority/x",
    "tag/t",
    "tag",
    "from/4711",
    "from/4712",
    "ttl/10ms",
    "ttl/1h",
    "delay/1ms",
    "delay/30ms",
    "delay/x",
    "purge",
    "config/order",
    "config/msgsize",
    "config/wholesize",
    "config/durable",
    "config/error",
    "config/maxmsg",
    "config/maxbytes",
    "config/full",
    "config/ttl",
    "config/lease_time",
    "config/max_deliver",
    "config/max_rounds",
    "config/once_window",
    "config/remove",
    "config/dead_letter",
];
const TOPIC: [&str; 4] = ["status", "error", "config/msgsize", "config/backlog"];
const SEGMENT: [&str; 6] = ["seal", "notify", "wait", "status", "config/size_max", "config/lifetime"];

const WORDS: [&str; 35] = [
    "ack",
    "nack",
    "nack 10ms",
    "reject",
    "touch",
    "all",
    "tag t",
    "from 4711",
    "older 1ms",
    "off",
    "daemon",
    "fsync",
    "max",
    "0",
    "1",
    "3",
    "100",
    "4096",
    "1M",
    "fail",
    "wait",
    "drop-oldest",
    "fifo",
    "priority",
    "grow",
    "shrink",
    "write",
    "last-close",
    "keep",
    "10ms",
    "1s",
    "a",
    "folder/a",
    "b\nc\nd",
    "",
];
const SIZES: [u64; 16] = [
    0,
    1,
    2,
    100,
    4095,
    4096,
    4097,
    65_536,
    131_101,
    131_102,
    1_044_480,
    1_044_481,
    1 << 20,
    3 << 20,
    1 << 32,
    i64::MAX as u64,
];

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Some of these flags together: each by one chance in three.
    pub(crate) fn some_of<T: Copy + BitOr<Output = T>>(&mut self, none: T, all: &[T]) -> T {
        all.iter().fold(none, |some, flag| if self.one_in(3) { some | *flag } else { some })
    }

    fn name(&mut self) -> &'static [u8] {
        if self.one_in(12) { self.of(&ODD) } else { self.of(&NAMES) }
    }

    /// A path from the mount point.
    pub(crate) fn path(&mut self) -> Vec<u8> {
        let (folder, files): (&str, &[&str]) = match self.below(16) {
            0..=3 => ("mailboxes/", &[]),
            4 | 5 => ("topics/", &[]),
            6..=8 => ("segments/", &[]),
            9..=12 => ("control/mailboxes/", &MAILBOX),
            13 => ("control/topics/", &TOPIC),
            14 => ("control/segments/", &SEGMENT),
            _ => {
                let fixed = [
                    "control/status",
                    "control/metrics",
                    "control/users/4711",
                    "mailboxes",
                    "topics",
                    "segments",
                    ".",
                ];
                return self.of(&fixed).into();
            }
        };
        let mut path = [folder.as_bytes(), self.name()].concat();
        if !files.is_empty() && !self.one_in(8) {
            path.push(b'/');
            path.extend_from_slice(self.of(files).as_bytes());
        }
        path
    }

    /// What is written: often a word that some file of `control/` takes.
    pub(crate) fn text(&mut self) -> Vec<u8> {
        if self.one_in(2) {
            let mut text: Vec<u8> = self.of(&WORDS).into();
            if self.one_in(2) {
                text.push(b'\n');
            }
            return text;
        }
        let byte = self.of(b"x\n\0");
        vec![byte; self.length()]
    }

    /// How many bytes are read or written: rarely many.
    pub(crate) fn length(&mut self) -> usize {
        let most = if self.one_in(8) { 14 } else { 7 };
        SIZES[self.below(most) as usize] as usize
    }

    /// An offset, or the size of a file.
    pub(crate) fn offset(&mut self) -> u64 {
        self.of(&SIZES)
    }
}
