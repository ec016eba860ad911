//! FUSE over `io_uring` (Linux 6.14, `Documentation/filesystems/fuse/fuse-io-uring.rst`): one ring, its entries, and the memory
//! in which they carry requests and answers.
//!
//! An entry is always in one of two hands:
//!
//! ```text
//!              register, commit                        (only during FuseRing::turn)
//!   ours ───────────────────────────▶ the kernel's ─────────────────────────────────▶ ours, with a request
//! ```
//!
//! The ring is made with `IORING_SETUP_DEFER_TASKRUN` and `SINGLE_ISSUER`: the kernel touches an entry's memory only in
//! system calls that the ring's own thread makes in [`FuseRing::turn`], which takes the ring exclusively. Therefore
//! memory may be lent out as plain slices in between.

#![allow(unsafe_code)]

use std::io;
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};
use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// `FUSE_IO_URING_CMD_REGISTER`: an entry is the kernel's from now on.
const REGISTER: u32 = 1;
/// `FUSE_IO_URING_CMD_COMMIT_AND_FETCH`: answers an entry's request, and the entry is the kernel's again.
const COMMIT_AND_FETCH: u32 = 2;

/// Bytes of an entry's headers: `struct fuse_uring_req_header`.
pub const HEADERS: usize = 288;
/// Where an operation's fixed argument begins in the headers (`op_in`). Before it stands the request's or the answer's
/// header (`in_out`).
pub const OPERATION: usize = 128;
/// Where `struct fuse_uring_ent_in_out` begins in the headers.
const ENTRY: usize = 256;
/// Where in it, and how long, the payload's length is.
const PAYLOAD_LENGTH: usize = ENTRY + 16;

/// Bytes from one entry's headers to the next, so that no two share a cache line.
const HEADER_STRIDE: usize = 320;

/// Completion of the wake-up, which is no entry.
const WOKEN: u64 = u64::MAX;

/// Submissions that are collected before the kernel is told.
const SUBMISSIONS: u32 = 64;
/// Completions that the ring holds. The kernel keeps more where they must be.
const COMPLETIONS: u32 = 1024;

/// Bytes that stay in an entry that nobody uses, whatever it carried.
const SMALL: usize = 4096;
/// Bytes beyond that which a ring's idle entries may keep, so that long messages need not ask for memory each time.
const KEPT: usize = 8 << 20;

/// An entry of a ring, by number.
pub type Slot = u32;

/// What the kernel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An entry is ours again: with a request, or, with an error, for good.
    Entry(Slot, Result<(), Errno>),
    /// Somebody used the [`Waker`].
    Woken,
}

