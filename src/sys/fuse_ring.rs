//! FUSE over `io_uring` (Linux 6.14, `Documentation/filesystems/fuse/fuse-io-uring.rst`): one ring, its entries, and the memory
//! that carries their requests and answers.
//!
//! An entry is always owned either by this program or by the kernel:
//!
//! ```text
//!              register, commit                    (only during submit_and_wait)
//!   ours ───────────────────────────▶ the kernel's ─────────────────────────────▶ ours, with a request
//! ```
//!
//! The ring is set up with `IORING_SETUP_DEFER_TASKRUN` and `IORING_SETUP_SINGLE_ISSUER`: the kernel accesses an entry's
//! memory only in system calls that the ring's own thread makes in [`FuseRing::submit_and_wait`] and
//! [`FuseRing::submit`], which borrow the ring exclusively. Therefore that memory may be borrowed as plain slices between
//! these calls.

#![allow(unsafe_code)]

use std::io;
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{Errno, pread, pwrite};

use super::ring_memory::{Area, RingMemory};

/// `FUSE_IO_URING_CMD_REGISTER`: passes a new entry to the kernel.
const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: answers an entry's request, and passes the entry to the kernel again.
const COMMIT_AND_FETCH: u32 = 2;

/// Size of an entry's headers in bytes: `struct fuse_uring_req_header`.
pub const HEADERS: usize = 288;
/// Offset of an operation's fixed argument in the headers (`op_in`). Before it stands the header of the request or answer
/// (`in_out`).
pub const OPERATION: usize = 128;
/// Offset of `struct fuse_uring_ent_in_out` in the headers.
const ENTRY: usize = 256;
/// Offset of its `commit_id`, a u64: the number of the request.
const COMMIT_ID: usize = ENTRY + 8;
/// Offset of its `payload_sz`, a u32.
const PAYLOAD_LENGTH: usize = ENTRY + 16;
/// Offset of a request's operation in its header, and of an answer's error. The one is positive, the other is not.
const KIND: usize = 4;

/// Distance between the headers of two entries in bytes: no two share a cache line.
const HEADER_STRIDE: usize = 320;

/// `user_data` of the waker's completions. No entry has this number.
const WOKEN: u64 = u64::MAX;

/// Size of the submission queue.
const SUBMISSIONS: u32 = 64;
/// Size of the completion queue. The kernel keeps further completions in a list of its own.
const COMPLETIONS: u32 = 1024;

/// Bytes of memory that an idle entry's payload always keeps.
const SMALL: usize = 4096;
/// Bytes beyond that which all idle entries of a ring may keep together, so that long messages need not allocate memory each
/// time.
const KEPT: usize = 8 << 20;

/// Number of an entry in its ring.
pub type Slot = u32;

/// Entries that were added together, and where their memory is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Extent {
    pub queue: u16,
    pub count: u32,
    pub address: usize,
}

/// Bytes of an extent in a list.
const LISTED: usize = 24;

/// The extents in the [list](FuseRing::list) of a ring.
///
/// # Errors
/// Those of reading it; `InvalidData` if it is none.
pub fn listed(list: &OwnedFd) -> io::Result<Vec<Extent>> {
    let mut bytes = vec![0; fstat(list)?.st_size as usize];
    let read = pread(list, &mut bytes[..], 0)?;
    let extent = |bytes: &[u8]| {
        let mut numbers = bytes.chunks_exact(8).map(|number| number.try_into().ok().map(u64::from_le_bytes));
        let mut next = || numbers.next().flatten();
        let (queue, count, address) = (next()?, next()?, next()?);
        Some(Extent {
            queue: queue.try_into().ok()?,
            count: count.try_into().ok()?,
            address: address.try_into().ok()?,
        })
    };
    let extents = bytes.get(..read).unwrap_or_default().chunks_exact(LISTED).map(extent);
    extents.collect::<Option<_>>().ok_or(io::ErrorKind::InvalidData.into())
}

