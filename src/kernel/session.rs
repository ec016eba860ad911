//! Mounting and the handshake with the kernel, through fuser, and the end of a mount.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use fuser::{InitFlags, KernelConfig, MountOption, SessionACL};
use log::{info, warn};

use super::mount_table::{Detached, OwnMount, fusermount};
use crate::codec::{Reader, Writer};
use crate::config::{Config, MAX_READ, MAX_WRITE, SegmentPath};
use crate::op::Error;
use crate::segment::Memory as _;
use crate::sys::fuse_device;
use crate::sys::memfd::Memfd;
use crate::tree::Backing;

/// Most background requests, such as write-back of pages, that the kernel has outstanding. Its default is 12.
const MAX_BACKGROUND: u16 = 64;

/// Why mounting failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `/dev/fuse` is missing.
    #[error("/dev/fuse does not exist")]
    NoDevice,
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse cannot be opened: {0}")]
    DeviceRefused(io::Error),
    /// The user may not mount without fusermount3, which is missing.
    #[error("fusermount3 not found")]
    NoFusermount,
    /// This user may not use `allow_other`.
    #[error("allow_other is not allowed in /etc/fuse.conf")]
    OtherRefused,
    /// Passthrough was demanded and is unavailable.
    #[error("no passthrough: {0}")]
    NoPassthrough(String),
    /// `io_uring` was demanded and is unavailable.
    #[error("no io_uring: {0}")]
    NoRings(String),
    /// Another ipcfs mount was made on the same directory at the same time.
    #[error("another ipcfs mount was made there at the same time")]
    AlreadyMounted,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A mount after the handshake.
#[derive(Debug)]
pub struct Mounted {
    device: Arc<OwnedFd>,
    passthrough: bool,
    rings: bool,
    /// Where it is in the mount table.
    own: Option<OwnMount>,
}

/// Mounts on `config.dir`. With `wants_rings`, the kernel sends no request before it has the entries of all rings or has
/// refused one.
pub fn mount(config: &Config, wants_rings: bool) -> Result<Mounted, MountError> {
    check_device()?;
    let accepted = Arc::new(OnceLock::new());
    let wants_passthrough = config.segments != SegmentPath::Cached;
    let handshake = Handshake { accepted: Arc::clone(&accepted), wants_passthrough, wants_rings };
    let mut options = fuser::Config::default();
    options.mount_options = vec![
        MountOption::FSName(config.source.clone()),
        // As an option of the kernel, so that the type is `fuse.ipcfs` without fusermount3 too.
        MountOption::CUSTOM(String::from("subtype=ipcfs")),
        // The kernel's own default is as much as a request can carry.
        MountOption::CUSTOM(format!("max_read={MAX_READ}")),
        MountOption::DefaultPermissions,
    ];
    if config.noexec {
        options.mount_options.push(MountOption::NoExec);
    }
    options.acl = if config.allow_other { SessionACL::All } else { SessionACL::Owner };
    let session = fuser::Session::new(handshake, &config.dir, &options).map_err(|error| explain(&error))?;
    // Never dropped: that would unmount whatever is mounted on the path by then.
    let session = std::mem::ManuallyDrop::new(session);
    let device =
        session.as_fd().try_clone_to_owned().map_err(|error| MountError::Other(error.to_string()))?;
    let offered = accepted.get().copied().unwrap_or_default();
    let mut mounted = Mounted {
        device: Arc::new(device),
        passthrough: false,
        rings: offered.rings,
        own: OwnMount::find(session.as_fd(), &config.dir),
    };
    match &mounted.own {
        Some(own) if own.is_over_another() => {
            mounted.unmount();
            return Err(MountError::AlreadyMounted);
        }
        Some(_) => {}
        None => {
            warn!("{} is not in the mount table: it cannot be unmounted at the end", config.dir.display());
        }
    }
    if wants_passthrough {
        match mounted.probe_passthrough(offered) {
            Ok(()) => mounted.passthrough = true,
            Err(why) if config.segments == SegmentPath::Passthrough => {
                mounted.unmount();
                return Err(MountError::NoPassthrough(why));
            }
            Err(why) => info!("segments use the page cache: {why}"),
        }
    }
    Ok(mounted)
}

impl Mounted {
    /// All but the device, for another process.
    pub(crate) fn save(&self, to: &mut Writer<'_>) {
        to.number(self.passthrough).number(self.rings).number(self.own.is_some());
        self.own.iter().for_each(|own| own.save(to));
    }

    /// The mount of another process. There is no handshake: the kernel does it once only.
    pub(crate) fn restore(from: &mut Reader<'_>, device: Arc<OwnedFd>) -> Option<Mounted> {
        let mut flag = || Some(from.u8()? != 0);
        let (passthrough, rings, has_own) = (flag()?, flag()?, flag()?);
        let own = if has_own { Some(OwnMount::restore(from)?) } else { None };
        Some(Mounted { device, passthrough, rings, own })
    }

    /// The device number of its files; `None` if it is not in the mount table.
    pub fn number(&self) -> Option<(u32, u32)> {
        self.own.map(|own| own.device())
    }

    /// The device that requests are read from.
    pub fn device(&self) -> &Arc<OwnedFd> {
        &self.device
    }

    /// Whether the kernel will send requests over rings, and waits for their entries.
    pub fn takes_rings(&self) -> bool {
        self.rings
    }

