//! A mount goes from one process to another without ending.
//!
//! ```text
//!  ipcfs upgrade ──"this program"──▶ daemon
//!                                      │ starts the program: ipcfs take-over DIR       ──▶ successor
//!                                      │ ◀──────────────────────────────── version of the state
//!                                      │ all threads come to a standstill (`kernel::standstill`)
//!                                      │ saves the state
//!                                      │ descriptors: state, device, rings, segments …  ──▶ │ makes the tree again
//!                                      │ ◀──────────────────────────────────────── ready    │
//!                                      │ go                                             ──▶ │ serves
//!                     ◀──────done───── exits
//! ```
//!
//! Until `go`, the daemon can go on as if nothing had happened, and does so after any failure: the successor has changed nothing.
//! After it, the daemon touches nothing any more. Callers notice nothing but the time: their requests wait in the kernel, or in the
//! state, where they are found by the same numbers.

pub(crate) mod request;
pub(crate) mod successor;
mod wire;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::codec::{Reader, Writer};
use crate::journal::Held;
use crate::kernel::rings::SavedRing;
use crate::kernel::session::Mounted;
use crate::segment::Memory;
use crate::state;
use crate::sys::memfd::Memfd;
use crate::tree::Tree;

/// Version of what is handed over beside the tree, in the upper half; that of the tree's state in the lower.
pub(crate) const VERSION: u64 = 1 << 32 | state::VERSION as u64;

/// What a daemon hands over at a standstill.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) own_session: bool,
    pub(crate) readers: usize,
    pub(crate) mounted: &'a Mounted,
    pub(crate) devices: &'a [Arc<OwnedFd>],
    /// The numbers of requests that the kernel has sent again, and which device each came from.
    pub(crate) resent: Vec<(u64, u32)>,
    pub(crate) listener: &'a UnixListener,
    pub(crate) rings: &'a [SavedRing],
    pub(crate) journal: Option<&'a Held<'a>>,
    pub(crate) tree: &'a Tree,
}

/// What its successor gets.
pub(crate) struct Received {
    pub(crate) dir: PathBuf,
    pub(crate) own_session: bool,
    pub(crate) readers: usize,
    pub(crate) mounted: Mounted,
    pub(crate) devices: Vec<Arc<OwnedFd>>,
    pub(crate) resent: Vec<(u64, u32)>,
    pub(crate) listener: UnixListener,
    pub(crate) rings: Vec<SavedRing>,
    /// For [`Journal::take_over`](crate::journal::Journal::take_over).
    pub(crate) store: Option<[OwnedFd; 2]>,
    /// For [`Tree::take_over`].
    pub(crate) state: Vec<u8>,
    pub(crate) memories: Vec<Arc<dyn Memory>>,
}

impl Parts<'_> {
    /// Sends all of it.
    fn send(&self, socket: &UnixStream) -> io::Result<()> {
        let file = File::from(memfd_create(c"ipcfs-state", MemfdFlags::CLOEXEC)?);
        let mut bytes = Vec::new();
        let mut to = Writer(&mut bytes);
        to.bytes(self.dir.as_os_str().as_bytes()).number(self.own_session).number(self.readers as u64);
        self.mounted.save(&mut to);
        let store = self.journal.map_or_else(Vec::new, Held::descriptors);
        to.number(self.devices.len() as u64).number(self.rings.len() as u64).number(!store.is_empty());
        self.rings.iter().for_each(|ring| ring.save(&mut to));
        to.number(self.resent.len() as u64);
        for (unique, device) in &self.resent {
            to.number(*unique).number(*device);
        }
        let mut sink = BufWriter::with_capacity(1 << 20, &file);
        sink.write_all(&(bytes.len() as u64).to_le_bytes())?;
        sink.write_all(&bytes)?;
        let memories = self.tree.save(&mut sink)?;
        sink.flush()?;
        drop(sink);
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![file.as_fd(), self.listener.as_fd()];
        descriptors.extend(self.devices.iter().map(|device| device.as_fd()));
        descriptors.extend(self.rings.iter().map(|ring| ring.memory().as_fd()));
        descriptors.extend(store);
        for memory in &memories {
            descriptors.push(memory.backing().ok_or(io::ErrorKind::Unsupported)?);
        }
        wire::send_descriptors(socket, &descriptors)
    }
}

impl Received {
    /// Receives what [`Parts::send`] has sent.
    fn receive(socket: &UnixStream) -> io::Result<Received> {
        let mut descriptors = wire::receive_descriptors(socket)?.into_iter();
        let mut next = || descriptors.next().ok_or(io::ErrorKind::UnexpectedEof);
        let file = File::from(next()?);
        let listener = UnixListener::from(next()?);
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX).min(size);
        let read = |from: usize, length: usize| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, from as u64)?;
            Ok(bytes)
        };
        let own = read(8, length)?;
        let mut from = Reader(&own);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the state is damaged");
        let first = (|| {
            let dir = PathBuf::from(OsString::from_vec(from.bytes()?.to_vec()));
            Some((dir, from.u8()? != 0, from.number()?))
        })();
        let (dir, own_session, readers) = first.ok_or_else(damaged)?;
        // The first device is the mount's own descriptor.
        let device = Arc::new(next()?);
        let mounted = Mounted::restore(&mut from, Arc::clone(&device)).ok_or_else(damaged)?;
        let (devices_count, rings_count): (usize, usize) =
            from.number().zip(from.number()).ok_or_else(damaged)?;
        let has_store = from.u8().ok_or_else(damaged)? != 0;
        let mut devices = vec![device];
        for _ in 1..devices_count {
            devices.push(Arc::new(next()?));
        }
        let mut rings = Vec::new();
        for _ in 0..rings_count {
            rings.push(SavedRing::restore(&mut from, next()?).ok_or_else(damaged)?);
        }
        // Programs that start no daemon again do not send it.
        let count: usize = from.number().unwrap_or_default();
        let pairs = (0..count).map(|_| from.number().zip(from.number()));
        let resent = pairs.collect::<Option<Vec<(u64, u32)>>>().ok_or_else(damaged)?;
        let store = if has_store { Some([next()?, next()?]) } else { None };
        let memory = |fd| Arc::new(Memfd::from(fd)) as Arc<dyn Memory>;
        let memories = descriptors.map(memory).collect();
        let state = read(8 + length, size.saturating_sub(8 + length))?;
        Ok(Received {
            dir,
            own_session,
            readers,
            mounted,
            devices,
            resent,
            listener,
            rings,
            store,
            state,
            memories,
        })
    }
}
