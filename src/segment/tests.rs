//! The rules one by one, and random operations against a plain `Vec<u8>`.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::{Lifetime, Memory, Seals, Segment};
use crate::accounts::{Accounts, Resource};
use crate::config::{NO_LIMIT, PAGE};
use crate::op::{Error, Whence};

const KEEP_SIZE: u32 = 1;
const PUNCH: u32 = 3;
const ZERO: u32 = 16;
const TOO_LONG: u64 = i64::MAX as u64 + 1;

/// Memory that knows which of its pages are present.
#[derive(Debug, Default)]
struct Plain {
    state: Mutex<State>,
    /// The next change fails, a write after its first half.
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    present: BTreeSet<u64>,
}

impl State {
    fn touch(&mut self, offset: u64, len: u64) {
        if len > 0 {
            self.present.extend(offset / PAGE..=(offset + len - 1) / PAGE);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (from, to) = (offset as usize, offset as usize + data.len());
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(data);
        self.touch(offset, data.len() as u64);
    }
}

impl Plain {
    fn try_once(&self) -> Result<(), Error> {
        if self.failing.swap(false, Ordering::Relaxed) { Err(Error::NoMemory) } else { Ok(()) }
    }
}

impl Memory for Plain {
    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.try_once()?;
        let mut state = self.state.lock();
        if len <= state.bytes.len() as u64 {
            state.present.retain(|page| page * PAGE < len);
        }
        state.bytes.resize(len as usize, 0);
        Ok(())
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let state = self.state.lock();
        let rest = state.bytes.get(offset as usize..).unwrap_or_default();
        Ok(rest[..len.min(rest.len())].to_vec())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let failed = self.try_once();
        let data = if failed.is_err() { &data[..data.len() / 2] } else { data };
        self.state.lock().write(offset, data);
        failed
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.try_once()?;
        self.state.lock().touch(offset, len);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.try_once()?;
        let mut state = self.state.lock();
        let size = state.bytes.len();
        let to = (offset + len).min(size as u64) as usize;
        if let Some(hole) = state.bytes.get_mut((offset as usize).min(size)..to) {
            hole.fill(0);
        }
        state.present.retain(|page| page * PAGE < offset || (page + 1) * PAGE > offset + len);
        Ok(())
    }

    fn seek(&self, offset: u64, whence: Whence) -> Result<u64, Error> {
        let state = self.state.lock();
        let size = state.bytes.len() as u64;
        let is_hole = |at: &u64| !state.present.contains(&(at / PAGE));
        let found = match whence {
            Whence::Data => (offset..size).find(|at| !is_hole(at)),
            Whence::Hole => (offset..size).find(is_hole).or((offset < size).then_some(size)),
        };
        found.ok_or(Error::NoSuchOffset)
    }

    fn blocks(&self) -> u64 {
        self.state.lock().present.len() as u64 * (PAGE / 512)
    }

    fn seal_growth(&self) -> Result<(), Error> {
        self.try_once()
    }

    fn usage(&self) -> crate::segment::Usage {
        crate::segment::Usage::Unused
    }

