//! What a supervisor keeps of a mount beside its history, so that a daemon can go on after another one was killed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::warn;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::{pread, pwrite};

use super::kernel_limits::restart_obstacle;
use crate::codec::{Reader, Writer};
use crate::config::Limits;
use crate::history::{FILES, Files, Keep};
use crate::kernel::read_buffer::ReadBuffer;
use crate::kernel::rings::{KeptRing, SavedRing};
use crate::kernel::session::Mounted;
use crate::supervisor::{Kept, Supervised};
use crate::tree::Restart;

/// The numbers of what is kept. `FIRST` comes last: without it there is nothing to go on with.
const FIRST: u64 = 0;
const DEVICES: Range<u64> = 16..256;
const RINGS: Range<u64> = 1024..2048;
const LISTS: Range<u64> = 2048..3072;
const BUFFERS: Range<u64> = 3072..4096;
const MEMORIES: Range<u64> = 4096..MOST_KEPT;

/// One more than the highest number.
pub const MOST_KEPT: u64 = 1 << 20;

/// The supervisor, for the history.
pub(super) struct Keeper(pub(super) Arc<Supervised>);

impl Keep for Keeper {
    fn keep(&self, number: u64, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.0.keep(number, descriptor)
    }

    fn let_go(&self, number: u64) -> io::Result<()> {
        self.0.let_go(number)
    }

    fn is_there(&self) -> bool {
        self.0.is_there()
    }

    fn numbers(&self) -> Range<u64> {
        MEMORIES
    }
}

/// Most bytes that each file of a history may take.
pub(super) const MOST_HISTORY: u64 = 1 << 36;

/// Bytes that each file of a history may take: the state of a mount whose memory is used up, and as many calls.
pub(super) fn history_length(limits: &Limits) -> u64 {
    limits.memory.saturating_mul(4).saturating_add(1 << 30).min(MOST_HISTORY)
}

/// What a history takes.
pub(super) struct Means {
    pub(super) files: Files,
    pub(super) keeper: Box<dyn Keep>,
    pub(super) buffers: Vec<ReadBuffer>,
}

/// What a history takes that `supervised` keeps, or why there will be none.
pub(super) fn history(
    supervised: Option<&Arc<Supervised>>,
    uses_rings: bool,
    length: u64,
    readers: usize,
) -> (Option<Means>, Option<Arc<dyn Restart>>) {
    let Some(supervised) = supervised else { return (None, None) };
    let make = || {
        let keeper = Box::new(Keeper(Arc::clone(supervised)));
        Ok(Means { files: Files::new(length)?, keeper, buffers: ReadBuffer::to_keep(readers)? })
    };
    let made = match restart_obstacle(uses_rings) {
        Some(why) => Err((String::from(why), why)),
        None => make().map_err(|error: io::Error| (error.to_string(), "off: no memory for its history")),
    };
    match made {
        Ok(means) => (Some(means), None),
        Err((why, status)) => {
            warn!("the mount will end if its daemon is killed: {}", why.trim_start_matches("off: "));
            (None, Some(Arc::new(status)))
        }
    }
}

/// The files of buffers, to be kept.
pub(super) fn files(buffers: &[ReadBuffer]) -> Vec<OwnedFd> {
    buffers.iter().filter_map(|buffer| buffer.file()?.try_clone_to_owned().ok()).collect()
}

/// What does not change as long as the mount lives.
#[derive(Debug)]
pub(super) struct Fixed<'a> {
    pub(super) dir: &'a Path,
    pub(super) readers: usize,
    /// That segments may have.
    pub(super) descriptors: u64,
    pub(super) mounted: &'a Mounted,
    pub(super) devices: &'a [Arc<OwnedFd>],
    pub(super) rings: &'a [KeptRing],
    pub(super) buffers: &'a [OwnedFd],
}

