//! Random operations on a segment, each compared with a vector of bytes that had the same done to it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

use super::{PAGE, create, mounts, open, sharing};

/// Longest the segment becomes, in bytes: some pages and a bit.
const LONGEST: u64 = 40 * PAGE + 321;
const STEPS: usize = 4000;

/// Numbers that look random and are the same each time (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// A place before `end`, often at a page's edge.
    fn place(&mut self, end: u64) -> u64 {
        let place = self.below(end);
        match self.below(4) {
            0 => place / PAGE * PAGE,
            1 => (place / PAGE * PAGE).saturating_sub(1),
            _ => place,
        }
    }

    /// A place and a length that fit before `end`.
    fn span(&mut self, end: u64) -> (u64, u64) {
        let from = self.place(end);
        (from, 1 + self.below((end - from).min(3 * PAGE)))
    }
}

struct World {
    numbers: Numbers,
    model: Vec<u8>,
    writer: File,
    reader: File,
    step: usize,
}

impl World {
    fn new(path: &Path, seed: u64) -> World {
        let writer = create(path);
        let reader = File::open(path).unwrap();
        World { numbers: Numbers(seed), model: Vec::new(), writer, reader, step: 0 }
    }

    fn size(&self) -> u64 {
        self.model.len() as u64
    }

    fn grow(&mut self, end: u64) {
        if end > self.size() {
            self.model.resize(end as usize, 0);
        }
    }

    fn fill(&mut self, (from, len): (u64, u64), byte: u8) {
        let size = self.model.len();
        let range = (from as usize).min(size)..((from + len) as usize).min(size);
        self.model[range].fill(byte);
    }

    fn step(&mut self, path: &Path) -> String {
        self.step += 1;
        let byte = (self.step % 255) as u8 + 1;
        let (from, len) = self.numbers.span(LONGEST);
        match self.numbers.below(12) {
            0 | 1 => {
                self.writer.write_all_at(&vec![byte; len as usize], from).unwrap();
                self.grow(from + len);
                self.fill((from, len), byte);
                format!("write {byte} to {from}+{len}")
            }
            2 => {
                let len = self.numbers.place(LONGEST);
                self.writer.set_len(len).unwrap();
                self.model.resize(len as usize, 0);
                format!("truncate to {len}")
            }
            3..=5 if self.size() > 0 => {
                let size = self.size();
                let (from, len) = self.numbers.span(size);
                let mut mapped = sharing::map(&self.writer, size);
                let range = from as usize..(from + len) as usize;
                let same = mapped[range.clone()] == self.model[range.clone()];
                mapped[range].fill(byte);
                self.fill((from, len), byte);
                assert!(same, "mapped bytes differ from {from}+{len}");
                format!("store {byte} to {from}+{len}")
            }
            6 => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&self.writer, mode, from, len).unwrap();
                self.fill((from, len), 0);
                format!("punch {from}+{len}")
            }
            7 => {
                fallocate(&self.writer, FallocateFlags::ZERO_RANGE, from, len).unwrap();
                self.grow(from + len);
                self.fill((from, len), 0);
                format!("zero {from}+{len}")
            }
            8 => {
                let keep = self.numbers.below(2) == 0;
                let mode = if keep { FallocateFlags::KEEP_SIZE } else { FallocateFlags::empty() };
                fallocate(&self.writer, mode, from, len).unwrap();
                if !keep {
                    self.grow(from + len);
                }
                format!("allocate {from}+{len}, keeping the size: {keep}")
            }
            9 => {
                // Through a descriptor opened and closed again.
                open(path).write_all_at(&[byte; 3], from).unwrap();
                self.grow(from + 3);
                self.fill((from, 3), byte);
                format!("open, write {byte} to {from}+3, close")
            }
            10 => {
                let found = seek(&self.reader, SeekFrom::Data(from)).unwrap_or(self.size());
                let hole = self.model.get(from as usize..found as usize).unwrap_or_default();
                assert!(
                    hole.iter().all(|byte| *byte == 0),
                    "data before {found} is said to be a hole from {from}"
                );
                format!("seek data from {from}")
            }
            _ => {
                let file = if self.numbers.below(2) == 0 { &self.reader } else { &self.writer };
                let mut bytes = vec![0; len as usize];
                let read = file.read_at(&mut bytes, from).unwrap();
                let end = (from + read as u64) as usize;
                let wanted = self.model.get(from as usize..self.model.len().min((from + len) as usize));
                assert!(bytes[..read] == *wanted.unwrap_or_default(), "read {from}+{len}, up to {end}");
                format!("read {from}+{len}")
            }
        }
    }

    fn compare(&self) {
        assert_eq!(self.reader.metadata().unwrap().len(), self.size());
        for file in [&self.reader, &self.writer] {
            let mut bytes = vec![1; self.model.len() + 10];
            let mut read = 0;
            while let Some(more) = file.read_at(&mut bytes[read..], read as u64).ok().filter(|more| *more > 0)
            {
                read += more;
            }
            bytes.truncate(read);
            let differs =
                (0..bytes.len().max(self.model.len())).find(|at| bytes.get(*at) != self.model.get(*at));
            assert_eq!(differs, None, "the first byte that differs");
        }
    }
}

#[test]
fn a_segment_does_what_an_array_of_bytes_would() {
    for mount in mounts(&[]) {
        for seed in [0x9E37_79B9_7F4A_7C15, 4711] {
            let path = mount.segment(&format!("s{seed}"));
            let mut world = World::new(&path, seed);
            let mut done = Vec::new();
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while world.step < STEPS {
                    done.push(world.step(&path));
                    if world.step.is_multiple_of(16) {
                        world.compare();
                    }
                }
                world.compare();
            }));
            if let Err(panic) = result {
                let from = done.len().saturating_sub(20);
                eprintln!("seed {seed}, step {}; before it:\n{}", world.step, done[from..].join("\n"));
                std::panic::resume_unwind(panic);
            }
        }
    }
}