    fn backing(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn segment(limit: u64) -> (Segment, Arc<Plain>, Arc<Accounts>) {
    let (memory, accounts) = (Arc::new(Plain::default()), Arc::new(Accounts::unshared(limit)));
    (Segment::new(Arc::clone(&memory) as Arc<dyn Memory>, accounts.of(1000)), memory, accounts)
}

#[test]
fn starts_empty_kept_and_unlimited() {
    let (segment, ..) = segment(PAGE);
    assert_eq!((segment.size(), segment.promised(), segment.blocks()), (0, 0, 0));
    assert_eq!((segment.size_max(), segment.lifetime()), (NO_LIMIT, Lifetime::Keep));
}

#[test]
fn growing_promises_whole_pages_and_shrinking_returns_them() {
    let (mut segment, memory, accounts) = segment(3 * PAGE);
    segment.resize(PAGE + 1).unwrap();
    assert_eq!(
        (segment.size(), accounts.used(Resource::Segments), segment.blocks()),
        (PAGE + 1, 2 * PAGE, 0)
    );
    assert_eq!(segment.resize(3 * PAGE + 1), Err(Error::NoSpace));
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (PAGE + 1, 2 * PAGE));
    segment.resize(3 * PAGE).unwrap();
    segment.resize(PAGE).unwrap();
    assert_eq!((segment.promised(), accounts.used(Resource::Segments)), (PAGE, PAGE));
    assert_eq!(memory.state.lock().bytes.len() as u64, PAGE);
    drop(segment);
    assert_eq!(accounts.used(Resource::Segments), 0);
}

#[test]
fn segments_share_one_limit() {
    let (mut first, _, accounts) = segment(3 * PAGE);
    let mut second = Segment::new(Arc::new(Plain::default()), accounts.of(1001));
    first.resize(2 * PAGE).unwrap();
    assert_eq!(second.resize(2 * PAGE), Err(Error::NoSpace));
    drop(first);
    second.resize(2 * PAGE).unwrap();
    assert_eq!(accounts.used(Resource::Segments), 2 * PAGE);
}

#[test]
fn no_size_exceeds_the_kernels_limit() {
    let (mut segment, _, accounts) = segment(u64::MAX);
    for size in [TOO_LONG, u64::MAX] {
        assert_eq!(segment.resize(size), Err(Error::TooBig));
        assert_eq!(segment.write(size - 1, b"x"), Err(Error::TooBig));
        assert_eq!(segment.fallocate(size - 1, 1, 0), Err(Error::TooBig));
        assert_eq!(segment.fallocate(1, size - 1, PUNCH), Err(Error::TooBig));
    }
    assert_eq!(segment.write(u64::MAX, b"x"), Err(Error::TooBig));
    assert_eq!(segment.fallocate(u64::MAX, u64::MAX, KEEP_SIZE), Err(Error::TooBig));
    assert_eq!(segment.read(u64::MAX, usize::MAX), Ok(Vec::new()));
    assert_eq!(segment.seek(u64::MAX, Whence::Data), Err(Error::NoSuchOffset));
    assert_eq!(segment.write_back(u64::MAX, b"x"), Ok(1));
    assert_eq!(accounts.used(Resource::Segments), 0);
}

#[test]
fn size_max_limits_growth_and_nothing_else() {
    let (mut segment, _, accounts) = segment(u64::MAX);
    segment.resize(100).unwrap();
    segment.set_size_max(50);
    assert_eq!(segment.resize(101), Err(Error::NoSpace));
    assert_eq!(segment.write(100, b"x"), Err(Error::NoSpace));
    assert_eq!(segment.fallocate(0, 101, 0), Err(Error::NoSpace));
    assert_eq!(segment.fallocate(0, 101, KEEP_SIZE), Err(Error::NoSpace));
    assert_eq!(segment.fallocate(0, 101, ZERO), Err(Error::NoSpace));
    assert_eq!(segment.write(99, b"x"), Ok(1));
    segment.fallocate(0, 100, 0).unwrap();
    segment.fallocate(0, 1000, PUNCH).unwrap();
    segment.resize(60).unwrap();
    assert_eq!(segment.resize(61), Err(Error::NoSpace));
    segment.set_size_max(61);
    segment.resize(61).unwrap();
    assert_eq!(segment.resize(62), Err(Error::NoSpace));
    assert_eq!(accounts.used(Resource::Segments), PAGE);
}

#[test]
fn a_write_extends_and_leaves_zeroes_between() {
    let (mut segment, _, accounts) = segment(2 * PAGE);
    assert_eq!(segment.write(PAGE, b"abc"), Ok(3));
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (PAGE + 3, 2 * PAGE));
    assert_eq!(segment.read(PAGE - 1, 100).unwrap(), b"\0abc");
    assert_eq!(segment.read(PAGE + 3, 100).unwrap(), b"");
    assert_eq!(segment.write(2 * PAGE - 1, b"xy"), Err(Error::NoSpace));
    assert_eq!(segment.write(u64::MAX, b""), Ok(0));
    assert_eq!(segment.size(), PAGE + 3);
    assert_eq!(segment.memory().read(PAGE, 2).unwrap(), b"ab");
}

