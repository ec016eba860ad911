//! Encodes a [`Reply`], and notifications to the kernel, as bytes.

use zerocopy::IntoBytes;

use super::abi::{self, fopen};
use super::errno::errno;
use crate::op::{
    Attr, Entry, Listed, LockHeld, LockKind, NodeId, OpenAs, Opened, PollHandle, Ready, Reply, RequestId,
    Sort, Space, Validity,
};

/// How long the kernel may cache names and attributes that only it can change, in seconds.
const LONG: u64 = 3600;
/// The shortest time for which attributes can be cached, in nanoseconds. The kernel rounds it to one or two of its ticks.
const MOMENT: u32 = 1;

/// An encoded answer: the header, then the fixed-size part (`head`), then the variable part (`tail`, borrowed where
/// possible).
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    pub(super) header: abi::OutHeader,
    head: [u8; HEAD],
    head_len: usize,
    tail: Tail<'a>,
}

#[derive(Debug)]
enum Tail<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

/// Length of the longest fixed-size part, that of CREATE, in bytes.
const HEAD: usize = size_of::<abi::EntryOut>() + size_of::<abi::OpenOut>();

impl Encoded<'_> {
    pub(super) fn head(&self) -> &[u8] {
        self.head.get(..self.head_len).unwrap_or_default()
    }

    pub(super) fn tail(&self) -> &[u8] {
        match &self.tail {
            Tail::Borrowed(bytes) => bytes,
            Tail::Owned(bytes) => bytes,
        }
    }

    fn push(&mut self, part: &impl AsParts) {
        let bytes = part.parts();
        if let Some(room) = self.head.get_mut(self.head_len..self.head_len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.head_len += bytes.len();
        }
    }

    fn finish(mut self) -> Self {
        self.header.len = (size_of::<abi::OutHeader>() + self.head_len + self.tail().len()) as u32;
        self
    }
}

/// A structure of the kernel's, as bytes.
trait AsParts {
    fn parts(&self) -> &[u8];
}

impl<T: IntoBytes + zerocopy::Immutable> AsParts for T {
    fn parts(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Encodes the answer to the request `request_id`.
pub(super) fn encode(request_id: RequestId, reply: &Reply) -> Encoded<'_> {
    let header = abi::OutHeader { len: 0, error: 0, unique: request_id.unique };
    let mut out = Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) };
    match reply {
        Reply::Done => {}
        Reply::Failed(error) => out.header.error = -errno(*error).raw_os_error(),
        Reply::Entry(entry) => out.push(&entry_out(entry)),
        Reply::Created(entry, opened) => {
            out.push(&entry_out(entry));
            out.push(&open_out(opened));
        }
        Reply::Attr(attr, validity) => {
            let (attr_valid, attr_valid_nsec) = attr_timeout(*validity);
            out.push(&abi::AttrOut { attr_valid, attr_valid_nsec, dummy: 0, attr: attr_out(attr) });
        }
        Reply::Opened(opened) => out.push(&open_out(opened)),
        Reply::Directory(fh) => out.push(&abi::OpenOut { fh: fh.0, open_flags: 0, backing_id: 0 }),
        Reply::Message(slice) | Reply::Text(slice) => out.tail = Tail::Borrowed(slice.as_bytes()),
        Reply::Data(bytes) => out.tail = Tail::Borrowed(bytes),
        Reply::Listing(list, room) => out.tail = Tail::Owned(listing(list, *room as usize)),
        Reply::Written(size) => out.push(&abi::WriteOut { size: *size, padding: 0 }),
        Reply::Copied(size) => out.push(&abi::CopyFileRangeOut { bytes_copied: *size }),
        Reply::XattrSize(size) => out.push(&abi::GetxattrOut { size: *size, padding: 0 }),
        Reply::Lock(held) => out.push(&lock_out(*held)),
        Reply::Ready(ready) => out.push(&abi::PollOut { revents: events(*ready), padding: 0 }),
        Reply::Offset(offset) => out.push(&abi::LseekOut { offset: *offset }),
        Reply::Space(space) => out.push(&space_out(space)),
    }
    out.finish()
}

