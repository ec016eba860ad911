//! Over `io_uring`: a ring for each CPU, a thread on that CPU, and one system call a turn, which gives answers and waits for
//! requests.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::protocol::{MAX_WRITE, Request, Server, out_header};

const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;
/// Entries of each queue.
const ENTRIES: usize = 8;

/// `struct fuse_uring_req_header`.
#[repr(C, align(64))]
struct Headers {
    in_out: [u8; 128],
    operation: [u8; 128],
    flags: u64,
    commit: u64,
    payload_length: u32,
    padding: u32,
    reserved: u64,
}

/// A request's memory: the kernel's or ours, as its entry is. The kernel writes to it during system calls of this thread
/// alone, as the ring has DEFER_TASKRUN.
struct Entry {
    headers: Box<Headers>,
    payload: Vec<u8>,
}

/// Serves the queue of `cpu`, on it, until the mount ends.
pub fn serve(server: &Server, device: &File, cpu: usize) -> io::Result<()> {
    stay_on(cpu);
    let mut ring: IoUring<squeue::Entry128, cqueue::Entry> =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(2 * ENTRIES as u32)?;
    let _ = ring.submitter().register_ring_fd();
    // Plain numbers, for which all zeroes are a value.
    let entry = || Entry { headers: Box::new(unsafe { std::mem::zeroed() }), payload: vec![0; MAX_WRITE] };
    let mut entries: Vec<Entry> = (0..ENTRIES).map(|_| entry()).collect();
    for (slot, entry) in entries.iter_mut().enumerate() {
        let headers: *mut Headers = &mut *entry.headers;
        let parts = [
            libc::iovec { iov_base: headers.cast(), iov_len: size_of::<Headers>() },
            libc::iovec { iov_base: entry.payload.as_mut_ptr().cast(), iov_len: MAX_WRITE },
        ];
        push(&mut ring, device, cpu, slot, REGISTER, 0, Some(&parts))?;
        ring.submit()?;
    }
    let mut arrived = Vec::with_capacity(ENTRIES);
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        arrived.extend(ring.completion().map(|completion| (completion.user_data(), completion.result())));
        for (slot, result) in arrived.drain(..) {
            match -result {
                0 => {}
                libc::ENOTCONN | libc::ECONNABORTED | libc::ECANCELED => return Ok(()),
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            let Entry { headers, payload } = &mut entries[slot as usize];
            let request = Request::of(&headers.in_out);
            let answer = server.answer(request, &headers.operation, payload);
            let header = out_header(request.unique, answer);
            headers.in_out[..header.len()].copy_from_slice(&header);
            headers.payload_length = answer.unwrap_or(0) as u32;
            push(&mut ring, device, cpu, slot as usize, COMMIT_AND_FETCH, request.unique, None)?;
        }
    }
}

/// Puts a command into the ring, to be submitted with the next turn.
fn push(
    ring: &mut IoUring<squeue::Entry128, cqueue::Entry>,
    device: &File,
    cpu: usize,
    slot: usize,
    command: u32,
    commit: u64,
    parts: Option<&[libc::iovec; 2]>,
) -> io::Result<()> {
    // `struct fuse_uring_cmd_req`: flags, commit_id, qid, padding.
    let mut request = [0; 80];
    request[8..16].copy_from_slice(&commit.to_ne_bytes());
    request[16..18].copy_from_slice(&(cpu as u16).to_ne_bytes());
    let mut entry = opcode::UringCmd80::new(Fd(device.as_raw_fd()), command)
        .cmd(request)
        .addr(parts.map(|parts| parts.as_ptr() as u64))
        .build()
        .user_data(slot as u64);
    if parts.is_some() {
        // SAFETY: `sqe.len`, which the crate leaves out, is the u32 at byte 24 of 128.
        unsafe { std::ptr::from_mut(&mut entry).byte_add(24).cast::<u32>().write(2) };
    }
    // SAFETY: the device outlives the ring's thread; the parts are read during submission, which follows; the memory they
    // name is freed only when the mount has ended, upon which the process does too.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)
}

fn stay_on(cpu: usize) {
    // SAFETY: all zeroes is an empty set; the pointer is to a local.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}
