//! Mount and handshake, through fuser, and the end of a mount.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use fuser::{InitFlags, KernelConfig, MountOption, SessionACL};
use log::{info, warn};
use rustix::mount::UnmountFlags;

use crate::config::{Config, MAX_WRITE, SegmentPath};
use crate::op::Error;
use crate::segment::Memory as _;
use crate::sys::fuse_device;
use crate::sys::memfd::Memfd;
use crate::tree::Backing;

/// Requests that the kernel may send in the background, as write-back of pages is. Its default of 12 is for disks.
const MAX_BACKGROUND: u16 = 64;

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// `/dev/fuse` is missing.
    #[error("/dev/fuse does not exist")]
    NoDevice,
    /// `/dev/fuse` cannot be opened.
    #[error("/dev/fuse cannot be opened: {0}")]
    DeviceRefused(io::Error),
    /// The user may not mount, and the program that would do it for him is missing.
    #[error("fusermount3 not found")]
    NoFusermount,
    /// `allow_other` is not allowed to this user.
    #[error("allow_other is not allowed in /etc/fuse.conf")]
    OtherRefused,
    /// Passthrough was demanded and is not to be had.
    #[error("no passthrough: {0}")]
    NoPassthrough(String),
    /// `io_uring` was demanded and is not to be had.
    #[error("no io_uring: {0}")]
    NoRings(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A mount that has shaken hands.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    device: Arc<OwnedFd>,
    passthrough: bool,
    rings: bool,
    // Kept for its end: dropping it would unmount whatever is mounted at the path by then.
    _session: std::mem::ManuallyDrop<fuser::Session<Handshake>>,
}

/// Mounts on `config.dir`. With `wants_rings`, nobody's request is sent before the kernel has the entries of all rings or
/// has refused one.
pub fn mount(config: &Config, wants_rings: bool) -> Result<Mounted, MountError> {
    check_device()?;
    let accepted = Arc::new(OnceLock::new());
    let wants_passthrough = config.segments != SegmentPath::Cached;
    let handshake = Handshake { accepted: Arc::clone(&accepted), wants_passthrough, wants_rings };
    let mut options = fuser::Config::default();
    options.mount_options = vec![
        MountOption::FSName(String::from("ipcfs")),
        // As an option of the kernel's own, so that it holds without fusermount3 too: the type is `fuse.ipcfs`.
        MountOption::CUSTOM(String::from("subtype=ipcfs")),
        MountOption::DefaultPermissions,
    ];
    options.acl = if config.allow_other { SessionACL::All } else { SessionACL::Owner };
    let session = fuser::Session::new(handshake, &config.dir, &options).map_err(|error| explain(&error))?;
    let session = std::mem::ManuallyDrop::new(session);
    let device =
        session.as_fd().try_clone_to_owned().map_err(|error| MountError::Other(error.to_string()))?;
    let offered = accepted.get().copied().unwrap_or_default();
    let mut mounted = Mounted {
        dir: config.dir.clone(),
        device: Arc::new(device),
        passthrough: false,
        rings: offered.rings,
        _session: session,
    };
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
    /// The device that requests are read from.
    pub fn device(&self) -> &Arc<OwnedFd> {
        &self.device
    }

    /// Whether the kernel will send requests by rings, and waits for them.
    pub fn takes_rings(&self) -> bool {
        self.rings
    }

    /// The mount's passthrough, if segments are to use it.
    pub fn backing(&self) -> Option<Box<dyn Backing>> {
        let device = Arc::clone(&self.device);
        self.passthrough.then(|| Box::new(KernelBacking { device }) as Box<dyn Backing>)
    }

    /// Takes the mount point out of the table, whoever still uses it. Their next call fails, or the one they are in.
    pub fn unmount(&self) {
        unmount_now(&self.dir);
    }

    /// Takes the mount point out of the table where the kernel ended the mount and left it there, as `umount --force` of a
    /// busy one does. `dev` is what stat(2) said of the mount: nothing else has that number as long as it is in the
    /// table.
    pub fn clear_away(&self, dev: u64) {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let number = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let left =
            String::from_utf8_lossy(&table).lines().any(|line| line.split(' ').nth(2) == Some(&number));
        // Whatever was mounted over it answers, and is not ours to take away.
        let looked = rustix::fs::statfs(&self.dir).map_err(io::Error::from);
        let dead = looked.is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
        if left && dead {
            info!("the mount was ended by force: clearing {} away", self.dir.display());
            self.unmount();
        }
    }

    /// Registers a memory file with the kernel and takes it back.
    fn probe_passthrough(&self, offered: Offered) -> Result<(), String> {
        if !offered.passthrough {
            return Err(String::from("the kernel does not offer passthrough (it takes Linux 6.9)"));
        }
        let memory = Memfd::new().map_err(|error| error.to_string())?;
        let fd = memory.backing().ok_or("no memory file")?;
        let id = fuser::BackingId::create_raw(self.device.as_fd(), fd).map_err(|error| {
            format!("the kernel refuses a backing file: {error} (it takes CAP_SYS_ADMIN)")
        })?;
        fuse_device::close_backing(self.device.as_fd(), id).map_err(|error| error.to_string())
    }
}