/// What is in an entry of a process that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing: it was never used.
    Nothing,
    /// The request with this number. It is not answered.
    Request(u64),
    /// The whole answer to the request with this number. The kernel may have it or not.
    Answer(u64),
}

/// A completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The kernel returned an entry: with a request; or, with an error, without one and for good.
    Entry(Slot, Result<(), Errno>),
    /// A [`Waker`] was used.
    Woken,
}

/// Wakes a ring's thread from [`FuseRing::submit_and_wait`]. May be used by any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Wakes the ring's thread.
    pub fn wake(&self) {
        // Fails only if the counter is full; then the thread is woken anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// The memory of entries that were added together.
#[derive(Debug)]
struct Batch {
    first: Slot,
    count: u32,
    /// First the payloads, then the headers.
    area: Area,
    /// For each entry an `iovec` of its headers and one of its payload. Registrations point here, so it is never moved.
    vectors: Box<[[[usize; 2]; 2]]>,
}

#[derive(Debug)]
struct Entry {
    queue: u16,
    batch: u32,
    /// Owned by this program, not by the kernel.
    ours: bool,
    /// Bytes of its payload that may be backed by memory.
    touched: usize,
}

/// One ring. It carries the requests of one or more of the kernel's queues, of which there is one for each CPU.
pub struct FuseRing {
    // Dropped first, so that the kernel's references to the fields below end first.
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    wake: Arc<OwnedFd>,
    device: Option<Arc<OwnedFd>>,
    payload: usize,
    entries: Vec<Entry>,
    memory: RingMemory,
    /// Where the entries are, for a process that goes on after this one was killed: each extent as three numbers.
    list: OwnedFd,
    // Never dropped: the kernel does not tell when it no longer uses what is in them.
    batches: ManuallyDrop<Vec<Batch>>,
    /// Entries answered since the last call of `release_memory` whose memory is to be released.
    large: Vec<Slot>,
    /// Bytes that idle entries keep, without `SMALL` for each.
    kept: usize,
    no_iowait: bool,
}

impl std::fmt::Debug for FuseRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FuseRing").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl FuseRing {
    /// Sets up a ring without entries. Each entry will carry up to `payload` bytes, a multiple of the page size. `number` is
    /// another one for each ring of the process.
    ///
    /// # Errors
    /// Those of `io_uring_setup(2)`, `eventfd(2)` and `memfd_create(2)`.
    pub fn new(number: u32, payload: usize) -> io::Result<FuseRing> {
        FuseRing::with_memory(RingMemory::new(number)?, payload)
    }

    /// Sets up a ring for the entries of one that another process had, whose memory is `file`. They keep their numbers, and are
    /// this program's: those that carry a request can be answered.
    ///
    /// # Errors
    /// EEXIST if something else is mapped where their memory was; those of `io_uring_setup(2)`, `eventfd(2)` and `mmap(2)`.
    pub fn take_over(file: OwnedFd, payload: usize, extents: &[Extent]) -> io::Result<FuseRing> {
        let mut ring = FuseRing::with_memory(RingMemory::of_file(file), payload)?;
        for extent in extents {
            let length = ring.area_length(extent.count).ok_or(Errno::INVAL)?;
            let area = ring.memory.add_at(extent.address, length)?;
            ring.add_batch(extent.queue, extent.count, area)?;
        }
        for entry in &mut ring.entries {
            entry.touched = payload;
        }
        Ok(ring)
    }

    fn with_memory(memory: RingMemory, payload: usize) -> io::Result<FuseRing> {
        let ring = IoUring::<squeue::Entry128, cqueue::Entry>::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        let list = memfd_create(c"ipcfs-ring-list", MemfdFlags::CLOEXEC)?;
        Ok(FuseRing {
            ring,
            wake: Arc::new(wake),
            device: None,
            payload,
            entries: Vec::new(),
            memory,
            list,
            batches: ManuallyDrop::new(Vec::new()),
            large: Vec::new(),
            kept: 0,
            no_iowait,
        })
    }

    /// Bytes that each entry carries.
    pub fn payload(&self) -> usize {
        self.payload
    }

    /// The file that is the memory of all entries, for another process.
    pub fn memory(&self) -> &OwnedFd {
        self.memory.file()
    }

    /// The file that lists where they are, see [`listed`].
    pub fn list(&self) -> &OwnedFd {
        &self.list
    }

    /// Where all entries are, for another process.
    pub fn extents(&self) -> Vec<Extent> {
        let extent = |batch: &Batch| Extent {
            queue: self.queue(batch.first).unwrap_or_default(),
            count: batch.count,
            address: batch.area.address(),
        };
        self.batches.iter().map(extent).collect()
    }

    /// A waker for this ring's thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// Maps memory for `count` more entries of the queue of CPU `queue`. They must then be registered.
    ///
    /// # Errors
    /// Those of `ftruncate(2)` and `mmap(2)`.
    pub fn add(&mut self, queue: u16, count: u32) -> io::Result<std::ops::Range<Slot>> {
        let length = self.area_length(count).ok_or(Errno::NOMEM)?;
        let area = self.memory.add(length)?;
        self.add_batch(queue, count, area)
    }

    /// Bytes that the memory of `count` entries takes.
    fn area_length(&self, count: u32) -> Option<usize> {
        let payloads = self.payload.checked_mul(count as usize)?;
        let headers = HEADER_STRIDE.checked_mul(count as usize)?;
        payloads.checked_add(headers.checked_next_multiple_of(rustix::param::page_size())?)
    }

    fn add_batch(&mut self, queue: u16, count: u32, area: Area) -> io::Result<std::ops::Range<Slot>> {
        let extent = [u64::from(queue), u64::from(count), area.address() as u64].map(u64::to_le_bytes);
        let written = pwrite(&self.list, extent.as_flattened(), (self.batches.len() * LISTED) as u64)?;
        if written != LISTED {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let first = self.entries.len() as Slot;
        let batch = self.batches.len() as u32;
        let payloads = count as usize * self.payload;
        let vectors = (0..count as usize).map(|index| {
            let headers = area.address() + payloads + index * HEADER_STRIDE;
            [[headers, HEADERS], [area.address() + index * self.payload, self.payload]]
        });
        let vectors = vectors.collect();
        self.batches.push(Batch { first, count, area, vectors });
        self.entries.extend((0..count).map(|_| Entry { queue, batch, ours: true, touched: 0 }));
        Ok(first..first + count)
    }

    /// Makes this thread the one that serves the ring, for the mount of `device`. Must be called once, before all other
    /// methods except [`FuseRing::add`].
    ///
    /// # Errors
    /// Those of `io_uring_register(2)`.
    pub fn enable(&mut self, device: &Arc<OwnedFd>) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        // Saves looking up the descriptor in each system call, on kernels that support it.
        let _ = self.ring.submitter().register_ring_fd();
        self.device = Some(Arc::clone(device));
        self.poll_waker()
    }

    /// Passes a new entry to the kernel, and submits.
    ///
    /// # Errors
    /// EINVAL if the entry does not exist or is the kernel's already; those of `io_uring_enter(2)`.
    pub fn register(&mut self, slot: Slot) -> io::Result<()> {
        let entry = self.entries.get(slot as usize).filter(|entry| entry.ours).ok_or(Errno::INVAL)?;
        let batch = self.batch(slot).ok_or(Errno::INVAL)?;
        let vectors = batch.vectors.get((slot - batch.first) as usize).ok_or(Errno::INVAL)?;
        let (queue, vectors) = (entry.queue, vectors.as_ptr().expose_provenance() as u64);
        self.push_command(REGISTER, slot, queue, 0, Some(vectors))?;
        self.pass_to_kernel(slot);
        self.submit()
    }

    /// Submits all registrations and answers, and waits until there is a completion, or for `limit` (`None`: without limit).
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, except for those that pass: ETIME, EINTR, EAGAIN and EBUSY.
    pub fn submit_and_wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.enter(1, limit)
    }

    fn enter(&mut self, want: usize, limit: Option<Duration>) -> io::Result<()> {
        let time = limit.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        let flags = if self.no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        match self.ring.submitter().submit_with_args_and_flags(want, &args, flags) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Submits all registrations and answers, and lets the kernel deliver what has come, without waiting.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, except for those that pass.
    pub fn submit_and_poll(&mut self) -> io::Result<()> {
        self.enter(0, None)
    }

    /// Whether there is a completion, or [`FuseRing::submit_and_wait`] will find one.
    pub fn has_event(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    /// Takes the next completion, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        let completion = self.ring.completion().next()?;
        let result = completion.result();
        if completion.user_data() == WOKEN {
            // The counter is never read: each write to it completes the poll again.
            if !cqueue::more(completion.flags()) {
                // The kernel ended the poll, as it does when the completion queue overflows.
                let _ = self.poll_waker();
            }
            return Some(Event::Woken);
        }
        let slot = completion.user_data() as Slot;
        let entry = self.entries.get_mut(slot as usize)?;
        entry.ours = true;
        self.kept = self.kept.saturating_sub(entry.touched.saturating_sub(SMALL));
        let result = if result < 0 { Err(Errno::from_raw_os_error(-result)) } else { Ok(()) };
        if result.is_ok() {
            let carried = self.payload_length(slot);
            if let Some(entry) = self.entries.get_mut(slot as usize) {
                entry.touched = entry.touched.max(carried);
            }
        }
        Some(Event::Entry(slot, result))
    }

    /// The headers and the payload of the request in an entry. `None` if the entry is the kernel's.
    pub fn request(&self, slot: Slot) -> Option<(&[u8], &[u8])> {
        let (headers, payload) = self.ranges(slot).filter(|_| self.is_ours(slot))?;
        let bytes = self.batch(slot)?.area.bytes();
        Some((bytes.get(headers)?, bytes.get(payload)?.get(..self.payload_length(slot))?))
    }

    /// Answers the request `unique` in an entry with `header`, followed by `parts`, and passes the entry to the kernel. It is
    /// submitted with the next call of [`FuseRing::submit_and_wait`] or [`FuseRing::submit`]. False if the entry is the
    /// kernel's already, or the answer is too long.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, if the submission queue was full; EBUSY if it still is.
    pub fn commit(&mut self, slot: Slot, unique: u64, header: &[u8], parts: [&[u8]; 2]) -> io::Result<bool> {
        let length = parts[0].len() + parts[1].len();
        let (Some((headers, payload)), Some(entry)) = (self.ranges(slot), self.entries.get(slot as usize))
        else {
            return Ok(false);
        };
        if !entry.ours || header.len() > OPERATION || length > self.payload {
            return Ok(false);
        }
        let (queue, touched) = (entry.queue, entry.touched.max(length));
        if let Some(batch) = self.batches.get_mut(entry.batch as usize) {
            let bytes = batch.area.bytes_mut();
            let payload = &mut bytes[payload];
            payload[..parts[0].len()].copy_from_slice(parts[0]);
            payload[parts[0].len()..length].copy_from_slice(parts[1]);
            let headers = &mut bytes[headers];
            headers[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(length as u32).to_ne_bytes());
            // The header is the last: if it is there, so is all of the answer, whenever this process is killed.
            compiler_fence(Ordering::Release);
            headers[..header.len()].copy_from_slice(header);
        }
        self.push_command(COMMIT_AND_FETCH, slot, queue, unique, None)?;
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.touched = touched;
        }
        self.pass_to_kernel(slot);
        if touched > SMALL {
            let beyond = touched - SMALL;
            self.kept += beyond;
            if self.kept > KEPT {
                self.large.push(slot);
            }
        }
        Ok(true)
    }

    /// Number of entries.
    pub fn entries(&self) -> Slot {
        self.entries.len() as Slot
    }

    /// What a process that was killed has left in an entry.
    pub fn left(&self, slot: Slot) -> Left {
        let headers = self.ranges(slot).zip(self.batch(slot));
        let headers = headers.and_then(|((headers, _), batch)| batch.area.bytes().get(headers));
        let number =
            |at: usize| headers?.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_ne_bytes(*bytes));
        let kind = headers.and_then(|headers| headers.get(KIND..)?.first_chunk::<4>());
        match (number(COMMIT_ID), kind) {
            (Some(0) | None, _) | (_, None) => Left::Nothing,
            (Some(unique), Some(kind)) if i32::from_ne_bytes(*kind) > 0 => Left::Request(unique),
            (Some(unique), _) => Left::Answer(unique),
        }
    }

    /// Passes the answer that was [left](FuseRing::left) in an entry to the kernel. If it has it already, the entry comes back with
    /// ENOENT.
    ///
    /// # Errors
    /// As [`FuseRing::commit`].
    pub fn commit_left(&mut self, slot: Slot, unique: u64) -> io::Result<()> {
        let queue = self.queue(slot).ok_or(Errno::INVAL)?;
        self.push_command(COMMIT_AND_FETCH, slot, queue, unique, None)?;
        self.pass_to_kernel(slot);
        Ok(())
    }

    /// Releases the memory of an entry's payload, for a request that waits. Whoever handled it has what it carries, and so has its
    /// history if this process is killed.
    pub fn shrink(&mut self, slot: Slot) {
        if self.is_ours(slot) && self.entries.get(slot as usize).is_some_and(|entry| entry.touched > 0) {
            self.discard(slot);
        }
    }

    /// Releases memory of answered entries beyond what is kept. To be called when all completions have been
    /// [taken](FuseRing::next_event).
    pub fn release_memory(&mut self) {
        while let Some(slot) = self.large.pop() {
            // An entry that came back is in use again. Its memory is counted again when it is answered.
            let Some(entry) = self.entries.get(slot as usize).filter(|entry| !entry.ours) else { continue };
            self.kept = self.kept.saturating_sub(entry.touched.saturating_sub(SMALL));
            self.discard(slot);
        }
    }

    /// The queue (CPU number) that an entry belongs to.
    pub fn queue(&self, slot: Slot) -> Option<u16> {
        self.entries.get(slot as usize).map(|entry| entry.queue)
    }

    fn is_ours(&self, slot: Slot) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| entry.ours)
    }

    fn pass_to_kernel(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.ours = false;
        }
    }

    fn batch(&self, slot: Slot) -> Option<&Batch> {
        self.batches.get(self.entries.get(slot as usize)?.batch as usize)
    }

    /// Ranges of an entry's headers and payload in the area of its batch.
    fn ranges(&self, slot: Slot) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let batch = self.batch(slot)?;
        let index = (slot - batch.first) as usize;
        let (headers, payload) =
            (batch.count as usize * self.payload + index * HEADER_STRIDE, index * self.payload);
        Some((headers..headers + HEADERS, payload..payload + self.payload))
    }

    /// Length of a request's payload in bytes, as the kernel says, limited to the payload's size.
    fn payload_length(&self, slot: Slot) -> usize {
        let length = self.ranges(slot).zip(self.batch(slot)).and_then(|((headers, _), batch)| {
            let bytes = batch.area.bytes().get(headers)?.get(PAYLOAD_LENGTH..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*bytes) as usize)
        });
        length.unwrap_or_default().min(self.payload)
    }

    fn discard(&mut self, slot: Slot) {
        let (Some((_, payload)), Some(entry)) = (self.ranges(slot), self.entries.get_mut(slot as usize))
        else {
            return;
        };
        entry.touched = 0;
        if let Some(batch) = self.batches.get_mut(entry.batch as usize) {
            RingMemory::discard(&mut batch.area, &payload);
        }
    }

    fn poll_waker(&mut self) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(self.wake.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push(&squeue::Entry128::from(poll).user_data(WOKEN))
    }

    fn push_command(
        &mut self,
        command: u32,
        slot: Slot,
        queue: u16,
        commit: u64,
        vector: Option<u64>,
    ) -> io::Result<()> {
        let device = self.device.as_ref().map(|device| device.as_fd().as_raw_fd()).ok_or(Errno::BADF)?;
        // `struct fuse_uring_cmd_req`: flags, commit_id, qid, padding.
        let mut request = [0; 80];
        request[8..16].copy_from_slice(&commit.to_ne_bytes());
        request[16..18].copy_from_slice(&queue.to_ne_bytes());
        let mut entry = opcode::UringCmd80::new(Fd(device), command)
            .cmd(request)
            .addr(vector)
            .build()
            .user_data(u64::from(slot));
        if vector.is_some() {
            set_length(&mut entry, 2);
        }
        self.push(&entry)
    }

    fn push(&mut self, entry: &squeue::Entry128) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.submit()?;
        }
        // SAFETY: what the submission points to stays valid for as long as the kernel uses it: the descriptors of the device
        // and of the waker are owned by `self`, and the ring is dropped before them; the memory of entries and the
        // `iovec`s of their registration are never unmapped or freed.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::Error::from(Errno::BUSY))
    }

    /// Submits all registrations and answers without waiting. If the kernel lacks memory, the rest is left to the next call.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, except for EAGAIN and EBUSY.
    pub fn submit(&mut self) -> io::Result<()> {
        while !self.is_submitted() {
            match self.ring.submit().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::BUSY) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether all registrations and answers have been submitted.
    pub fn is_submitted(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// Whether the kernel keeps completions in a list of its own because the completion queue was full.
    pub fn has_overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }
}