/// Encodes the notification that makes the kernel poll again for those who poll `handle`.
pub(super) fn encode_wake(handle: PollHandle) -> Encoded<'static> {
    let header = abi::OutHeader { len: 0, error: abi::NOTIFY_POLL, unique: 0 };
    let mut out = Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) };
    out.push(&abi::NotifyPollWakeupOut { kh: handle.0 });
    out.finish()
}

/// Encodes the notification that makes the kernel put a `NOTIFY_REPLY` request numbered `unique` into the queue of the CPU
/// on which it is written. `node` must be a plain file that the kernel knows; none of its content is sent.
pub(super) fn encode_kick(unique: u64, node: NodeId) -> Encoded<'static> {
    let header = abi::OutHeader { len: 0, error: abi::NOTIFY_RETRIEVE, unique: 0 };
    let mut out = Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) };
    out.push(&abi::NotifyRetrieveOut {
        notify_unique: unique,
        nodeid: node.0,
        offset: 0,
        size: 0,
        padding: 0,
    });
    out.finish()
}

/// Encodes the answer to an INTERRUPT whose request does not wait: the kernel is to send the INTERRUPT again as long as the
/// request is unanswered.
pub(super) fn encode_interrupt_again(unique: u64) -> Encoded<'static> {
    let error = -rustix::io::Errno::AGAIN.raw_os_error();
    let header = abi::OutHeader { len: 0, error, unique: unique | abi::INTERRUPT_BIT };
    Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) }.finish()
}

/// Encodes the notification that makes the kernel ask for a node's attributes when it needs them next.
pub(super) fn encode_invalidate_attr(node: NodeId) -> Encoded<'static> {
    let header = abi::OutHeader { len: 0, error: abi::NOTIFY_INVAL_INODE, unique: 0 };
    let mut out = Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) };
    // A negative offset invalidates the attributes only, and no content.
    out.push(&abi::NotifyInvalInodeOut { ino: node.0, off: -1, len: 0 });
    out.finish()
}

/// Encodes the notification that makes the kernel forget those of these nodes that nobody uses.
pub(super) fn encode_prune(nodes: &[NodeId]) -> Encoded<'static> {
    let header = abi::OutHeader { len: 0, error: abi::NOTIFY_PRUNE, unique: 0 };
    let tail = Tail::Owned(nodes.iter().flat_map(|node| node.0.to_ne_bytes()).collect());
    let mut out = Encoded { header, head: [0; HEAD], head_len: 0, tail };
    out.push(&abi::NotifyPruneOut { count: nodes.len() as u32, padding: 0, spare: 0 });
    out.finish()
}

/// Encodes the notification that makes the kernel send again what was read and not answered.
pub(super) fn encode_resend() -> Encoded<'static> {
    let header = abi::OutHeader { len: 0, error: abi::NOTIFY_RESEND, unique: 0 };
    Encoded { header, head: [0; HEAD], head_len: 0, tail: Tail::Borrowed(&[]) }.finish()
}

/// How long attributes may be cached, in seconds and nanoseconds.
fn attr_timeout(validity: Validity) -> (u64, u32) {
    match validity {
        Validity::None => (0, 0),
        Validity::Moment => (0, MOMENT),
        Validity::Long => (LONG, 0),
    }
}

/// How long a name may be cached, in seconds.
fn entry_timeout(validity: Validity) -> u64 {
    match validity {
        Validity::None | Validity::Moment => 0,
        Validity::Long => LONG,
    }
}

fn attr_out(attr: &Attr) -> abi::Attr {
    // The protocol has seconds as unsigned numbers, and the kernel takes them for signed ones.
    let [(atime, atimensec), (mtime, mtimensec), (ctime, ctimensec)] =
        [attr.atime, attr.mtime, attr.ctime].map(|time| (time.seconds as u64, time.nanos));
    abi::Attr {
        ino: attr.ino.0,
        size: attr.size,
        blocks: attr.blocks,
        atime,
        mtime,
        ctime,
        atimensec,
        mtimensec,
        ctimensec,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: attr.blksize,
        flags: 0,
    }
}

