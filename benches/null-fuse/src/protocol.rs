//! What the kernel asks and what it is answered, as `include/uapi/linux/fuse.h` lays it out.

use std::io;
use std::sync::Mutex;

/// The longest write, and read.
pub const MAX_WRITE: usize = 1 << 20;
/// Room for the longest request.
pub const BUFFER: usize = MAX_WRITE + 4096;
/// `struct fuse_in_header`.
pub const IN_HEADER: usize = 40;
/// `struct fuse_out_header`.
pub const OUT_HEADER: usize = 16;

const ROOT: u64 = 1;
const FILE: u64 = 2;
const NAME: &[u8] = b"null\0";

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const GETXATTR: u32 = 22;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// What is kept: the last write.
#[derive(Debug, Default)]
pub struct Server {
    last: Mutex<Vec<u8>>,
}

/// A request's header, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub opcode: u32,
    pub unique: u64,
    node: u64,
}

impl Request {
    pub fn of(header: &[u8]) -> Request {
        Request { opcode: u32_at(header, 4), unique: u64_at(header, 8), node: u64_at(header, 16) }
    }

    /// Bytes of the fixed argument, which `/dev/fuse` puts before the payload. What has no payload may have any.
    pub fn fixed(&self) -> usize {
        match self.opcode {
            LOOKUP => 0,
            WRITE => 40,
            _ => 128,
        }
    }

    /// Nobody waits for an answer.
    pub fn is_silent(&self) -> bool {
        matches!(self.opcode, FORGET | BATCH_FORGET | INTERRUPT)
    }
}

impl Server {
    /// Does what a request asks, whose payload is in `payload`. The answer's is put there, and its length returned, or the
    /// number of an error.
    pub fn answer(&self, request: Request, fixed: &[u8], payload: &mut [u8]) -> Result<usize, i32> {
        let mut out = Out { payload, length: 0 };
        match request.opcode {
            WRITE => {
                let size = u32_at(fixed, 16);
                let mut last = self.last.lock().unwrap();
                last.clear();
                last.extend_from_slice(&out.payload[..size as usize]);
                drop(last);
                out.u32s(&[size, 0]);
            }
            READ => {
                let last = self.last.lock().unwrap();
                let length = last.len().min(u32_at(fixed, 16) as usize);
                out.payload[..length].copy_from_slice(&last[..length]);
                out.length = length;
            }
            LOOKUP if request.node == ROOT && out.payload.starts_with(NAME) => {
                // The number, its generation; the name is good for no time, the attributes for a moment.
                out.u64s(&[FILE, 0, 0, 0]);
                out.u32s(&[0, 1]);
                out.attr(FILE);
            }
            LOOKUP => return Err(libc::ENOENT),
            GETATTR | SETATTR => {
                // A folder's attributes are good for an hour, a mailbox's for no time.
                out.u64s(&[if request.node == ROOT { 3600 } else { 0 }, 0]);
                out.attr(request.node);
            }
            OPEN => {
                const DIRECT_IO: u32 = 1 << 0;
                const STREAM: u32 = 1 << 4;
                const NOFLUSH: u32 = 1 << 5;
                const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
                let flags = match u32_at(fixed, 0) as i32 & libc::O_ACCMODE {
                    libc::O_RDONLY => DIRECT_IO | NOFLUSH,
                    _ => DIRECT_IO | NOFLUSH | STREAM | PARALLEL_DIRECT_WRITES,
                };
                out.u64s(&[0]);
                out.u32s(&[flags, 0]);
            }
            OPENDIR => out.u64s(&[0, 0]),
            STATFS => out.u64s(&[0; 10]),
            READDIR | RELEASE | RELEASEDIR | FLUSH => {}
            GETXATTR => return Err(libc::ENODATA),
            _ => return Err(libc::ENOSYS),
        }
        Ok(out.length)
    }
}

/// The header of an answer.
pub fn out_header(unique: u64, answer: Result<usize, i32>) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    let length = OUT_HEADER + answer.unwrap_or(0);
    header[..4].copy_from_slice(&(length as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&(-answer.err().unwrap_or(0)).to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// The answer to the kernel's first request, INIT: the same terms as ipcfs's.
pub fn handshake(request: &[u8], uring: bool) -> io::Result<Vec<u8>> {
    const ASYNC_READ: u64 = 1 << 0;
    const POSIX_LOCKS: u64 = 1 << 1;
    const BIG_WRITES: u64 = 1 << 5;
    const FLOCK_LOCKS: u64 = 1 << 10;
    const PARALLEL_DIROPS: u64 = 1 << 18;
    const MAX_PAGES: u64 = 1 << 22;
    const EXPLICIT_INVAL_DATA: u64 = 1 << 25;
    const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    const INIT_EXT: u64 = 1 << 30;
    const OVER_IO_URING: u64 = 1 << 41;
    let init = Request::of(request);
    if init.opcode != INIT || request.len() < IN_HEADER + 64 {
        return Err(io::Error::other("the kernel does not begin as it should"));
    }
    let argument = &request[IN_HEADER..];
    let offered = u64::from(u32_at(argument, 12)) | u64::from(u32_at(argument, 16)) << 32;
    if uring && offered & OVER_IO_URING == 0 {
        return Err(io::Error::other("the kernel offers no io_uring (fuse's enable_uring)"));
    }
    let mut flags = ASYNC_READ | POSIX_LOCKS | BIG_WRITES | FLOCK_LOCKS | PARALLEL_DIROPS | MAX_PAGES;
    flags |= EXPLICIT_INVAL_DATA | HANDLE_KILLPRIV_V2 | INIT_EXT;
    if uring {
        flags |= OVER_IO_URING;
    }
    let mut payload = [0; 64];
    let mut out = Out { payload: &mut payload, length: 0 };
    // Version, readahead, flags; background requests and when they are many, as two u16.
    out.u32s(&[7, u32_at(argument, 4).min(45), u32_at(argument, 8), flags as u32, 64 | 48 << 16]);
    // The longest write, the grain of times, the most pages of a request, more flags.
    out.u32s(&[MAX_WRITE as u32, 1, (MAX_WRITE / 4096) as u32, (flags >> 32) as u32]);
    Ok([&out_header(init.unique, Ok(64))[..], &payload].concat())
}

/// An answer's payload in the making.
struct Out<'a> {
    payload: &'a mut [u8],
    length: usize,
}

impl Out<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.payload[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn u64s(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.bytes(&value.to_ne_bytes()));
    }

    fn u32s(&mut self, values: &[u32]) {
        values.iter().for_each(|value| self.bytes(&value.to_ne_bytes()));
    }

    /// `struct fuse_attr`.
    fn attr(&mut self, node: u64) {
        let mode = if node == ROOT { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o644 };
        // The number, the size, and no blocks; three times of 1970, in seconds and nanoseconds.
        self.u64s(&[node, MAX_WRITE as u64, 0, 0, 0, 0]);
        self.u32s(&[0, 0, 0]);
        // Mode, links, owner, group, device, block size, flags.
        self.u32s(&[mode, 1, 0, 0, 0, 4096, 0]);
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