/// What another daemon has left.
pub(super) struct Left {
    pub(super) dir: PathBuf,
    pub(super) readers: usize,
    pub(super) descriptors: u64,
    pub(super) mounted: Mounted,
    pub(super) devices: Vec<Arc<OwnedFd>>,
    pub(super) rings: Vec<SavedRing>,
    pub(super) buffers: Vec<ReadBuffer>,
    pub(super) history: [OwnedFd; 2],
    pub(super) memories: BTreeMap<u64, OwnedFd>,
}

impl Fixed<'_> {
    /// Has it kept: from now on another daemon can go on.
    pub(super) fn keep(&self, supervised: &Supervised) -> io::Result<()> {
        if self.devices.len() as u64 > DEVICES.end - DEVICES.start {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        for (number, device) in DEVICES.zip(self.devices) {
            supervised.keep(number, device.as_fd())?;
        }
        for ((memory, list), ring) in RINGS.zip(LISTS).zip(self.rings) {
            supervised.keep(memory, ring.fixed.memory().as_fd())?;
            supervised.keep(list, ring.list.as_fd())?;
        }
        for (number, buffer) in BUFFERS.zip(self.buffers) {
            supervised.keep(number, buffer.as_fd())?;
        }
        let mut bytes = Vec::new();
        let mut to = Writer(&mut bytes);
        to.bytes(self.dir.as_os_str().as_bytes()).number(self.readers as u64).number(self.descriptors);
        to.number(self.devices.len() as u64);
        self.mounted.save(&mut to);
        to.number(self.rings.len() as u64);
        self.rings.iter().for_each(|ring| ring.fixed.save(&mut to));
        let file = memfd_create(c"ipcfs-mount", MemfdFlags::CLOEXEC)?;
        if pwrite(&file, &bytes, 0)? != bytes.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        supervised.keep(FIRST, file.as_fd())
    }
}

impl Left {
    /// Of what was kept.
    pub(super) fn of(kept: Kept) -> io::Result<Left> {
        let deaths = kept.deaths;
        let mut kept: BTreeMap<u64, OwnedFd> = kept.descriptors.into_iter().collect();
        let missing = || io::Error::other("it was killed before the mount was ready");
        let mut take = |number| kept.remove(&number).ok_or_else(missing);
        let file = take(FIRST)?;
        let [first, second] = FILES;
        let history = [take(first)?, take(second)?];
        let mut bytes = vec![0; fstat(&file)?.st_size as usize];
        let read = pread(&file, &mut bytes[..], 0)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "what was kept is damaged");
        let mut from = Reader(bytes.get(..read).unwrap_or_default());
        let fixed = (|| {
            let dir = PathBuf::from(OsString::from_vec(from.bytes()?.to_vec()));
            Some((dir, from.number()?, from.number()?, from.number()?))
        })();
        let (dir, readers, descriptors, count) = fixed.ok_or_else(damaged)?;
        let devices = DEVICES.take(count).map(|number| take(number).map(Arc::new));
        let devices: Vec<Arc<OwnedFd>> = devices.collect::<io::Result<_>>()?;
        let device = devices.first().ok_or_else(damaged)?;
        let mounted = Mounted::restore(&mut from, Arc::clone(device)).ok_or_else(damaged)?;
        let count: usize = from.number().ok_or_else(damaged)?;
        let mut rings = Vec::new();
        for (memory, list) in RINGS.zip(LISTS).take(count) {
            let (memory, list) = (take(memory)?, take(list)?);
            let ring = SavedRing::restore(&mut from, memory).ok_or_else(damaged)?;
            rings.push(ring.left(&list, deaths)?);
        }
        let buffers = BUFFERS.map_while(|number| kept.remove(&number)).map(ReadBuffer::left);
        let buffers = buffers.collect::<io::Result<_>>()?;
        kept.retain(|number, _| MEMORIES.contains(number));
        Ok(Left { dir, readers, descriptors, mounted, devices, rings, buffers, history, memories: kept })
    }
}