/// Makes a ring's thread look up from its wait, from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Wakes.
    pub fn wake(&self) {
        // Fails only where the counter is full, which is a wake-up too.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Memory of entries that were added together.
#[derive(Debug)]
struct Batch {
    first: Slot,
    headers: MmapMut,
    payloads: MmapMut,
    /// An `iovec` for each entry's headers and one for its payload, which a registration points to. Never moved.
    vectors: Box<[[[usize; 2]; 2]]>,
}

#[derive(Debug)]
struct Entry {
    queue: u16,
    batch: u32,
    ours: bool,
    /// Bytes of its payload that may have memory.
    touched: usize,
}

/// One ring. It serves one or more of the kernel's queues, of which there is one a CPU.
pub struct FuseRing {
    // Dropped first: what the kernel knows of it ends with it.
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    wake: Arc<OwnedFd>,
    device: Option<Arc<OwnedFd>>,
    payload: usize,
    entries: Vec<Entry>,
    // Never unmapped: the kernel does not say when it has let go of a ring.
    batches: ManuallyDrop<Vec<Batch>>,
    /// Entries answered since the last turn that carried more than is to be kept.
    large: Vec<Slot>,
    /// Bytes that idle entries keep beyond `SMALL` each.
    kept: usize,
    no_iowait: bool,
}

impl std::fmt::Debug for FuseRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FuseRing").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl FuseRing {
    /// A ring that does nothing yet, whose entries carry up to `payload` bytes each.
    pub fn new(payload: usize) -> io::Result<FuseRing> {
        let ring = IoUring::<squeue::Entry128, cqueue::Entry>::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        Ok(FuseRing {
            ring,
            wake: Arc::new(wake),
            device: None,
            payload,
            entries: Vec::new(),
            batches: ManuallyDrop::new(Vec::new()),
            large: Vec::new(),
            kept: 0,
            no_iowait,
        })
    }

    /// What wakes this ring's thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// Adds `count` entries for the queue of CPU `queue`: memory alone, until they are registered.
    pub fn add(&mut self, queue: u16, count: u32) -> io::Result<std::ops::Range<Slot>> {
        let first = self.entries.len() as Slot;
        let batch = self.batches.len() as u32;
        // Address space, no memory: pages come as they are touched, each by itself.
        let map = |length: usize| {
            let map = MmapOptions::new().len(length).no_reserve_swap().map_anon()?;
            // Not there where the kernel has no huge pages.
            let _ = map.advise(memmap2::Advice::NoHugePage);
            io::Result::Ok(map)
        };
        let mut headers = map(count as usize * HEADER_STRIDE)?;
        let mut payloads = map(count as usize * self.payload)?;
        let vectors = (0..count as usize).map(|index| {
            let headers = headers[index * HEADER_STRIDE..].as_mut_ptr().expose_provenance();
            let payload = payloads[index * self.payload..].as_mut_ptr().expose_provenance();
            [[headers, HEADERS], [payload, self.payload]]
        });
        let vectors = vectors.collect();
        self.batches.push(Batch { first, headers, payloads, vectors });
        self.entries.extend((0..count).map(|_| Entry { queue, batch, ours: true, touched: 0 }));
        Ok(first..first + count)
    }

    /// Makes this thread the one that serves the ring, for the mount of `device`. Once, before anything else but
    /// [`FuseRing::add`].
    pub fn enable(&mut self, device: &Arc<OwnedFd>) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        // Saves a look-up of the descriptor each turn, where the kernel knows it.
        let _ = self.ring.submitter().register_ring_fd();
        self.device = Some(Arc::clone(device));
        self.watch_wake()
    }

    /// Gives an entry of ours, that never was the kernel's, to the kernel. Done at the next turn.
    pub fn register(&mut self, slot: Slot) -> io::Result<()> {
        let entry = self.entries.get(slot as usize).filter(|entry| entry.ours).ok_or(Errno::INVAL)?;
        let batch = self.batch(slot).ok_or(Errno::INVAL)?;
        let vectors = batch.vectors.get((slot - batch.first) as usize).ok_or(Errno::INVAL)?;
        let (queue, vectors) = (entry.queue, vectors.as_ptr().expose_provenance() as u64);
        self.push_command(REGISTER, slot, queue, 0, Some(vectors))?;
        self.take(slot);
        self.submit()
    }

    /// Hands over what was registered and answered, and waits until the kernel has something, or for `limit`.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let time = limit.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(time) = &time {
            args = args.timespec(time);
        }
        let flags = if self.no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() };
        match self.ring.submitter().submit_with_args_and_flags(1, &args, flags) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// What the kernel did since, one by one.
    pub fn next_event(&mut self) -> Option<Event> {
        let completion = self.ring.completion().next()?;
        let result = completion.result();
        if completion.user_data() == WOKEN {
            // The count is never read: each write to it completes the poll again.
            if !cqueue::more(completion.flags()) {
                // The kernel gave up polling, as it does when its queue of completions overflows.
                let _ = self.watch_wake();
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

    /// The headers and the payload of the request in an entry of ours.
    pub fn request(&self, slot: Slot) -> Option<(&[u8], &[u8])> {
        let (headers, payload) = self.place(slot).filter(|_| self.is_ours(slot))?;
        let batch = self.batch(slot)?;
        let payload = batch.payloads.get(payload)?;
        Some((batch.headers.get(headers)?, payload.get(..self.payload_length(slot))?))
    }

    /// Answers the request in an entry of ours, whose kernel's number is `unique`: `header` and, behind it, `parts`.
    /// Sent at the next turn; the entry is the kernel's from now on. False if it is not ours, or the answer too long.
    pub fn commit(&mut self, slot: Slot, unique: u64, header: &[u8], parts: [&[u8]; 2]) -> io::Result<bool> {
        let length = parts[0].len() + parts[1].len();
        let (Some((headers, payload)), Some(entry)) = (self.place(slot), self.entries.get(slot as usize))
        else {
            return Ok(false);
        };
        if !entry.ours || header.len() > OPERATION || length > self.payload {
            return Ok(false);
        }
        let (queue, touched) = (entry.queue, entry.touched.max(length));
        if let Some(batch) = self.batches.get_mut(entry.batch as usize) {
            let headers = &mut batch.headers[headers];
            headers[..header.len()].copy_from_slice(header);
            headers[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&(length as u32).to_ne_bytes());
            let payload = &mut batch.payloads[payload];
            payload[..parts[0].len()].copy_from_slice(parts[0]);
            payload[parts[0].len()..length].copy_from_slice(parts[1]);
        }
        self.push_command(COMMIT_AND_FETCH, slot, queue, unique, None)?;
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.touched = touched;
        }
        self.take(slot);
        if touched > SMALL {
            let beyond = touched - SMALL;
            self.kept += beyond;
            if self.kept > KEPT {
                self.large.push(slot);
            }
        }
        Ok(true)
    }

    /// Gives the memory of a request's payload back: its request waits, and what it carried was taken.
    pub fn shrink(&mut self, slot: Slot) {
        if self.is_ours(slot) && self.entries.get(slot as usize).is_some_and(|entry| entry.touched > 0) {
            self.discard(slot);
        }
    }

    /// To be called when all that the kernel did has been [seen](FuseRing::next_event): gives memory back that answers took.
    pub fn tidy(&mut self) {
        while let Some(slot) = self.large.pop() {
            // One that came back is in use again, and its memory counted anew when it is answered.
            let Some(entry) = self.entries.get(slot as usize).filter(|entry| !entry.ours) else { continue };
            self.kept = self.kept.saturating_sub(entry.touched.saturating_sub(SMALL));
            self.discard(slot);
        }
    }

    /// The queue that an entry belongs to.
    pub fn queue(&self, slot: Slot) -> Option<u16> {
        self.entries.get(slot as usize).map(|entry| entry.queue)
    }

    fn is_ours(&self, slot: Slot) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| entry.ours)
    }

    fn take(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.ours = false;
        }
    }

    fn batch(&self, slot: Slot) -> Option<&Batch> {
        self.batches.get(self.entries.get(slot as usize)?.batch as usize)
    }

    /// Where in its batch an entry's headers and payload are.
    fn place(&self, slot: Slot) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let index = (slot - self.batch(slot)?.first) as usize;
        let (headers, payload) = (index * HEADER_STRIDE, index * self.payload);
        Some((headers..headers + HEADERS, payload..payload + self.payload))
    }

    /// What the kernel says of the payload's length, bounded by its room.
    fn payload_length(&self, slot: Slot) -> usize {
        let length = self.place(slot).zip(self.batch(slot)).and_then(|((headers, _), batch)| {
            let bytes = batch.headers.get(headers)?.get(PAYLOAD_LENGTH..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*bytes) as usize)
        });
        length.unwrap_or_default().min(self.payload)
    }

    fn discard(&mut self, slot: Slot) {
        let (Some((_, payload)), Some(entry)) = (self.place(slot), self.entries.get_mut(slot as usize))
        else {
            return;
        };
        let Some(batch) = self.batches.get(entry.batch as usize) else { return };
        entry.touched = 0;
        // SAFETY: MADV_DONTNEED makes private anonymous memory read as zeroes, and any bytes are valid there. No slice
        // of it is lent out, because the ring is borrowed exclusively; the kernel writes to it only in `turn`.
        let _ = unsafe {
            batch.payloads.unchecked_advise_range(UncheckedAdvice::DontNeed, payload.start, payload.len())
        };
    }

    fn watch_wake(&mut self) -> io::Result<()> {
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
        // SAFETY: what the entry points to stays valid for as long as the kernel uses it: the device and the wake-up's
        // descriptor are held by `self`, and the ring is dropped before them; entries' memory and the vectors of
        // their registration are never unmapped or freed.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::Error::from(Errno::BUSY))
    }

    /// Hands over what was registered and answered, without waiting. What the kernel has no memory for is left to the next
    /// turn.
    pub fn submit(&mut self) -> io::Result<()> {
        while !self.is_handed_over() {
            match self.ring.submit().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::BUSY) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Nothing that was registered or answered is left to be handed over.
    pub fn is_handed_over(&mut self) -> bool {
        self.ring.submission().is_empty()
    }

    /// The kernel keeps nothing back of what it did, for want of room.
    pub fn has_told_all(&mut self) -> bool {
        !self.ring.submission().cq_overflow()
    }
}

/// Sets `len` of a submission, which the crate's type for commands leaves out.
fn set_length(entry: &mut squeue::Entry128, length: u32) {
    const LENGTH: usize = 24;
    const _: () = assert!(size_of::<squeue::Entry128>() == 128);
    // SAFETY: `Entry128` is `repr(C)` around the kernel's `struct io_uring_sqe` of 128 bytes, in which a u32 `len` stands
    // at byte 24 (include/uapi/linux/io_uring.h), aligned because the structure is to 8. It is borrowed exclusively.
    unsafe { std::ptr::from_mut(entry).byte_add(LENGTH).cast::<u32>().write(length) };
}