/// Unmounts `dir` at once, as root or through fusermount3.
fn unmount_now(dir: &Path) {
    if rustix::mount::unmount(dir, UnmountFlags::DETACH).is_ok() {
        return;
    }
    let arguments = [OsStr::new("-u"), OsStr::new("-z"), OsStr::new("-q"), OsStr::new("--"), dir.as_os_str()];
    let result = Command::new(fusermount()).args(arguments).stdin(Stdio::null()).status();
    if !result.as_ref().is_ok_and(std::process::ExitStatus::success) {
        warn!("cannot unmount {}: {result:?}", dir.display());
    }
}

/// The program that mounts and unmounts for ordinary users. Looked for where fuser looks for it in order to mount, so
/// that whatever could be mounted can be unmounted, also where `PATH` says less.
pub fn fusermount() -> PathBuf {
    let name = "fusermount3";
    if let Some(path) = std::env::var_os("FUSERMOUNT_PATH") {
        return PathBuf::from(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/sbin", "/bin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
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
        // What execvp(3) says of a program that is nowhere, if it was not let into some folder of PATH.
        || (error.kind() == io::ErrorKind::PermissionDenied && !fusermount().is_file())
    {
        MountError::NoFusermount
    } else {
        MountError::Other(String::from(text))
    }
}

/// What the kernel offered and was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Offered {
    passthrough: bool,
    rings: bool,
}

/// The part of a file system that fuser needs for its handshake. It never serves a request.
#[derive(Debug)]
struct Handshake {
    accepted: Arc<OnceLock<Offered>>,
    wants_passthrough: bool,
    wants_rings: bool,
}

impl fuser::Filesystem for Handshake {
    fn init(&mut self, _request: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            // Locks are answered here: a mailbox has many nodes, and the kernel's own locks are one node's.
            (InitFlags::FUSE_POSIX_LOCKS, "locks are each node's own"),
            (InitFlags::FUSE_FLOCK_LOCKS, "flocks are each node's own"),
            (InitFlags::FUSE_PARALLEL_DIROPS, "look-ups in one folder take turns"),
            // Sizes change only through this kernel, so nothing cached must go when one does.
            (InitFlags::FUSE_EXPLICIT_INVAL_DATA, "cached segments are read again after each resize"),
            // Otherwise every write asks for `security.capability` first.
            (InitFlags::FUSE_HANDLE_KILLPRIV_V2, "each send costs a second request"),
        ];
        // FUSE_ATOMIC_O_TRUNC is left out on purpose: it would save `echo >` a request, but the kernel then takes the
        // file for empty, every write for one beyond its end, and holds the node's lock over it. Those who share one
        // descriptor would wait for each other's waits where no signal reaches them.
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
            return Err(io::Error::other("the kernel's terms cannot be met"));
        }
        let fuser::Version(major, minor) = config.kernel_abi();
        info!("the kernel speaks FUSE {major}.{minor}");
        if !missing.is_empty() {
            warn!("this kernel is an older one (FUSE {major}.{minor}): {}", missing.join("; "));
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
            warn!("the kernel refuses a segment's memory as backing file: {error}");
            Error::Io
        })
    }

    fn close(&self, id: u32) {
        if let Err(error) = fuse_device::close_backing(self.device.as_fd(), id) {
            warn!("backing file {id} cannot be closed: {error}");
        }
    }
}