    /// Passthrough for the mount's segments, if they use it.
    pub fn backing(&self) -> Option<Box<dyn Backing>> {
        let device = Arc::clone(&self.device);
        self.passthrough.then(|| Box::new(KernelBacking { device }) as Box<dyn Backing>)
    }

    /// Detaches this mount, and no other, wherever it is now, even if it is in use. Calls that are under way, and later
    /// ones, fail. Also for a mount that the kernel ended and left in the table, as `umount --force` of a busy one does.
    pub fn unmount(&self) {
        match self.own.map_or(Detached::Absent, |own| own.detach()) {
            Detached::Done | Detached::Absent => {}
            Detached::Covered(point) => warn!(
                "another file system covers {}: the mount stays beneath it until it is unmounted",
                point.display()
            ),
            Detached::Failed(point, why) => warn!("cannot unmount {}: {why}", point.display()),
        }
    }

    /// Registers a memory file with the kernel as a backing file, and unregisters it.
    fn probe_passthrough(&self, offered: Offered) -> Result<(), String> {
        if !offered.passthrough {
            return Err(String::from("the kernel does not offer passthrough (needs Linux 6.9)"));
        }
        let memory = Memfd::new().map_err(|error| error.to_string())?;
        let fd = memory.backing().ok_or("no memory file")?;
        let id = fuser::BackingId::create_raw(self.device.as_fd(), fd)
            .map_err(|error| format!("the kernel refuses a backing file: {error} (needs CAP_SYS_ADMIN)"))?;
        fuse_device::close_backing(self.device.as_fd(), id).map_err(|error| error.to_string())
    }
}

fn check_device() -> Result<(), MountError> {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MountError::NoDevice),
        Err(error) => Err(MountError::DeviceRefused(error)),
    }
}

fn explain(error: &io::Error) -> MountError {
    let text = error.to_string();
    let text = text.trim();
    if text.contains("user_allow_other") {
        MountError::OtherRefused
    } else if error.kind() == io::ErrorKind::NotFound
        // The error of execvp(3) for a program that is nowhere, if some directory of PATH could not be searched.
        || (error.kind() == io::ErrorKind::PermissionDenied && !fusermount().is_file())
    {
        MountError::NoFusermount
    } else {
        MountError::Other(String::from(text))
    }
}

/// What the kernel offered, of what was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Offered {
    passthrough: bool,
    rings: bool,
}

/// The file system that fuser needs for the handshake. It never serves a request.
#[derive(Debug)]
struct Handshake {
    accepted: Arc<OnceLock<Offered>>,
    wants_passthrough: bool,
    wants_rings: bool,
}

impl fuser::Filesystem for Handshake {
    fn init(&mut self, _request: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            // The daemon implements locks: a mailbox has many nodes, and the kernel's own locks hold for one node.
            (InitFlags::FUSE_POSIX_LOCKS, "POSIX locks on mailboxes do not exclude each other"),
            (InitFlags::FUSE_FLOCK_LOCKS, "flocks on mailboxes do not exclude each other"),
            (InitFlags::FUSE_PARALLEL_DIROPS, "look-ups in one folder wait for each other"),
            // Sizes change only through this kernel, so a change of size need not drop cached pages.
            (InitFlags::FUSE_EXPLICIT_INVAL_DATA, "cached segments are read again after each resize"),
            (InitFlags::FUSE_EXPORT_SUPPORT, "file handles are stale once the kernel has forgotten the file"),
            // Otherwise the kernel asks for `security.capability` before every write.
            (InitFlags::FUSE_HANDLE_KILLPRIV_V2, "each send costs a second request"),
        ];
        // Without FUSE_ATOMIC_O_TRUNC, on purpose. It would save `echo >` a request, but the kernel would then take the
        // file to be empty and each write to extend it, and hold the inode lock during the write. Processes that share a
        // descriptor would wait for each other uninterruptibly.
        let mut missing = Vec::new();
        for (flag, without) in wanted {
            if config.add_capabilities(flag).is_err() {
                missing.push(without);
            }
        }
        let passthrough = self.wants_passthrough
            && config.set_max_stack_depth(1).is_ok()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok();
        if config.set_max_write(MAX_WRITE).is_err() || config.set_max_background(MAX_BACKGROUND).is_err() {
            return Err(io::Error::other("the kernel does not accept the limits of requests"));
        }
        let fuser::Version(major, minor) = config.kernel_abi();
        info!("the kernel's FUSE version is {major}.{minor}");
        if !missing.is_empty() {
            warn!("the kernel's FUSE {major}.{minor} lacks features: {}", missing.join("; "));
        }
        let rings = self.wants_rings && config.add_capabilities(InitFlags::FUSE_OVER_IO_URING).is_ok();
        let _ = self.accepted.set(Offered { passthrough, rings });
        Ok(())
    }
}

/// Backing files of one mount.
#[derive(Debug)]
struct KernelBacking {
    device: Arc<OwnedFd>,
}

impl Backing for KernelBacking {
    fn open(&self, memory: BorrowedFd<'_>) -> Result<u32, Error> {
        fuser::BackingId::create_raw(self.device.as_fd(), memory).map_err(|error| {
            warn!("the kernel refuses a segment's memory as a backing file: {error}");
            Error::Io
        })
    }

    fn close(&self, id: u32) {
        if let Err(error) = fuse_device::close_backing(self.device.as_fd(), id) {
            warn!("backing file {id} cannot be closed: {error}");
        }
    }
}