/// Sets `len` of a submission, which the crate's type for commands does not set.
fn set_length(entry: &mut squeue::Entry128, length: u32) {
    const LENGTH: usize = 24;
    const _: () = assert!(size_of::<squeue::Entry128>() == 128);
    // SAFETY: `Entry128` is `repr(C)` around the kernel's `struct io_uring_sqe` of 128 bytes, in which a u32 `len` stands
    // at byte 24 (include/uapi/linux/io_uring.h), aligned because the structure is to 8. It is borrowed exclusively.
    unsafe { std::ptr::from_mut(entry).byte_add(LENGTH).cast::<u32>().write(length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_in_an_entry_is_a_request_an_answer_or_nothing() {
        let mut ring = FuseRing::new(700, 1 << 16).unwrap();
        ring.add(0, 3).unwrap();
        assert_eq!((ring.entries(), ring.left(0), ring.left(3)), (3, Left::Nothing, Left::Nothing));
        let mut put = |slot: Slot, kind: i32, unique: u64| {
            let (headers, _) = ring.ranges(slot).unwrap();
            let bytes = &mut ring.batches[0].area.bytes_mut()[headers];
            bytes[KIND..KIND + 4].copy_from_slice(&kind.to_ne_bytes());
            bytes[8..16].copy_from_slice(&unique.to_ne_bytes());
            bytes[COMMIT_ID..COMMIT_ID + 8].copy_from_slice(&unique.to_ne_bytes());
        };
        // FUSE_READ is 15.
        put(0, 15, 40);
        put(1, 0, 42);
        put(2, -libc::EINTR, 44);
        let left: Vec<Left> = (0..3).map(|slot| ring.left(slot)).collect();
        assert_eq!(left, [Left::Request(40), Left::Answer(42), Left::Answer(44)]);
    }
}