fn entry_out(entry: &Entry) -> abi::EntryOut {
    let (attr_valid, attr_valid_nsec) = attr_timeout(entry.validity);
    abi::EntryOut {
        nodeid: entry.node.0,
        // Node numbers are never reused.
        generation: 0,
        entry_valid: entry_timeout(entry.validity),
        attr_valid,
        entry_valid_nsec: 0,
        attr_valid_nsec,
        attr: attr_out(&entry.attr),
    }
}

fn open_out(opened: &Opened) -> abi::OpenOut {
    let (open_flags, backing_id) = match opened.how {
        OpenAs::Message | OpenAs::Text => (fopen::DIRECT_IO | fopen::NOFLUSH, 0),
        // Without STREAM, a waiting read would hold the lock of the descriptor's position and so block a write on the same
        // descriptor. PARALLEL_DIRECT_WRITES lets processes that inherited one descriptor wait at the same time.
        OpenAs::Stream => {
            (fopen::DIRECT_IO | fopen::STREAM | fopen::PARALLEL_DIRECT_WRITES | fopen::NOFLUSH, 0)
        }
        // Mapped pages must stay valid when the segment is opened again.
        OpenAs::Cached => (fopen::KEEP_CACHE, 0),
        OpenAs::Passthrough { id, grows: false } => (fopen::PASSTHROUGH, id),
        // DIRECT_IO overrides PASSTHROUGH for read(2) and write(2), not for mmap(2).
        OpenAs::Passthrough { id, grows: true } => {
            (fopen::PASSTHROUGH | fopen::DIRECT_IO | fopen::PARALLEL_DIRECT_WRITES, id)
        }
    };
    abi::OpenOut { fh: opened.fh.0, open_flags, backing_id }
}

fn lock_out(held: Option<LockHeld>) -> abi::LkOut {
    let Some(held) = held else {
        return abi::LkOut { start: 0, end: 0, kind: libc::F_UNLCK as u32, pid: 0 };
    };
    let kind = match held.kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    // The kernel rejects an answer whose end is beyond its greatest offset.
    let end = held.end.min(i64::MAX as u64);
    abi::LkOut { start: held.start, end, kind: kind as u32, pid: held.pid }
}

fn events(ready: Ready) -> u32 {
    let mut events = 0;
    if ready.readable {
        events |= libc::POLLIN | libc::POLLRDNORM;
    }
    if ready.writable {
        events |= libc::POLLOUT | libc::POLLWRNORM;
    }
    if ready.hangup {
        events |= libc::POLLHUP | libc::POLLERR;
    }
    u32::from(events as u16)
}

fn space_out(space: &Space) -> abi::StatfsOut {
    abi::StatfsOut {
        blocks: space.blocks,
        bfree: space.free,
        bavail: space.free,
        files: space.files,
        ffree: space.files_free,
        bsize: 4096,
        namelen: crate::config::NAME_MAX as u32,
        frsize: 4096,
        padding: 0,
        spare: [0; 6],
    }
}

/// Encodes as many directory entries as fit into `room` bytes, each padded to a multiple of 8.
fn listing(list: &[Listed], room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(room.min(1 << 16));
    for item in list {
        let len = size_of::<abi::Dirent>() + item.name.len();
        if bytes.len() + len.next_multiple_of(8) > room {
            break;
        }
        let kind = match item.sort {
            Sort::Folder => libc::DT_DIR,
            Sort::Regular => libc::DT_REG,
            Sort::Symlink => libc::DT_LNK,
        };
        let entry = abi::Dirent {
            ino: item.ino.0,
            off: item.cookie,
            namelen: item.name.len() as u32,
            kind: u32::from(kind),
        };
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(&item.name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}