#[test]
fn write_back_never_extends() {
    let (mut segment, memory, _) = segment(PAGE);
    segment.resize(3).unwrap();
    assert_eq!(segment.write_back(1, b"abcdef"), Ok(6));
    assert_eq!(segment.write_back(3, b"abcdef"), Ok(6));
    assert_eq!(memory.state.lock().bytes, b"\0ab");
    memory.failing.store(true, Ordering::Relaxed);
    assert_eq!(segment.write_back(0, b"xy"), Err(Error::NoMemory));
}

#[test]
fn fallocate_has_five_modes() {
    for mode in 0..256 {
        let (mut segment, ..) = segment(PAGE);
        let known = [0, KEEP_SIZE, PUNCH, ZERO, ZERO | KEEP_SIZE].contains(&mode);
        let expected = if known { Ok(()) } else { Err(Error::NotSupported) };
        assert_eq!(segment.fallocate(0, 1, mode), expected, "{mode}");
        assert_eq!(segment.fallocate(0, 0, mode), Err(Error::Invalid));
    }
}

#[test]
fn fallocate_allocates_and_extends() {
    let (mut segment, _, accounts) = segment(4 * PAGE);
    segment.fallocate(PAGE, PAGE + 1, 0).unwrap();
    assert_eq!(
        (segment.size(), accounts.used(Resource::Segments), segment.blocks()),
        (2 * PAGE + 1, 3 * PAGE, 16)
    );
    assert_eq!(segment.fallocate(0, 4 * PAGE + 1, 0), Err(Error::NoSpace));
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (2 * PAGE + 1, 3 * PAGE));
}

#[test]
fn memory_allocated_beyond_the_end_is_promised_until_a_truncate() {
    let (mut segment, _, accounts) = segment(4 * PAGE);
    segment.resize(1).unwrap();
    segment.fallocate(0, 3 * PAGE, KEEP_SIZE).unwrap();
    assert_eq!((segment.size(), accounts.used(Resource::Segments), segment.blocks()), (1, 3 * PAGE, 24));
    assert_eq!(segment.fallocate(4 * PAGE, 1, KEEP_SIZE), Err(Error::NoSpace));
    segment.resize(2 * PAGE).unwrap();
    assert_eq!(accounts.used(Resource::Segments), 3 * PAGE);
    segment.resize(2 * PAGE).unwrap();
    assert_eq!((accounts.used(Resource::Segments), segment.blocks()), (2 * PAGE, 16));
    segment.fallocate(0, 4 * PAGE, ZERO | KEEP_SIZE).unwrap();
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (2 * PAGE, 4 * PAGE));
}

#[test]
fn zeroing_zeroes_and_extends() {
    let (mut segment, _, accounts) = segment(4 * PAGE);
    segment.write(0, b"abcdef").unwrap();
    segment.fallocate(1, 2, ZERO).unwrap();
    segment.fallocate(4, 100, ZERO | KEEP_SIZE).unwrap();
    assert_eq!(segment.read(0, 100).unwrap(), b"a\0\0d\0\0");
    segment.fallocate(5, 2 * PAGE, ZERO).unwrap();
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (2 * PAGE + 5, 3 * PAGE));
}

#[test]
fn seeks_within_the_size_only() {
    let (mut segment, ..) = segment(4 * PAGE);
    segment.resize(4 * PAGE).unwrap();
    segment.write(PAGE, b"x").unwrap();
    assert_eq!(segment.seek(0, Whence::Data), Ok(PAGE));
    assert_eq!(segment.seek(PAGE, Whence::Hole), Ok(2 * PAGE));
    assert_eq!(segment.seek(2 * PAGE, Whence::Data), Err(Error::NoSuchOffset));
    assert_eq!(segment.seek(4 * PAGE, Whence::Hole), Err(Error::NoSuchOffset));
}

#[test]
fn failing_memory_leaves_size_and_promise_as_they_were() {
    let (mut segment, memory, accounts) = segment(8 * PAGE);
    segment.write(0, b"abc").unwrap();
    let mut failing = |change: &dyn Fn(&mut Segment) -> Result<(), Error>| {
        memory.failing.store(true, Ordering::Relaxed);
        assert_eq!(change(&mut segment), Err(Error::NoMemory));
        assert_eq!((segment.size(), segment.promised(), accounts.used(Resource::Segments)), (3, PAGE, PAGE));
        assert_eq!(memory.state.lock().bytes, b"abc");
    };
    failing(&|s| s.resize(2 * PAGE));
    failing(&|s| s.resize(1));
    failing(&|s| s.write(3, &[1; 10_000]).map(drop));
    for mode in [0, KEEP_SIZE, ZERO, ZERO | KEEP_SIZE] {
        failing(&|s| s.fallocate(3, 2 * PAGE, mode));
    }
    failing(&|s| s.fallocate(0, 3, PUNCH));
}

#[test]
fn what_is_abandoned_is_not_charged_and_its_length_is_told() {
    let (mut segment, memory, accounts) = segment(8 * PAGE);
    segment.write(0, b"abc").unwrap();
    segment.fallocate(0, 5 * PAGE, KEEP_SIZE).unwrap();
    assert_eq!(segment.abandon(), 5 * PAGE);
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (0, 0));
    assert_eq!(memory.state.lock().bytes, b"abc", "the caller cuts it");
    drop(segment);
    assert_eq!(accounts.used(Resource::Segments), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Resize(u64),
    Write(u64, Vec<u8>),
    WriteBack(u64, Vec<u8>),
    Fallocate(u64, u64, u32),
    SizeMax(u64),
    Read(u64, usize),
    /// The next change of the memory fails.
    Fail,
}

fn steps() -> impl Strategy<Value = Step> {
    let offset = || prop_oneof![12 => 0..8 * PAGE, 1 => (TOO_LONG - 9)..TOO_LONG, 1 => any::<u64>()];
    let data = || (any::<u8>(), 0..2 * PAGE as usize).prop_map(|(byte, len)| vec![byte; len]);
    let modes = prop::sample::select(vec![0, KEEP_SIZE, PUNCH, ZERO, ZERO | KEEP_SIZE, 2]);
    prop_oneof![
        4 => offset().prop_map(Step::Resize),
        4 => (offset(), data()).prop_map(|(offset, data)| Step::Write(offset, data)),
        2 => (offset(), data()).prop_map(|(offset, data)| Step::WriteBack(offset, data)),
        4 => (offset(), offset(), modes).prop_map(|(offset, len, mode)| Step::Fallocate(offset, len, mode)),
        1 => prop_oneof![0..8 * PAGE, Just(NO_LIMIT)].prop_map(Step::SizeMax),
        2 => (offset(), 0..3 * PAGE as usize).prop_map(|(offset, len)| Step::Read(offset, len)),
        1 => Just(Step::Fail),
    ]
}

/// What the segment should be: its bytes, and the end of the pages promised.
struct Model {
    bytes: Vec<u8>,
    promised: u64,
    size_max: u64,
    limit: u64,
}

impl Model {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn promise(&self, end: u128) -> Result<u64, Error> {
        if end > i64::MAX as u128 {
            return Err(Error::TooBig);
        }
        let end = end as u64;
        let pages = end.div_ceil(PAGE) * PAGE;
        if end > self.size() && (end > self.size_max || pages > self.limit) {
            return Err(Error::NoSpace);
        }
        Ok(pages.max(self.promised))
    }

    fn extend(&mut self, end: u64) {
        self.bytes.resize(self.bytes.len().max(end as usize), 0);
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Resize(size) => {
                let promised = self.promise(u128::from(*size))?;
                self.promised = if *size > self.size() { promised } else { size.div_ceil(PAGE) * PAGE };
                self.bytes.resize(*size as usize, 0);
            }
            Step::Write(_, data) if data.is_empty() => {}
            Step::Write(offset, data) => {
                self.promised = self.promise(u128::from(*offset) + data.len() as u128)?;
                self.extend(offset + data.len() as u64);
                self.bytes[*offset as usize..][..data.len()].copy_from_slice(data);
            }
            Step::WriteBack(offset, data) => {
                let from = self.bytes.len().min((*offset).try_into().unwrap());
                let room = &mut self.bytes[from..];
                let len = room.len().min(data.len());
                room[..len].copy_from_slice(&data[..len]);
            }
            Step::Fallocate(_, 0, _) => return Err(Error::Invalid),
            Step::Fallocate(_, _, 2) => return Err(Error::NotSupported),
            Step::Fallocate(offset, len, mode) => {
                let end = u128::from(*offset) + u128::from(*len);
                match *mode {
                    PUNCH if end > i64::MAX as u128 => return Err(Error::TooBig),
                    PUNCH => {}
                    _ => self.promised = self.promise(end)?,
                }
                if *mode == 0 || *mode == ZERO {
                    self.extend(end as u64);
                }
                if *mode & (ZERO | 2) != 0 {
                    self.bytes
                        .iter_mut()
                        .skip(*offset as usize)
                        .take(*len as usize)
                        .for_each(|byte| *byte = 0);
                }
            }
            Step::SizeMax(size) => self.size_max = *size,
            Step::Read(..) | Step::Fail => {}
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn behaves_as_a_vec_with_a_budget(
        pages in 0..12u64,
        steps in prop::collection::vec(steps(), 0..60),
    ) {
        let (mut segment, memory, accounts) = segment(pages * PAGE);
        let mut model = Model { bytes: Vec::new(), promised: 0, size_max: NO_LIMIT, limit: pages * PAGE };
        for step in steps {
            let broken = memory.failing.load(Ordering::Relaxed);
            let result = match &step {
                Step::Resize(size) => segment.resize(*size),
                Step::Write(offset, data) => {
                    segment.write(*offset, data).map(|written| assert_eq!(written as usize, data.len()))
                }
                Step::WriteBack(offset, data) => {
                    segment.write_back(*offset, data).map(|written| assert_eq!(written as usize, data.len()))
                }
                Step::Fallocate(offset, len, mode) => segment.fallocate(*offset, *len, *mode),
                Step::SizeMax(size) => { segment.set_size_max(*size); Ok(()) }
                Step::Read(offset, len) => {
                    let from = model.bytes.len().min((*offset).try_into().unwrap());
                    let to = model.bytes.len().min(from + len);
                    prop_assert_eq!(&segment.read(*offset, *len).unwrap(), &model.bytes[from..to]);
                    Ok(())
                }
                Step::Fail => { memory.failing.store(true, Ordering::Relaxed); Ok(()) }
            };
            if result == Err(Error::NoMemory) {
                prop_assert!(broken);
                // What was overwritten before the failure is not undone.
                model.bytes.clone_from(&segment.read(0, model.bytes.len()).unwrap());
            } else {
                prop_assert_eq!(result, model.step(&step), "{:?}", step);
            }
            prop_assert_eq!((segment.size(), segment.promised()), (model.size(), model.promised));
            prop_assert_eq!(accounts.used(Resource::Segments), model.promised);
            prop_assert_eq!(&memory.state.lock().bytes, &model.bytes);
            prop_assert!(segment.blocks() * 512 <= segment.promised(), "a page that was not promised");
        }
        drop(segment);
        prop_assert_eq!(accounts.used(Resource::Segments), 0);
    }
}

#[test]
fn growth_is_sealed_for_ever_also_beyond_the_end_and_in_the_memory() {
    let (mut segment, memory, accounts) = segment(u64::MAX);
    let grow = Seals { grow: true, ..Seals::default() };
    segment.resize(PAGE).unwrap();
    memory.failing.store(true, Ordering::Relaxed);
    assert_eq!(segment.set_seals(grow), Err(Error::NoMemory));
    assert_eq!(segment.seals(), Seals::default(), "what failed is not sealed");
    segment.set_seals(grow).unwrap();
    for mode in [0, KEEP_SIZE, ZERO, ZERO | KEEP_SIZE] {
        assert_eq!(segment.fallocate(PAGE - 1, 2, mode), Err(Error::NotPermitted), "{mode}");
        segment.fallocate(PAGE - 1, 1, mode).unwrap();
    }
    assert_eq!(segment.resize(PAGE + 1), Err(Error::NotPermitted));
    assert_eq!(segment.write(PAGE - 1, b"xy"), Err(Error::NotPermitted));
    segment.fallocate(0, 2 * PAGE, PUNCH).unwrap();
    segment.resize(1).unwrap();
    assert_eq!(segment.resize(2), Err(Error::NotPermitted));
    assert_eq!((segment.size(), accounts.used(Resource::Segments)), (1, PAGE));
}
